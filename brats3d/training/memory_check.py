"""What a run will take of the memory, said before it starts.

One line a device; a warning where there is less than that, with what to lower. It is refused only where no error of the
estimate could explain it away.
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

from brats3d.files import first_line, free_gpu_memory, free_memory, gib, total_memory
from brats3d.networks import OnePassInferer, compute_dtype, step_need, stitched_bytes, window_need

logger = logging.getLogger("brats3d")

REFUSED_FROM = 1.5
"""Times the memory that there is, swap included. The estimate was 0.89 to 1.25 times what was measured
(benchmarks/RESULTS.md), so no step fits that is estimated so high; between 1 and 1.5 the user knows better."""

WORKER_BYTES = 300 * 2**20
"""Of a worker process, beside its batches: its own Python objects and what it writes to of the libraries."""

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
    """Called by the configs before a run: log what it will take, warn where that is more than is free.

    Args:
        network: the bare network.
        evaluator: of the cases to validate on, or to segment.
        roi_size: of its windows.
        channels: of an image.
        amp: bfloat16 autocast.
        trainer: None where nothing is trained.
        patch_size: of the training.
        patches: an iteration.
        ignore_memory: only warn, however much memory is needed.
        free: bytes that are free on a device; what the system says unless given.
        total: bytes that a device has.

    Raises:
        ValueError: if it cannot work: what is needed without the cache is more than 1.5 times what there is.
    """
    if idist.get_rank() > 0:
        return
    device = torch.device(evaluator.state.device)
    free, total = free or _free, total or _total
    try:
        step, validation = _network_needs(network, evaluator, roi_size, channels, amp, trainer, patch_size, patches)
    except Exception as error:  # a network that cannot run without values
        logger.info("what this network takes of the memory cannot be told: %s", first_line(error))
        return
    where = {CPU: _main_memory(evaluator, trainer, channels, patch_size, patches, free(CPU))}
    parts = where.setdefault(device, {})
    parts["network"] = parts.get("network", 0) + _state_bytes(evaluator, trainer)
    parts |= {"step": step} if step >= validation else {"validation" if trainer else "windows": validation}
    for engine in filter(None, (trainer, evaluator)):
        dataset = engine.data_loader.dataset
        kept = where.setdefault(getattr(dataset, "device", CPU), {})
        if hasattr(dataset, "expected_bytes"):
            left = free(getattr(dataset, "device", CPU)) - kept.get("cache", 0)
            kept["cache"] = kept.get("cache", 0) + dataset.expected_bytes(left)
    levers = _levers(trainer, patch_size, patches, step, roi_size, validation)
    if isinstance(evaluator.inferer, OnePassInferer):
        levers = ["--one_pass to False"]
    for place, parts in where.items():
        if parts := {name: size for name, size in parts.items() if size}:
            _tell(place, parts, free(place), total(place), levers if place == device else [], ignore_memory)


def describe_memory(where: str, parts: Mapping[str, int], free: int) -> str:
    """Such as ``needs about 5.1 GiB of RAM (network 0.1, step 3.9, cache 1.1) of 21.3 GiB free``."""
    items = ", ".join(f"{name} {gib(size)}" for name, size in parts.items())
    return f"needs about {gib(sum(parts.values()))} GiB of {where} ({items}) of {gib(free)} GiB free"


def refuses(parts: Mapping[str, int], total: int) -> bool:
    """Whether a run cannot work. Without the cache, which takes what is left."""
    return sum(size for name, size in parts.items() if name != "cache") > REFUSED_FROM * total


def _tell(
    place: torch.device,
    parts: Mapping[str, int],
    free: int,
    total: int,
    levers: Sequence[str],
    ignore_memory: bool,
) -> None:
    text = describe_memory("RAM" if place.type == "cpu" else str(place), parts, free)
    need = sum(parts.values())
    if need <= free:
        logger.info("%s", text)
        return
    advice = list(levers)
    if parts.get("cache") and need - parts["cache"] < free:
        share = math.floor(10 * (free - need + parts["cache"]) / free) / 10
        advice.insert(0, f"--cache ({share:g} leaves enough)")
    text = f"{text}; lower {' or '.join(advice)}" if advice else text
    if not ignore_memory and refuses(parts, total):
        raise ValueError(f"{text}; there are {gib(total)} GiB in all (--ignore_memory True goes on all the same)")
    logger.warning("%s", text)


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
    """Bytes of a training step, 0 without one, and of a case that goes through the windows."""
    device = torch.device(evaluator.state.device)
    dtype = compute_dtype(device, amp)
    step = 0
    if trainer is not None and patch_size is not None:
        step = step_need(network, trainer.loss_function, (patches, channels, *patch_size), dtype).on(device)
    dataset = evaluator.data_loader.dataset
    image = (1, channels, *(dataset.expected_shape() if hasattr(dataset, "expected_shape") else roi_size))
    window = window_need(network, _input_shape(evaluator.inferer, image, roi_size), dtype)
    stitched = stitched_bytes(image, roi_size, window.output_shape[1])
    # The image, the stitched logits; and with them the windows or, after the last one, probabilities and regions.
    return step, 4 * math.prod(image) + stitched + max(window.on(device), 2 * stitched)


def _input_shape(inferer: Inferer, image: Sequence[int], roi_size: Sequence[int]) -> tuple[int, ...]:
    """Of what the network is given at a time."""
    if isinstance(inferer, OnePassInferer):
        return (*image[:2], *inferer.pass_size(image[2:]))
    return (getattr(inferer, "sw_batch_size", 1), image[1], *roi_size)


def _main_memory(
    evaluator: Evaluator,
    trainer: Trainer | None,
    channels: int,
    patch_size: Sequence[int] | None,
    patches: int,
    free: int,
) -> dict[str, int]:
    """Of the batches that wait, and of the processes that make them."""
    if trainer is None or patch_size is None:
        return {}
    loader = trainer.data_loader
    ahead = loader.num_workers * (loader.prefetch_factor or 2) or getattr(loader, "ahead", 0) + 1
    batches = (ahead + 1) * patches * math.prod(patch_size) * (4 * channels + 3)
    return {"batches": (batches + loader.num_workers * WORKER_BYTES) * idist.get_nproc_per_node()}


def _state_bytes(evaluator: Evaluator, trainer: Trainer | None) -> int:
    """Weights, those of an average with them, and the two moments that AdamW keeps of each."""
    engines = [engine for engine in (trainer, evaluator) if engine is not None]
    weights = {id(p): p.nbytes for engine in engines for p in engine.network.parameters()}
    moments = sum(2 * p.nbytes for p in trainer.network.parameters() if p.requires_grad) if trainer else 0
    return sum(weights.values()) + moments


def _levers(
    trainer: Trainer | None,
    patch_size: Sequence[int] | None,
    patches: int,
    step: int,
    roi_size: Sequence[int],
    validation: int,
) -> list[str]:
    """What to lower, and what a step takes then."""
    if trainer is None or patch_size is None or validation > step:
        return [f"--roi_size (it is {list(roi_size)})"]
    smaller = [max(32, n * 3 // 4 // 16 * 16) for n in patch_size]
    share = math.prod(smaller) / math.prod(patch_size)
    levers = [f"--patch_size (a step of {smaller} takes about {gib(step * share)})"] if share < 1 else []
    if patches > 1:
        levers.append(f"--batch_size (a step of one patch takes about {gib(step / patches)})")
    return levers


def _free(device: torch.device) -> int:
    free = free_gpu_memory(device)
    return free_memory() if free is None else free


def _total(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()
