"""The patch and the batch that fit in memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from brats3d.errors import UsageError
from brats3d.plan.choose_crop import batch_sizes, choose_crop, patch_sizes, smaller_patch

GIB = 2**30
CPU = torch.device("cpu")


def needs_of(device: torch.device, bytes_per_voxel: int = 1000):
    """Return the memory of a training that needs so many bytes for each voxel of a batch."""
    return lambda patch, batch: {CPU: {}, device: {"step": batch * math.prod(patch) * bytes_per_voxel}}


def test_patches_are_cubes_cut_to_the_brain_box_in_multiples_of_16() -> None:
    sizes = patch_sizes((126, 175, 84), [128, 128, 128])
    assert sizes[:3] == [[128, 128, 96], [112, 112, 96], [96, 96, 96]]
    assert sizes[-1] == [32, 32, 32]


def test_a_patch_of_a_small_brain_is_the_brain_box_and_at_least_32() -> None:
    assert patch_sizes((30, 43, 31), [128, 128, 128]) == [[32, 48, 32], [32, 32, 32]]


def test_sides_are_multiples_that_suit_the_network() -> None:
    assert patch_sizes((126, 175, 84), [128, 128, 112], multiple=32) == [[128, 128, 96], [96, 96, 96], [64, 64, 64]]


@pytest.mark.parametrize(
    ("free", "gpu", "training", "expected"),
    [
        (5, None, 240, ([128, 128, 128], 2)),  # a laptop with 8 GiB
        (21, None, 3, ([128, 128, 128], 2)),
        (0.5, None, 240, ([112, 112, 112], 1)),
        (100, 10, 800, ([128, 128, 128], 4)),  # a GPU with 11 GiB
        (100, 23, 800, ([128, 128, 128], 4)),
        (100, 79, 60, ([128, 128, 128], 2)),  # few cases: more steps rather than larger batches
        (100, 0.6, 800, ([128, 128, 128], 1)),
    ],
)
def test_the_default_network_on_machines_of_several_sizes(
    free: float, gpu: float | None, training: int, expected: tuple, data: Callable, machine: Callable
) -> None:
    there, facts = machine(free=free, gpu=gpu, cores=16), data(training=training)
    needs = needs_of(there.device, bytes_per_voxel=300 if gpu is None else 208)  # measured: float32, bfloat16
    crop = choose_crop(there, patch_sizes(facts.brain_box, [128] * 3), batch_sizes(facts, there, 2), needs)
    assert (crop.patch_size, crop.batch_size) == expected


def test_the_largest_patch_comes_before_the_largest_batch(machine: Callable) -> None:
    needs = needs_of(CPU)
    free = 1.25 * 64**3 * 1000 / GIB  # with the margin, one patch of 64
    crop = choose_crop(machine(free=free + 1e-6), [[64] * 3, [48] * 3], [2, 1], needs)
    assert (crop.patch_size, crop.batch_size) == ([64, 64, 64], 1)


def test_a_machine_that_is_too_small_is_an_error_with_both_sizes(machine: Callable) -> None:
    needs = needs_of(torch.device("cuda:0"), bytes_per_voxel=8 * GIB // 32**3)
    with pytest.raises(UsageError) as caught:
        choose_crop(machine(gpu=6), [[64] * 3, [32] * 3], [2, 1], needs)
    assert caught.value.subject == "memory"
    text = "patches of 32 x 32 x 32 and a batch size of 1, needs 10.0 GiB of cuda:0, and 6.0 GiB are free"
    assert caught.value.problem.endswith(text)


def test_patches_that_the_network_cannot_be_run_on_are_skipped(machine: Callable) -> None:
    crop = choose_crop(machine(), [[112] * 3, [96] * 3], [2], lambda p, b: None if p[0] % 32 else {CPU: {"step": 1}})
    assert crop.patch_size == [96, 96, 96]
    with pytest.raises(UsageError) as caught:
        choose_crop(machine(), [[112] * 3], [2], lambda *_: None)
    assert caught.value.subject == "patch_size"


def test_batches_are_not_larger_than_the_training_set(data: Callable, machine: Callable) -> None:
    assert batch_sizes(data(training=1), machine(), 2) == [1]
    assert batch_sizes(data(training=3), machine(), 2) == [2, 1]
    assert batch_sizes(data(training=800), machine(gpu=80), 2) == [4, 2, 1]


def test_a_smaller_patch_has_at_most_the_given_fraction_of_the_voxels() -> None:
    sizes = patch_sizes((140, 175, 139), [128, 128, 128])
    assert smaller_patch(sizes, [128] * 3, 1.2) == [128, 128, 128]
    assert smaller_patch(sizes, [128] * 3, 0.5) == [96, 96, 96]  # .42; 112 has .67
    assert smaller_patch(sizes, [128] * 3, 0.01) == [64, 64, 64]
    assert smaller_patch([[32, 48, 32]], [32, 48, 32], 0.01) == [32, 48, 32]
