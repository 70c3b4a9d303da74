"""Synthetic cases: every one has the form of a BraTS case, in every setting."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from brats3d.errors import UsageError
from brats3d.labels import BRATS2020, MODALITIES
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.phantom import Phantom, make_phantom, make_phantom_tensors
from brats3d.phantoms.settings import Setting

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


def check_form(case: Phantom, setting: Setting) -> None:
    """Check that a small case has the form of a BraTS case."""
    assert tuple(case.images) == MODALITIES
    assert case.label.dtype == np.uint8
    assert set(np.unique(case.label)) <= BRATS2020.values
    np.testing.assert_array_equal(case.affine, [[-1, 0, 0, 0], [0, -1, 0, 47], [0, 0, 1, 0], [0, 0, 0, 1]])
    brain = np.any([image != 0 for image in case.images.values()], axis=0)
    partial = [image for image in case.images.values() if ((image != 0) != brain).any()]
    assert len(partial) <= (setting.partial > 0)
    for array in (*case.images.values(), case.label):
        assert array.shape == (48, 48, 40)
    for array in case.images.values():
        assert array.dtype == np.int16
        assert (array != 0).sum() > (1 - setting.uncovered[1] - 0.01) * brain.sum()
        assert setting.rings or array.min() >= 0
        assert array.max() > 1
    for axis in range(3):
        assert not brain.take([0, -1], axis).any()
    whole, core, enhancing = (region(case, name) for name in ("WT", "TC", "ET"))
    assert not (enhancing & ~core).any()
    assert not (core & ~whole).any()
    assert not (whole & ~brain).any()
    assert core.any() or setting.coreless
    assert whole.sum() * VOXEL_ML >= 1
    assert not 0 < enhancing.sum() * VOXEL_ML < 0.1


@given(seed=st.integers(0, 2**40), setting=st.sampled_from(list(SETTINGS)))
@settings(deadline=None, max_examples=12)
def test_every_case_has_the_form_of_a_brats_case(seed, setting):
    case = make_phantom(seed, "small", setting=setting)
    assert case.seed == seed
    assert case.case_id == f"phantom_{seed}"
    check_form(case, SETTINGS[setting])


def test_ringing_falls_below_0_and_nothing_inside_is_0():
    cases = [make_phantom(seed, "small", setting=EVERY_RING) for seed in range(6)]
    for case in cases:
        check_form(case, EVERY_RING)
    assert min(image.min() for case in cases for image in case.images.values()) < 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_brains_have_the_size_of_real_brains(setting):
    for seed in range(5):
        brain = small(seed, setting).images["t1"] != 0
        assert 0.8e3 < brain.sum() * VOXEL_ML < 1.9e3  # ml, including the CSF around the brain
        assert np.bincount(ndimage.label(brain)[0].ravel())[1:].max() > 0.95 * brain.sum()


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_some_cases_enhance_and_some_do_not(setting):
    enhances = [region(small(seed, setting), "ET").any() for seed in range(24)]
    assert any(enhances) and not all(enhances)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_seed_determines_the_voxels(setting):
    assert same(make_phantom(3, "small", setting=setting), small(3, setting))
    assert (small(0, setting).label != small(1, setting).label).any()
    assert (small(0, setting).images["t1"] != small(1, setting).images["t1"]).mean() > 0.1


def test_settings_differ_for_the_same_seed():
    assert not same(small(3, "varied"), small(3, "plain"))
    assert not same(small(3, "varied"), small(3, "new-scanner"))


def test_a_setting_may_be_given_by_name_or_as_an_object_and_varied_is_the_default():
    assert same(make_phantom(3, "small", setting=Setting()), small(3, "plain"))
    assert same(make_phantom(3, "small"), small(3, "varied"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_torchs_global_generator_is_neither_used_nor_changed(setting):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert same(make_phantom(3, "small", setting=setting), small(3, setting))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"size": "large"}, {"setting": "plane"}])
def test_wrong_arguments_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(UsageError) as error:
        make_phantom(**{"seed": 0, "size": "small", **arguments})
    assert (error.value.subject, error.value.found) == (name, value)


def test_tiny_tumours_grow_to_one_millilitre():
    tiny = Setting(radius_high_mm=(1, 1), radius_low_mm=(1, 1), has_edema=0)
    for seed in range(5):
        assert (make_phantom(seed, "small", setting=tiny).label > 0).sum() * VOXEL_ML >= 1


@pytest.mark.parametrize("change", [{"cystic": 1}, {"bleeds": 1}, {"rings": 1}, {"thick": 1}, {"tube_gain": (1, 1)}])
def test_switching_on_a_step_keeps_whole_tumour_and_core_of_a_plain_case(change):
    for seed in (1, 2):
        plain, changed = small(seed, "plain"), make_phantom(seed, "small", setting=replace(Setting(), **change))
        core, changed_core = region(plain, "TC"), region(changed, "TC")
        np.testing.assert_array_equal(plain.label == 2, changed.label == 2)
        np.testing.assert_array_equal(core, changed_core)
        assert (changed.label[changed.label != plain.label] == 1).all()  # a cyst in tissue that would have enhanced
        np.testing.assert_array_equal(plain.images["t1"] != 0, changed.images["t1"] != 0)


def test_a_cyst_changes_only_the_core(still_case):
    changed_somewhere = False
    for seed in range(6):
        off, on = (still_case(seed, cystic=chance) for chance in (0, 1))
        a, b = off.image[0], on.image[0]
        scale = (b[a != 0] / a[a != 0]).median()  # undoes the scaling to a mean
        changed = (a * scale - b).abs() > 0.02 * a.mean()
        assert torch.isin(on.label[changed], torch.tensor([1, 4])).all()
        changed_somewhere |= bool(changed.any())
    assert changed_somewhere


def test_skull_is_visible_but_never_labelled(still_case):
    shown = 0
    for seed in range(6):
        off, on = (still_case(seed, leaves_skull=chance) for chance in (0, 1))
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


def test_the_tensors_hold_the_same_case():
    grown, case = make_phantom_tensors(3, "small"), small(3)
    box = tuple(slice(a, a + n) for a, n in zip(grown.box.start, grown.box.shape, strict=True))
    assert grown.image.dtype == torch.float32
    np.testing.assert_array_equal(grown.image.numpy(), np.stack([case.images[name][box] for name in MODALITIES]))
    np.testing.assert_array_equal(grown.label.numpy(), case.label[box])
    assert all((array != 0).sum() == (array[box] != 0).sum() for array in case.images.values())


def test_every_healthy_voxel_of_the_brain_has_a_tissue(still_case):
    case = still_case(3)
    t1 = case.image[MODALITIES.index("t1")]
    assert torch.equal(case.tissue > 0, (t1 != 0) & (case.label == 0))
    csf, grey, white = (t1[case.tissue == k].median() for k in (1, 2, 3))
    assert csf < grey < white


def test_a_full_size_case_fits_the_brats_grid():
    case = make_phantom(1, setting="plain")
    assert case.label.shape == (240, 240, 155)
    assert case.images["flair"].shape == (240, 240, 155)
    np.testing.assert_array_equal(case.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    inside = np.argwhere(case.images["t1"])
    middle = (inside.min(0) + inside.max(0)) / 2
    np.testing.assert_allclose(middle, [119.5, 127, 73], atol=15)
    assert (case.label > 0).sum() >= 1000


@pytest.mark.slow
def test_volumes_and_numbers_of_regions_cover_the_published_ones():
    """Varied phantoms cover each third of BraTS 2020's volumes; docs/phantoms.md has the source."""
    cases = [small(seed) for seed in range(100)]
    volumes_ml = {
        name: np.array([region(case, name).sum() * VOXEL_ML for case in cases]) for name in ("WT", "TC", "ET")
    }
    for name, (low, high) in {"WT": (63.1, 125.3), "TC": (19.2, 49.9), "ET": (9.1, 26.2)}.items():
        result = volumes_ml[name][volumes_ml[name] > 0]
        shares = np.histogram(result, [0, low, high, np.inf])[0] / len(result)
        assert shares.min() > 0.1, (name, shares)
        assert shares.max() < 0.7, (name, shares)
    assert volumes_ml["WT"].max() < 600
    assert 0.6 < (volumes_ml["ET"] > 0).mean() < 0.95
    parts = [np.bincount(ndimage.label(case.label > 0, np.ones((3, 3, 3)))[0].ravel())[1:] * VOXEL_ML for case in cases]
    assert 0.03 < np.mean([(part >= 1).sum() > 1 for part in parts]) < 0.35


@pytest.mark.gpu
def test_a_case_made_on_a_gpu_has_the_form_of_a_brats_case():
    check_form(make_phantom(1, "small", "cuda"), SETTINGS["varied"])
    assert same(make_phantom(1, "small", "cuda"), make_phantom(1, "small", "cuda"))
