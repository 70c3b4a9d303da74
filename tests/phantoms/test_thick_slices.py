"""Thick slices, with gaps and tilted, on images of numbers."""

from __future__ import annotations

import numpy as np
import torch

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.thick_slices import acquire_slices, resample_slices, tilt_slices


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_thick_slices_are_interpolated_linearly_along_one_axis():
    volume = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0))
    for axis in range(3):
        lines = resample_slices(volume, axis, 5).movedim(axis, 0)
        bends = (lines[2:] - 2 * lines[1:-1] + lines[:-2]).abs().amax((1, 2))
        assert {i + 1 for i in range(18) if bends[i] > 1e-5} == {2, 7, 12, 17}  # the middles of the slices
        means = volume.movedim(axis, 0).reshape(4, 5, 20, 20).mean(1)
        np.testing.assert_allclose(lines[[2, 7, 12, 17]], means, atol=1e-6)


def test_slices_may_begin_before_the_image():
    volume = torch.rand(20, 4, 4, generator=torch.Generator().manual_seed(0))
    lines = resample_slices(volume, 0, 5, 2)
    bends = (lines[2:] - 2 * lines[1:-1] + lines[:-2]).abs().amax((1, 2))
    assert {i + 1 for i in range(18) if bends[i] > 1e-5} == {5, 10, 15}  # two voxels earlier; constant at both ends
    np.testing.assert_allclose(lines[5], volume[3:8].mean(0), atol=1e-6)
    assert lines.shape == volume.shape


def test_slices_that_do_not_divide_the_grid_keep_its_shape():
    ramp = torch.arange(7.0).view(7, 1, 1).expand(7, 3, 2)
    assert resample_slices(ramp, 0, 3).shape == (7, 3, 2)
    assert torch.equal(resample_slices(ramp, 0, 1), ramp)


def test_gaps_are_seen_by_no_slice_and_slices_keep_their_middles():
    volume = noise(20, 4, 4)
    lines = resample_slices(volume, 0, 3, gap=2)  # 1 voxel of a gap, 3 of a slice, 1 of the next gap
    np.testing.assert_allclose(lines[[2, 7, 12, 17]], volume.view(4, 5, 4, 4)[:, 1:4].mean(1), atol=1e-6)
    unseen = volume.clone()
    unseen[[0, 4, 5, 9, 10, 14, 15, 19]] += 1
    assert torch.equal(resample_slices(unseen, 0, 3, gap=2), lines)


def test_tilted_slices_are_those_of_each_line():
    volume = noise(6, 20, 7)
    starts = torch.arange(6)[:, None] + 2 * torch.arange(7)
    tilted = tilt_slices(volume, 1, 4, starts, gap=1)
    for x in range(6):
        for z in range(7):
            line = resample_slices(volume[x, :, z], 0, 4, int(starts[x, z]) % 5, gap=1)
            torch.testing.assert_close(tilted[x, :, z], line)


def test_a_tilt_of_zero_and_no_gap_change_nothing():
    volume = noise(20, 20, 20)
    for seed in range(3):
        straight, tilted = (
            acquire_slices(RandomStream(seed, torch.device("cpu")), setting, volume, 1)
            for setting in (Setting(), Setting(slice_tilt=(0, 1e-9)))
        )
        torch.testing.assert_close(straight, tilted)


def test_small_voxels_thicker_than_the_slices_stay_as_they_are():
    volume = noise(8, 8, 8)
    setting = Setting(slice_mm=(2, 2), slice_gap_mm=(0, 1), slice_tilt=(-0.2, 0.2))
    torch.testing.assert_close(acquire_slices(RandomStream(0, torch.device("cpu")), setting, volume, 4), volume)
