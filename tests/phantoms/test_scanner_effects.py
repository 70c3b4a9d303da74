"""The scanner: each effect on its own, on images of numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.scanner_effects import add_ghosts, scan_image
from brats3d.phantoms.settings import Setting


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def scan(
    volume: torch.Tensor, still: Setting, seed: int = 0, inside: torch.Tensor | None = None, **on: object
) -> torch.Tensor:
    ranges = replace(still, brain_mean=(1000, 1000), **on)
    inside = torch.ones_like(volume, dtype=torch.bool) if inside is None else inside
    return scan_image(stream(seed), stream(seed).substream("scan"), ranges, volume, inside, 1)


def ball(size: int = 24) -> torch.Tensor:
    axes = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 3, indexing="ij")
    return (sum(a**2 for a in axes) < (size / 3) ** 2).float() * 0.8 + 0.2


def test_without_steps_only_the_units_change(still):
    volume = ball()
    np.testing.assert_allclose(scan(volume, still), (volume * 1000 / volume.mean()).round(), atol=1)


def test_the_mean_over_the_brain_is_as_drawn(still):
    inside = ball() > 0.5
    out = scan(torch.rand(24, 24, 24) + 0.5, still, inside=inside)
    assert out[inside].mean() == pytest.approx(1000, rel=1e-3)
    assert not out[~inside].any()


def test_in_some_cases_every_sequence_has_thick_slices(still):
    volume = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0)) + 0.5
    setting = replace(still, all_thick=0.5, slice_mm=(5, 5), axial=1)
    numbers = []
    for seed in range(10):
        inside = torch.ones_like(volume, dtype=torch.bool)
        images = [scan_image(stream(seed), stream(seed + 99 * k), setting, volume, inside, 1) for k in range(4)]
        thick = [bool(image.diff(dim=2).abs().mean() < 0.5 * image.diff(dim=0).abs().mean()) for image in images]
        numbers.append(sum(thick))
    assert set(numbers) == {0, 4}


def test_axial_slices_are_thick_along_the_third_axis_only(still):
    volume = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0)) + 0.5
    smooth = []
    for seed in range(12):
        out = scan(volume, still, seed, thick=1, slice_mm=(5, 5), axial=1)
        left, front, below = ((out.diff(dim=axis)).abs().mean() for axis in range(3))
        assert below < 0.5 * min(left, front)
        any_axis = scan(volume, still, seed, thick=1, slice_mm=(5, 5), axial=0)
        smooth.append(int(np.argmin([any_axis.diff(dim=axis).abs().mean() for axis in range(3)])))
    assert set(smooth) == {0, 1, 2}


def test_ghosts_are_weak_copies_along_one_axis():
    point = torch.zeros(80, 80, 80)
    point[40, 40, 40] = 1
    for seed in range(5):
        ghosts = add_ghosts(stream(seed), (0.05, 0.05), point)
        places = (ghosts - point).nonzero() - 40
        assert ghosts[40, 40, 40] == pytest.approx(1, abs=0.01)
        assert 2 <= len(places) <= 3
        assert (places != 0).any(0).sum() == 1
        assert 15 <= places.abs().max() < 55 or places.abs().max() >= 80 - 55
        assert (ghosts - point).abs().max() == pytest.approx(0.05, abs=0.003)


def test_rician_noise_is_never_negative(still):
    """Without signal, magnitudes are Rayleigh distributed, so the mean over the deviation is 1.913."""
    dark = torch.zeros(32, 32, 32)
    gaussian, rician = (scan(dark, still, noise=(0.02, 0.02), rician=on) for on in (False, True))
    assert rician.mean() / rician.std() == pytest.approx(1.913, abs=0.05)
    floor = gaussian.min()
    assert (gaussian == floor).float().mean() == pytest.approx(0.5, abs=0.05)  # clipped because it would be negative
    assert (rician <= 3 * rician.min()).float().mean() < 0.05


def test_ringing_overshoots_at_edges_and_may_be_negative(still):
    dark_rim = (ball() - 0.2) / 0.8 + 0.01
    off, on = (scan(dark_rim, still, rings=chance, ringing=(0.5, 0.5)) for chance in (0, 1))
    assert off.min() >= 1
    assert on.min() < 0
    assert on.max() > 1.05 * off.max()
    assert not (on == 0).any()


def test_bias_is_smooth_and_has_the_given_strength(still):
    flat = scan(torch.ones(64, 64, 64), still, bias=(0.2, 0.2)) / 1000
    assert flat.std() > 0.05
    assert (flat[1:] - flat[:-1]).abs().max() < 0.06


def test_gamma_keeps_the_order_of_brightness(still):
    ramp = torch.linspace(0.1, 1, 1000).view(10, 10, 10)
    for gamma in (0.7, 1.4):
        out = scan(ramp, still, gamma=(gamma, gamma)).flatten()
        assert (out[1:] >= out[:-1]).all()
        assert (out[500] / out[999]) == pytest.approx(float(0.5504504**gamma), abs=0.01)


def test_blur_removes_detail(still):
    volume = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(0))
    out = scan(volume, still, blurred=1, blur_mm=(0.8, 0.8), blur_thick_mm=(2, 2))
    assert out.std() < 0.5 * scan(volume, still).std()
