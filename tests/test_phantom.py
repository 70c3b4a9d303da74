"""Synthetic cases: what BraTS's form and the order of contrasts demand of every one of them."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats3d import phantom as module
from brats3d.labels import BRATS2020, MODALITIES
from brats3d.phantom import Focus, Phantom, Ranges, make_phantom, push_tissue

SEEDS = range(12)


@cache
def small(seed: int) -> Phantom:
    return make_phantom(seed, "small")


def region(case: Phantom, name: str) -> np.ndarray:
    return np.isin(case.label, BRATS2020.regions[name])


@pytest.mark.parametrize("seed", SEEDS)
def test_case_has_the_form_of_a_brats_case(seed):
    case = small(seed)
    assert tuple(case.images) == MODALITIES
    for array in case.images.values():
        assert array.dtype == np.int16
        assert array.shape == (48, 48, 40)
    assert case.label.dtype == np.uint8
    assert case.label.shape == (48, 48, 40)
    assert set(np.unique(case.label)) <= BRATS2020.values
    np.testing.assert_array_equal(case.affine, [[-1, 0, 0, 0], [0, -1, 0, 47], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert case.seed == seed


@pytest.mark.parametrize("seed", SEEDS)
def test_background_is_exactly_zero_and_the_same_in_all_modalities(seed):
    case = small(seed)
    brain = case.images["t1"] != 0
    for array in case.images.values():
        np.testing.assert_array_equal(array != 0, brain)
        assert array.min() == 0
    # 0.9 to 1.9 l of brain in one piece, clear of every face of the volume
    assert 0.9e6 < brain.sum() * 4**3 < 1.9e6
    assert np.bincount(ndimage.label(brain)[0].ravel())[1:].max() > 0.99 * brain.sum()
    assert not brain[[0, -1]].any()
    assert not brain[:, [0, -1]].any()
    assert not brain[:, :, [0, -1]].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_tumour_is_nested_inside_the_brain_and_large_enough(seed):
    case = small(seed)
    whole, core, enhancing = (region(case, name) for name in ("WT", "TC", "ET"))
    assert not (enhancing & ~core).any()
    assert not (core & ~whole).any()
    assert not (whole & (case.images["t1"] == 0)).any()
    assert core.any()
    assert whole.sum() * 4**3 >= 1000  # 1 ml


def test_some_cases_enhance_and_some_do_not():
    enhancing = [region(small(seed), "ET").any() for seed in range(30)]
    assert 10 < sum(enhancing) < 30


def test_tiny_tumours_are_grown_to_one_millilitre(monkeypatch):
    monkeypatch.setattr(module, "Ranges", lambda: Ranges(radius_high_mm=(1, 1), radius_low_mm=(1, 1), has_edema=0))
    for seed in range(5):
        assert (make_phantom(seed, "small").label > 0).sum() * 4**3 >= 1000


def test_same_seed_gives_the_same_voxels():
    again = make_phantom(3, "small")
    np.testing.assert_array_equal(again.label, small(3).label)
    for name in MODALITIES:
        np.testing.assert_array_equal(again.images[name], small(3).images[name])


def test_different_seeds_give_different_cases():
    assert (small(0).label != small(1).label).any()
    assert (small(0).images["t1"] != small(1).images["t1"]).mean() > 0.1


def test_torchs_global_generator_neither_matters_nor_moves():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    make_phantom(3, "small")
    assert torch.equal(torch.get_rng_state(), state)


def plain(monkeypatch, **ranges) -> None:
    """No noise, bias, blur or blending, so that voxels have the brightness of their tissue."""
    still = {"texture": (0, 0), "bias": (0, 0), "noise": (0, 0), "blurred": 0, "faint": 0, "vessel_gain": (0, 0)}
    monkeypatch.setattr(module, "Ranges", lambda: Ranges(**{**still, "spot_gain": (0, 0), "gamma": (1, 1), **ranges}))


def test_enhancing_tumour_is_brighter_than_all_healthy_tissue_in_t1ce_but_not_in_t1(monkeypatch):
    plain(monkeypatch, low_grade=0)
    for seed in range(8):
        case = make_phantom(seed, "small")
        enhancing, healthy = region(case, "ET"), (case.label == 0) & (case.images["t1"] > 0)
        assert case.images["t1ce"][enhancing].mean() > np.percentile(case.images["t1ce"][healthy], 99)
        assert case.images["t1"][enhancing].mean() < np.percentile(case.images["t1"][healthy], 99)


def test_edema_is_brighter_than_the_brain_in_flair_and_t2(monkeypatch):
    plain(monkeypatch, has_edema=1)
    for seed in range(8):
        case = make_phantom(seed, "small")
        edema, healthy = case.label == 2, (case.label == 0) & (case.images["t1"] > 0)
        for name in ("flair", "t2"):
            assert case.images[name][edema].mean() > np.median(case.images[name][healthy])


@pytest.mark.parametrize("low_grade", [False, True])
def test_healthy_tissues_keep_the_order_of_each_sequence(low_grade):
    for seed in range(50):
        draw = module._Draw(seed, torch.device("cpu"), Ranges())
        values = module.contrast(draw, low_grade)
        csf, gm, wm = (
            dict(zip(values, column, strict=True)) for column in list(zip(*values.values(), strict=True))[:3]
        )
        assert csf["t1"] < gm["t1"] < wm["t1"]
        assert wm["t2"] < gm["t2"] < csf["t2"]
        assert csf["flair"] < wm["flair"] <= gm["flair"]


def test_mass_effect_looks_up_the_atlas_nearer_to_the_centre_and_not_beyond():
    axis = (torch.arange(9) - 4.0) * 4
    coords = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    focus = Focus(torch.zeros(3), radius_mm=10, stretch=torch.ones(3), push_mm=5, edema_mm=0)
    pushed = push_tissue(coords, [focus])
    # worked by hand, on the x axis: 4 - min(4, 5 exp(-(4/16)^2)) = 0, 12 - 5 exp(-(12/16)^2) = 9.1513 …
    np.testing.assert_allclose(
        pushed[0, :, 4, 4], [-14.1606, -9.1513, -4.1060, 0, 0, 0, 4.1060, 9.1513, 14.1606], atol=2e-3
    )
    np.testing.assert_allclose(pushed[1:, :, 4, 4], 0, atol=1e-6)


def test_blur_keeps_constants_and_agrees_with_scipy_away_from_edges():
    volume = torch.randn(20, 22, 24, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(volume.numpy(), (0.6, 1.4, 0.9), truncate=8)
    got = module._blur(volume, [0.6, 1.4, 0.9]).numpy()
    np.testing.assert_allclose(got[8:-8, 8:-8, 8:-8], expected[8:-8, 8:-8, 8:-8], atol=1e-4)
    np.testing.assert_allclose(module._blur(torch.ones(5, 6, 7), [0, 1, 3]), 1, atol=1e-5)


def test_importing_the_module_loads_no_atlas_and_no_imaging_library():
    code = "import sys, brats3d.phantom; print(sorted({'nilearn', 'nibabel', 'scipy', 'monai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_full_size_case_fits_the_brats_grid():
    start = time.perf_counter()
    case = make_phantom(1)
    print(f"full-size case: {time.perf_counter() - start:.1f} s, the atlas's loading included")
    assert case.label.shape == (240, 240, 155)
    assert case.images["flair"].shape == (240, 240, 155)
    np.testing.assert_array_equal(case.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    inside = np.argwhere(case.images["t1"])
    middle = (inside.min(0) + inside.max(0)) / 2
    np.testing.assert_allclose(middle, [119.5, 127, 73], atol=15)
    assert (case.label > 0).sum() >= 1000
