"""Estimate the memory of a run before it starts.

Logs one line per device, or a warning with advice if the run needs more than is free. A run is refused only if the
difference is too large to be an error of the estimate.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import Evaluator, Trainer
from monai.utils import fall_back_tuple
from torch import nn

from brats3d.data import MORE_SHARED_MEMORY
from brats3d.errors import UsageError
from brats3d.files import first_line, free_gpu_memory, free_memory, free_shared_memory, gib, total_memory
from brats3d.networks import BrainInferer, compute_dtype, step_need, stitched_bytes, window_need

logger = logging.getLogger("brats3d")

REFUSED_FROM = 1.5
"""Multiple of the total memory, including swap. Estimates were 0.89 to 1.25 times the measured memory
(benchmarks/RESULTS.md), so a run that is estimated this high cannot fit. From 1 to 1.5 there is only a warning."""

WORKER_BYTES = 300 * 2**20
"""Memory of a worker process without its batches: Python objects, and pages of libraries that it writes to."""

OTHER_SIZE = (128, 128, 128)
"""Size of the input if neither the data set nor the inferer has one."""

CPU = torch.device("cpu")


def check_memory(
    network: nn.Module,
    evaluator: Evaluator,
    channels: int,
    amp: bool,
    trainer: Trainer | None = None,
    patch_size: Sequence[int] | None = None,
    patches: int = 1,
    ignore_memory: bool = False,
) -> None:
    """Log the memory that a run will need, and warn if less is free. The configs call this first.

    Args:
        network: the bare network.
        evaluator: evaluator of the cases to validate on or to segment.
        channels: channels of an image.
        amp: bfloat16 autocast.
        trainer: None if nothing is trained.
        patch_size: voxels of a training crop.
        patches: patches per iteration.
        ignore_memory: warn instead of raising.

    Raises:
        UsageError: if the run cannot fit: without the cache it needs more than 1.5 times the total memory, or its
            worker processes need more shared memory than is free.
    """
    if idist.get_rank() > 0:
        return
    job = MemoryNeeds(network, evaluator, channels, amp, trainer, list(patch_size or ()), patches)
    _check_shared_memory(job.shared_bytes(), ignore_memory)
    try:
        step, validation = job.step_bytes(), job.validation_bytes()
    except Exception as error:  # a network whose forward pass depends on the values of its input
        logger.info("the memory that this network needs cannot be estimated: %s", first_line(error))
        return
    needs = job.by_place(step, validation)
    for engine in job.engines:
        dataset = engine.data_loader.dataset
        if hasattr(dataset, "expected_bytes"):
            place = getattr(dataset, "device", CPU)
            need = needs.setdefault(place, {})
            left = _free(place) - need.get("cache", 0)
            need["cache"] = need.get("cache", 0) + dataset.expected_bytes(left)
    advice = job.advice(step, validation)
    for place, need in needs.items():
        if need := {name: size for name, size in need.items() if size}:
            _report(place, need, advice if place == job.device else [], ignore_memory)


def _report(place: torch.device, need: Mapping[str, int], advice: Sequence[str], ignore_memory: bool) -> None:
    """Log a line such as ``needs about 5.1 GiB of RAM (network 0.1, step 3.9, cache 1.1) of 21.3 GiB free``."""
    free, total = _free(place), _total(place)
    needed, cache = sum(need.values()), need.get("cache", 0)
    items = ", ".join(f"{name} {gib(size)}" for name, size in need.items())
    memory = "RAM" if place.type == "cpu" else place
    text = f"needs about {gib(needed)} GiB of {memory} ({items}) of {gib(free)} GiB free"
    if needed <= free:
        logger.info("%s", text)
        return
    if cache and needed - cache < free:
        advice = ["lower --cache", *advice]
    # The cache does not count: it only uses what is left.
    if needed - cache > REFUSED_FROM * total and not ignore_memory:
        advice = [*advice, "start it all the same with --ignore_memory true"]
        raise UsageError("memory", f"{text}; {gib(total)} GiB in total", advice=", or ".join(advice))
    logger.warning("%s", "; ".join(filter(None, [text, ", or ".join(advice)])))


def _check_shared_memory(needed: int, ignore_memory: bool) -> None:
    free = free_shared_memory()
    if free is None or needed <= free:
        return
    text = f"the worker processes need {_mib(needed)} MiB of shared memory, and {_mib(free)} MiB are free in /dev/shm"
    if ignore_memory:
        logger.warning("%s", text)
    else:
        raise UsageError("num_workers", text, advice=MORE_SHARED_MEMORY)


@dataclass(frozen=True)
class MemoryNeeds:
    """The memory of a training, a validation or an inference; the fields are the arguments of :func:`check_memory`."""

    network: nn.Module
    evaluator: Evaluator
    channels: int
    amp: bool
    trainer: Trainer | None
    patch_size: list[int]
    patches: int

    @property
    def device(self) -> torch.device:
        return torch.device(self.evaluator.state.device)

    @property
    def roi_size(self) -> tuple[int, ...]:
        """Voxels of a sliding window."""
        inferer = self.evaluator.inferer
        windows = inferer.windows if isinstance(inferer, BrainInferer) else inferer
        return fall_back_tuple(getattr(windows, "roi_size", OTHER_SIZE), OTHER_SIZE)

    @property
    def engines(self) -> list[Any]:
        return [engine for engine in (self.trainer, self.evaluator) if engine is not None]

    def by_place(self, step: int, validation: int) -> dict[torch.device, dict[str, int]]:
        """Return what each device needs, in bytes under names, without the cache; one device may be the CPU.

        Args:
            step, validation: results of :meth:`step_bytes` and :meth:`validation_bytes`.
        """
        needs = {CPU: self.loader_needs()}
        need = needs.setdefault(self.device, {})
        need["network"] = self.state_bytes()
        name = "validation" if self.trainer else "inference"
        need |= {"step": step} if step >= validation else {name: validation}
        return needs

    def step_bytes(self) -> int:
        """Bytes of a training step; 0 if nothing is trained."""
        if self.trainer is None:
            return 0
        image, dtype = (self.patches, self.channels, *self.patch_size), compute_dtype(self.device, self.amp)
        return step_need(self.network, self.trainer.loss_function, image, dtype).on(self.device)

    def validation_bytes(self) -> int:
        """Bytes of the inference of one case."""
        dataset, inferer = self.evaluator.data_loader.dataset, self.evaluator.inferer
        shape = tuple(dataset.expected_shape()) if hasattr(dataset, "expected_shape") else self.roi_size
        image, dtype = (1, self.channels, *shape), compute_dtype(self.device, self.amp)
        if isinstance(inferer, BrainInferer):
            if size := inferer.pass_size(shape):
                need = window_need(self.network, (1, self.channels, *size), dtype)
                logits = 4 * math.prod(shape) * need.output_shape[1]
                whole = 4 * math.prod(image) + max(need.on(self.device), 3 * logits)
                if whole <= _free(self.device):  # otherwise the brain goes through windows
                    return whole
            inferer = inferer.windows
        window = window_need(self.network, (getattr(inferer, "sw_batch_size", 1), self.channels, *self.roi_size), dtype)
        stitched = stitched_bytes(image, self.roi_size, window.output_shape[1])
        # Image, stitched logits, and either the windows or, after the last window, probabilities and regions.
        return 4 * math.prod(image) + stitched + max(window.on(self.device), 2 * stitched)

    def loader_needs(self) -> dict[str, int]:
        """Bytes of the prefetched batches in main memory, and of the worker processes."""
        if self.trainer is None:
            return {}
        workers = self.trainer.data_loader.num_workers * WORKER_BYTES
        return {"batches": self._batches_bytes() + workers * idist.get_nproc_per_node()}

    def shared_bytes(self) -> int:
        """Bytes of shared memory in which the worker processes hand over their batches."""
        return self._batches_bytes() if self.trainer and self.trainer.data_loader.num_workers else 0

    def _batches_bytes(self) -> int:
        loader = self.trainer.data_loader  # type: ignore[union-attr]
        ahead = loader.num_workers * (loader.prefetch_factor or 2) or getattr(loader, "ahead", 0) + 1
        batch = self.patches * math.prod(self.patch_size) * (4 * self.channels + 3)
        return (ahead + 1) * batch * idist.get_nproc_per_node()

    def state_bytes(self) -> int:
        """Bytes of the weights, of their moving average, and of the two moments that AdamW keeps for each."""
        weights = {id(p): p.nbytes for engine in self.engines for p in engine.network.parameters()}
        trained = self.trainer.network.parameters() if self.trainer else ()
        return sum(weights.values()) + sum(2 * p.nbytes for p in trained if p.requires_grad)

    def advice(self, step: int, validation: int) -> list[str]:
        """Knobs to change so that less memory is needed."""
        if self.trainer is None or validation > step:
            return [f"set --window to less than {list(self.roi_size)}"]
        advice = [f"lower --patch_size (it is {self.patch_size})"] if max(self.patch_size) > 32 else []
        return [*advice, "lower --batch_size"] if self.patches > 1 else advice


def _free(device: torch.device) -> int:
    free = free_gpu_memory(device)
    return free_memory() if free is None else free


def _total(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f}"
