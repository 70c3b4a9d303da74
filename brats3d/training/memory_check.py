"""Estimate the memory of a run before it starts.

One line of log a device; a warning with advice if less is free than the run needs. A run is refused only if no error of
the estimate could explain the difference.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import ignite.distributed as idist
import torch
from monai.engines import Evaluator, Trainer
from monai.inferers import Inferer
from torch import nn

from brats3d.errors import UsageError
from brats3d.files import first_line, free_gpu_memory, free_memory, gib, total_memory
from brats3d.networks import OnePassInferer, compute_dtype, step_need, stitched_bytes, window_need

logger = logging.getLogger("brats3d")

REFUSED_FROM = 1.5
"""Times the total memory, swap included. The estimate was 0.89 to 1.25 times what was measured
(benchmarks/RESULTS.md), so no step fits that is estimated so high; between 1 and 1.5 the user decides."""

WORKER_BYTES = 300 * 2**20
"""Of a worker process, besides its batches: its own Python objects and the pages of libraries that it writes to."""

CPU = torch.device("cpu")


def check_memory(
    network: nn.Module,
    evaluator: Evaluator,
    roi_size: Sequence[int],
    channels: int,
    amp: bool,
    trainer: Trainer | None = None,
    patch_size: Sequence[int] | None = None,
    patches: int = 1,
    ignore_memory: bool = False,
    free: Callable[[torch.device], int] | None = None,
    total: Callable[[torch.device], int] | None = None,
) -> None:
    """Log the memory that a run will need, and warn if it is more than is free; the configs call this first.

    Args:
        network: the bare network.
        evaluator: of the cases to validate on, or to segment.
        roi_size: of the sliding windows.
        channels: of an image.
        amp: bfloat16 autocast.
        trainer: None if nothing is trained.
        patch_size: of the training.
        patches: per iteration.
        ignore_memory: only warn, however large the need.
        free: returns the free bytes of a device; None = ask the system.
        total: returns all bytes of a device; None = ask the system.

    Raises:
        UsageError: if the run cannot work: without the cache it needs more than 1.5 times the total memory.
    """
    if idist.get_rank() > 0:
        return
    device = torch.device(evaluator.state.device)
    free, total = free or _free, total or _total
    try:
        step, validation = _network_needs(network, evaluator, roi_size, channels, amp, trainer, patch_size, patches)
    except Exception as error:  # a network that cannot run without values
        logger.info("the memory that this network needs cannot be estimated: %s", first_line(error))
        return
    needs = {CPU: _loader_needs(trainer, channels, patch_size, patches)}
    need = needs.setdefault(device, {})
    need["network"] = _state_bytes(evaluator, trainer)
    need |= {"step": step} if step >= validation else {"validation" if trainer else "windows": validation}
    for engine in filter(None, (trainer, evaluator)):
        dataset = engine.data_loader.dataset
        if hasattr(dataset, "expected_bytes"):
            place = getattr(dataset, "device", CPU)
            need = needs.setdefault(place, {})
            left = free(place) - need.get("cache", 0)
            need["cache"] = need.get("cache", 0) + dataset.expected_bytes(left)
    advice = _advice(trainer, patch_size, patches, step, roi_size, validation)
    if isinstance(evaluator.inferer, OnePassInferer):
        advice = ["--one_pass to False"]
    for place, need in needs.items():
        if need := {name: size for name, size in need.items() if size}:
            _report(place, need, free(place), total(place), advice if place == device else [], ignore_memory)


def describe_memory(memory: str, need: Mapping[str, int], free: int) -> str:
    """Return such as ``needs about 5.1 GiB of RAM (network 0.1, step 3.9, cache 1.1) of 21.3 GiB free``."""
    items = ", ".join(f"{name} {gib(size)}" for name, size in need.items())
    return f"needs about {gib(sum(need.values()))} GiB of {memory} ({items}) of {gib(free)} GiB free"


def exceeds(need: Mapping[str, int], total: int) -> bool:
    """Return True if a run cannot work. The cache does not count: it only takes what is left."""
    return sum(size for name, size in need.items() if name != "cache") > REFUSED_FROM * total


def _report(
    place: torch.device, need: Mapping[str, int], free: int, total: int, advice: Sequence[str], ignore_memory: bool
) -> None:
    text = describe_memory("RAM" if place.type == "cpu" else str(place), need, free)
    needed, cache = sum(need.values()), need.get("cache", 0)
    if needed <= free:
        logger.info("%s", text)
        return
    if cache and needed - cache < free:
        fraction = math.floor(10 * (free - needed + cache) / free) / 10
        advice = [f"--cache ({fraction:g} leaves enough)", *advice]
    lower = f"lower {' or '.join(advice)}" if advice else ""
    if not ignore_memory and exceeds(need, total):
        problem = f"{text}; {gib(total)} GiB in total"
        raise UsageError("memory", problem, advice="; ".join(filter(None, (lower, "--ignore_memory true runs anyway"))))
    logger.warning("%s", f"{text}; {lower}" if lower else text)


def _network_needs(
    network: nn.Module,
    evaluator: Evaluator,
    roi_size: Sequence[int],
    channels: int,
    amp: bool,
    trainer: Trainer | None,
    patch_size: Sequence[int] | None,
    patches: int,
) -> tuple[int, int]:
    """Return the bytes of a training step (0 without a trainer), and of a case that goes through the windows."""
    device = torch.device(evaluator.state.device)
    dtype = compute_dtype(device, amp)
    step = 0
    if trainer is not None and patch_size is not None:
        step = step_need(network, trainer.loss_function, (patches, channels, *patch_size), dtype).on(device)
    dataset = evaluator.data_loader.dataset
    image = (1, channels, *(dataset.expected_shape() if hasattr(dataset, "expected_shape") else roi_size))
    window = window_need(network, _input_shape(evaluator.inferer, image, roi_size), dtype)
    stitched = stitched_bytes(image, roi_size, window.output_shape[1])
    # The image and the stitched logits; with them the windows or, after the last one, probabilities and regions.
    return step, 4 * math.prod(image) + stitched + max(window.on(device), 2 * stitched)


def _input_shape(inferer: Inferer, image: Sequence[int], roi_size: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the network's input in one pass."""
    if isinstance(inferer, OnePassInferer):
        return (*image[:2], *inferer.pass_size(image[2:]))
    return (getattr(inferer, "sw_batch_size", 1), image[1], *roi_size)


def _loader_needs(
    trainer: Trainer | None, channels: int, patch_size: Sequence[int] | None, patches: int
) -> dict[str, int]:
    """Return the bytes of the batches that wait in main memory, and of the processes that make them."""
    if trainer is None or patch_size is None:
        return {}
    loader = trainer.data_loader
    ahead = loader.num_workers * (loader.prefetch_factor or 2) or getattr(loader, "ahead", 0) + 1
    batches = (ahead + 1) * patches * math.prod(patch_size) * (4 * channels + 3)
    return {"batches": (batches + loader.num_workers * WORKER_BYTES) * idist.get_nproc_per_node()}


def _state_bytes(evaluator: Evaluator, trainer: Trainer | None) -> int:
    """Return the bytes of the weights, of their moving average, and of the two moments that AdamW keeps of each."""
    engines = [engine for engine in (trainer, evaluator) if engine is not None]
    weights = {id(p): p.nbytes for engine in engines for p in engine.network.parameters()}
    moments = sum(2 * p.nbytes for p in trainer.network.parameters() if p.requires_grad) if trainer else 0
    return sum(weights.values()) + moments


def _advice(
    trainer: Trainer | None,
    patch_size: Sequence[int] | None,
    patches: int,
    step: int,
    roi_size: Sequence[int],
    validation: int,
) -> list[str]:
    """Return the knobs to lower, with the memory that a step then needs."""
    if trainer is None or patch_size is None or validation > step:
        return [f"--roi_size (it is {list(roi_size)})"]
    smaller = [max(32, n * 3 // 4 // 16 * 16) for n in patch_size]
    fraction = math.prod(smaller) / math.prod(patch_size)
    advice = [f"--patch_size (a step of {smaller} needs about {gib(step * fraction)})"] if fraction < 1 else []
    if patches > 1:
        advice.append(f"--batch_size (a step of one patch needs about {gib(step / patches)})")
    return advice


def _free(device: torch.device) -> int:
    free = free_gpu_memory(device)
    return free_memory() if free is None else free


def _total(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()
