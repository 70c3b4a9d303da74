"""Synthetic cases: what BraTS's form demands of every one of them, in every setting."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from brats3d.labels import BRATS2020, MODALITIES
from brats3d.phantoms.phantom import Phantom, grow_phantom, make_phantom
from brats3d.phantoms.settings import SETTINGS, Ranges

VOXEL_ML = 4**3 / 1000
"""Of a small phantom."""
EVERY_RING = replace(SETTINGS["varied"], rings=1, ringing=(0.5, 0.5), leaves_skull=1, bitten=1)


@cache
def small(seed: int, setting: str = "varied") -> Phantom:
    return make_phantom(seed, "small", setting=setting)


def region(case: Phantom, name: str) -> np.ndarray:
    return np.isin(case.label, BRATS2020.regions[name])


def same(one: Phantom, other: Phantom) -> bool:
    return np.array_equal(one.label, other.label) and all(
        np.array_equal(one.images[name], other.images[name]) for name in MODALITIES
    )


def check_form(case: Phantom, lowest: int = 1) -> None:
    """Everything that BraTS's form demands of a small case."""
    assert tuple(case.images) == MODALITIES
    assert case.label.dtype == np.uint8
    assert set(np.unique(case.label)) <= BRATS2020.values
    np.testing.assert_array_equal(case.affine, [[-1, 0, 0, 0], [0, -1, 0, 47], [0, 0, 1, 0], [0, 0, 0, 1]])
    brain = case.images["t1"] != 0
    for array in (*case.images.values(), case.label):
        assert array.shape == (48, 48, 40)
    for array in case.images.values():
        assert array.dtype == np.int16
        np.testing.assert_array_equal(array != 0, brain)
        assert array[brain].min() >= lowest
        assert array.max() > 1
    for axis in range(3):
        assert not brain.take([0, -1], axis).any()
    whole, core, enhancing = (region(case, name) for name in ("WT", "TC", "ET"))
    assert not (enhancing & ~core).any()
    assert not (core & ~whole).any()
    assert not (whole & ~brain).any()
    assert core.any()
    assert whole.sum() * VOXEL_ML >= 1
    assert not 0 < enhancing.sum() * VOXEL_ML < 0.1


@given(seed=st.integers(0, 2**40), setting=st.sampled_from(list(SETTINGS)))
@settings(deadline=None, max_examples=20)
def test_every_case_has_the_form_of_a_brats_case(seed, setting):
    case = make_phantom(seed, "small", setting=setting)
    assert case.seed == seed
    assert case.case_id == f"phantom_{seed}"
    check_form(case, np.iinfo(np.int16).min if SETTINGS[setting].rings else 1)


@given(seed=st.integers(0, 2**40))
@settings(deadline=None, max_examples=12)
def test_nothing_inside_is_0_even_where_ringing_falls_below(seed):
    case = make_phantom(seed, "small", setting=EVERY_RING)
    check_form(case, np.iinfo(np.int16).min)


def test_ringing_does_fall_below_0_in_some():
    lowest = [min(a.min() for a in make_phantom(s, "small", setting=EVERY_RING).images.values()) for s in range(6)]
    assert min(lowest) < 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_brains_are_as_large_as_brains_are(setting):
    for seed in range(8):
        brain = small(seed, setting).images["t1"] != 0
        assert 0.8e3 < brain.sum() * VOXEL_ML < 1.9e3  # ml, the CSF around it included
        assert np.bincount(ndimage.label(brain)[0].ravel())[1:].max() > 0.95 * brain.sum()


@pytest.mark.parametrize("setting", SETTINGS)
def test_some_cases_enhance_and_some_do_not(setting):
    enhancing = [region(small(seed, setting), "ET").any() for seed in range(12)]
    assert 2 < sum(enhancing) < 12


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_seed_gives_the_same_voxels_and_another_others(setting):
    assert same(make_phantom(3, "small", setting=setting), small(3, setting))
    assert (small(0, setting).label != small(1, setting).label).any()
    assert (small(0, setting).images["t1"] != small(1, setting).images["t1"]).mean() > 0.1


def test_settings_differ_in_the_same_seed():
    assert not same(small(3, "varied"), small(3, "plain"))
    assert not same(small(3, "varied"), small(3, "new-scanner"))


def test_a_setting_may_be_given_by_name_or_as_ranges_and_varied_is_the_default():
    assert same(make_phantom(3, "small", setting=Ranges()), small(3, "plain"))
    assert same(make_phantom(3, "small"), small(3, "varied"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_torchs_global_generator_neither_matters_nor_moves(setting):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert same(make_phantom(3, "small", setting=setting), small(3, setting))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"^seed: expected an integer from 0, got -1$"),
        ({"size": "large"}, r"^size: expected one of full, small, got 'large'$"),
        ({"setting": "plane"}, r"^setting: expected one of varied, plain, new-scanner, got 'plane'$"),
    ],
)
def test_wrong_arguments_are_named_with_the_valid_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**{"seed": 0, "size": "small", **arguments})


def test_tiny_tumours_are_grown_to_one_millilitre():
    tiny = Ranges(radius_high_mm=(1, 1), radius_low_mm=(1, 1), has_edema=0)
    for seed in range(5):
        assert (make_phantom(seed, "small", setting=tiny).label > 0).sum() * VOXEL_ML >= 1


@pytest.mark.parametrize("change", [{"cystic": 1}, {"bleeds": 1}, {"rings": 1}, {"thick": 1}, {"tube_gain": (1, 1)}])
def test_a_step_that_is_switched_on_leaves_whole_tumour_and_core_of_a_plain_case_as_they_were(change):
    for seed in range(4):
        plain, changed = small(seed, "plain"), make_phantom(seed, "small", setting=replace(Ranges(), **change))
        core, changed_core = region(plain, "TC"), region(changed, "TC")
        np.testing.assert_array_equal(plain.label == 2, changed.label == 2)
        np.testing.assert_array_equal(core, changed_core)
        assert (changed.label[changed.label != plain.label] == 1).all()  # a cyst in what would have enhanced
        np.testing.assert_array_equal(plain.images["t1"] != 0, changed.images["t1"] != 0)


def test_a_cyst_changes_a_still_case_within_the_core_alone(still):
    changed_somewhere = False
    for seed in range(6):
        off, on = (grow_phantom(seed, "small", setting=replace(still, cystic=chance)) for chance in (0, 1))
        a, b = off.image[0], on.image[0]
        scale = (b[a != 0] / a[a != 0]).median()  # the mean over the brain is kept
        changed = (a * scale - b).abs() > 0.02 * a.mean()
        assert torch.isin(on.label[changed], torch.tensor([1, 4])).all()
        changed_somewhere |= bool(changed.any())
    assert changed_somewhere


def test_skull_is_shown_but_never_labelled(still):
    shown = 0
    for seed in range(6):
        off, on = (grow_phantom(seed, "small", setting=replace(still, leaves_skull=chance)) for chance in (0, 1))
        skull = (on.image[0] != 0) & (off.image[0] == 0)
        assert torch.equal(off.label, on.label)
        assert not on.label[skull].any()
        assert not ((on.image[0] == 0) & (off.image[0] != 0)).any()
        shown += int(skull.sum())
    assert shown > 100


def test_a_healthy_head_is_the_same_head_without_a_tumour(still):
    for seed in range(4):
        plain, healthy = (make_phantom(seed, "small", setting=replace(still, healthy=chance)) for chance in (0, 1))
        assert plain.label.any()
        assert not healthy.label.any()
        for name in MODALITIES:
            np.testing.assert_array_equal(plain.images[name] != 0, healthy.images[name] != 0)


def test_what_is_left_on_the_device_is_the_same_case():
    grown, case = grow_phantom(3, "small"), small(3)
    box = tuple(slice(a, a + n) for a, n in zip(grown.frame.start, grown.frame.shape, strict=True))
    assert grown.image.dtype == torch.float32
    np.testing.assert_array_equal(grown.image.numpy(), np.stack([case.images[name][box] for name in MODALITIES]))
    np.testing.assert_array_equal(grown.label.numpy(), case.label[box])
    assert all((array != 0).sum() == (array[box] != 0).sum() for array in case.images.values())


def test_importing_the_module_loads_no_atlas_and_no_imaging_library():
    code = "import sys, brats3d.phantoms.phantom\nprint({'nilearn', 'nibabel', 'scipy', 'monai'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


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


@pytest.mark.slow
def test_regions_are_as_large_and_as_many_as_published():
    """Every third of BraTS 2020's training cases (docs/phantoms.md has the source) is met by varied phantoms."""
    cases = [small(seed) for seed in range(100)]
    volumes_ml = {
        name: np.array([region(case, name).sum() * VOXEL_ML for case in cases]) for name in ("WT", "TC", "ET")
    }
    for name, (low, high) in {"WT": (63.1, 125.3), "TC": (19.2, 49.9), "ET": (9.1, 26.2)}.items():
        found = volumes_ml[name][volumes_ml[name] > 0]
        shares = np.histogram(found, [0, low, high, np.inf])[0] / len(found)
        assert shares.min() > 0.1, (name, shares)
        assert shares.max() < 0.7, (name, shares)
    assert volumes_ml["WT"].max() < 600
    assert 0.6 < (volumes_ml["ET"] > 0).mean() < 0.95
    parts = [np.bincount(ndimage.label(case.label > 0, np.ones((3, 3, 3)))[0].ravel())[1:] * VOXEL_ML for case in cases]
    assert 0.03 < np.mean([(part >= 1).sum() > 1 for part in parts]) < 0.35


@pytest.mark.gpu
def test_a_case_made_on_a_gpu_has_the_form_too():
    check_form(make_phantom(1, "small", "cuda"), np.iinfo(np.int16).min)
    assert same(make_phantom(1, "small", "cuda"), make_phantom(1, "small", "cuda"))
