"""Choose the patch and the batch by the memory that a training needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch

from brats3d.errors import UsageError
from brats3d.files import gib
from brats3d.plan.facts import CPU, DataFacts, MachineFacts

LEAST_FOR_SPEED = 64
"""The largest side of a patch that is chosen for the sake of speed, at least."""

MEMORY_MARGIN = 1.25
"""Free memory per estimated byte. Estimates were 0.89 to 1.25 times the measured memory (benchmarks/RESULTS.md)."""

LARGE_BATCH_FROM = 100
"""Training cases from which a GPU may get twice the default batch: smaller sets would have few steps per epoch."""

Needs = Mapping[torch.device, Mapping[str, int]]
"""Bytes that each device needs, under the names of their uses."""


def patch_sizes(brain_box: Sequence[int], largest: Sequence[int], multiple: int = 16) -> list[list[int]]:
    """Return the patches to try, from the largest to the smallest.

    Args:
        brain_box: median shape of a case; a patch is not larger than it, rounded up to a multiple.
        largest: upper limit, in voxels.
        multiple: of the network, see :func:`brats3d.networks.size_multiple`; sides are at least twice that.
    """
    smallest = 2 * multiple
    box = [max(smallest, math.ceil(n / multiple) * multiple) for n in brain_box]
    most = [max(smallest, n // multiple * multiple) for n in largest]
    sides = range(max(most), smallest - 1, -multiple)
    sizes = [[min(each) for each in zip(box, most, (side,) * 3, strict=True)] for side in sides]
    return [size for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]


def batch_sizes(data: DataFacts, machine: MachineFacts, default: int) -> list[int]:
    """Return the batch sizes to try, the largest first, none larger than the number of training cases."""
    large = [2 * default] if machine.has_gpu and data.training >= LARGE_BATCH_FROM else []
    return [*large, *range(min(default, data.training), 0, -1)]


@dataclass(frozen=True)
class Crop:
    """A patch size in voxels, a batch size, and the memory that a training on them needs."""

    patch_size: list[int]
    batch_size: int
    needs: Needs


def choose_crop(
    machine: MachineFacts,
    patches: Sequence[Sequence[int]],
    batches: Sequence[int],
    needs_of: Callable[[Sequence[int], int], Needs | None],
) -> Crop:
    """Return the largest patch that fits in memory, and with it the largest of the batches.

    Args:
        machine: the facts.
        patches: patches to try, the largest first.
        batches: batch sizes to try, the largest first.
        needs_of: returns the memory that a patch and a batch size need; None if the network cannot be run on them.

    Raises:
        UsageError: if no patch fits.
    """
    smallest: Crop | None = None
    for patch, batch in product(patches, batches):
        needs = needs_of(patch, batch)
        if needs is None:
            continue
        smallest = Crop(list(patch), batch, needs)
        if fits(needs, machine):
            return smallest
    if smallest is None:
        tried = ", ".join(map(format_size, patches))
        raise UsageError("patch_size", "the network cannot be run on these patches", found=tried)
    place = next(place for place, need in smallest.needs.items() if not fits({place: need}, machine))
    needed, free = MEMORY_MARGIN * sum(smallest.needs[place].values()), machine.free_bytes[place]
    memory, size = "RAM" if place == CPU else place, format_size(smallest.patch_size)
    raise UsageError(
        "memory",
        f"the smallest plan, with patches of {size} and a batch size of {smallest.batch_size}, needs {gib(needed)} GiB "
        f"of {memory}, and {gib(free)} GiB are free",
        advice="end other programs, choose a smaller network, or plan on another machine",
    )


def smaller_patch(patches: Sequence[Sequence[int]], patch: Sequence[int], factor: float) -> list[int]:
    """Return the largest patch with at most ``factor`` times the voxels of another one.

    Patches below 64 voxels are not considered: on a CPU, 64 trained as well as 96 in the same minutes
    (benchmarks/results/recipes.md); less has not been tried.

    Args:
        patches: patches to choose from, the largest first.
        patch: the other one, which is returned if all are too large.
        factor: a factor of 1 or more changes nothing.
    """
    if factor >= 1:
        return list(patch)
    sizes = [list(size) for size in patches if max(size) >= LEAST_FOR_SPEED and math.prod(size) < math.prod(patch)]
    limit = factor * math.prod(patch)
    return next((size for size in sizes if math.prod(size) <= limit), sizes[-1] if sizes else list(patch))


def fits(needs: Needs, machine: MachineFacts) -> bool:
    """Return True if every device has the memory, with a margin for the error of the estimate."""
    return all(MEMORY_MARGIN * sum(need.values()) <= machine.free_bytes[place] for place, need in needs.items())


def format_size(size: Sequence[int]) -> str:
    """Format voxels, such as ``128 x 128 x 112``."""
    return " x ".join(map(str, size))
