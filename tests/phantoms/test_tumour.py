"""The tumour of a phantom: how it spreads, and what its core contains."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats3d.phantoms.atlas import COARSE_MM, DEPTH, sample_atlas, to_mni
from brats3d.phantoms.head import SIZES, Head, find_brain_box, place_head, refine, sample_tissue, strip_skull
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.phantom import make_phantom_tensors
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import (
    BLOOD,
    CORE,
    CYST,
    EDEMA,
    ENHANCING,
    MIN_ENHANCING_ML,
    MIN_TUMOUR_ML,
    Tumour,
    grow_tumour,
)
from brats3d.phantoms.tumour_focus import Focus, distance_mm

SMOOTH = Setting(
    rotation_deg=(0, 0),
    scale=(1, 1),
    shift_mm=(0, 0),
    warp_mm=(0, 0),
    strip_mm=(0, 0),
    sharpness=(1, 1),
    roughness=(0, 0),
    edema_roughness_mm=(0, 0),
    has_necrosis=0,
    low_grade_enhances=0,
)
"""Smooth, solid ellipsoids in the unmoved atlas; tests switch on one step at a time."""

VOXEL_ML = COARSE_MM**3 / 1000


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


@cache
def atlas_head() -> Head:
    coords = place_head(stream(), SMOOTH, SIZES["small"])
    box = find_brain_box(coords, COARSE_MM)
    brain, skull = strip_skull(stream(), SMOOTH, coords, box)
    return Head(box, brain, skull, sample_tissue(stream(), SMOOTH, coords, box), coords)


def focus_at(*mni: float, radius_mm: float = 18, edema_mm: float = 10, push_mm: float = 0) -> Focus:
    """Return a ball around a point in MNI coordinates (right, anterior, superior)."""
    x, y, z = torch.tensor(mni, dtype=torch.float32) - to_mni(torch.zeros(3))
    return Focus(torch.stack([-x, -y, z]), radius_mm, torch.ones(3), push_mm, edema_mm)


def grow(focus: Focus, seed: int = 0, low_grade: bool = False, **steps: object) -> Tumour:
    return grow_tumour(stream(seed), replace(SMOOTH, **steps), atlas_head(), [focus], low_grade)


def core_of(tumour: Tumour) -> torch.Tensor:
    return (tumour.tissue > 0) & (tumour.tissue != EDEMA)


def test_edema_does_not_cross_the_falx():
    head = atlas_head()
    other_side = to_mni(refine(head.coords, head.box))[0] < -COARSE_MM
    for place in ((14, -30, 55), (12, 10, 50), (14, -60, 40)):
        focus = focus_at(*place, radius_mm=8, edema_mm=20)
        free, held = (grow(focus, low_grade=True, infiltrates=on).tissue for on in (False, True))
        assert (free[other_side] > 0).sum() * VOXEL_ML > 4
        assert not held[other_side].any()


def test_edema_crosses_the_midline_only_through_the_corpus_callosum():
    head = atlas_head()
    x, y, _ = to_mni(refine(head.coords, head.box))
    for place in ((16, 22, 20), (18, -42, 22)):  # beside the genu and the splenium
        tissue = grow(focus_at(*place, radius_mm=8, edema_mm=20), low_grade=True, infiltrates=True).tissue
        crossed = (tissue == EDEMA) & (x < -COARSE_MM / 2)
        assert crossed.sum() * VOXEL_ML > 0.8
        assert ((y[crossed] - place[1]).abs() < 25).all()
        assert head.tissue[2][(tissue == EDEMA) & (x.abs() < COARSE_MM / 2)].mean() > 0.35


def test_edema_reaches_further_in_white_matter_than_in_grey():
    head = atlas_head()
    focus = focus_at(35, -20, 35, radius_mm=10, edema_mm=15)
    less, more = (grow(focus, low_grade=True, edema_in_white_matter_mm=mm).tissue for mm in (0, 16))
    gained, lost = (more > 0) & (less == 0), (less > 0) & (more == 0)
    assert head.tissue[2][gained].mean() > 0.6
    assert head.tissue[2][lost].mean() < 0.5


@pytest.mark.parametrize("infiltrates", [False, True])
def test_tumours_do_not_grow_into_fluid(infiltrates):
    head = atlas_head()
    tumour = grow(focus_at(14, 10, 18, radius_mm=15, edema_mm=20), infiltrates=infiltrates)
    assert not ((tumour.tissue == EDEMA) & (head.tissue[0] > 0.7)).any()
    if infiltrates:
        assert not (core_of(tumour) & (head.tissue[0] > 0.9)).any()


def test_edema_fades_from_the_core_outwards():
    tumour = grow(focus_at(35, -20, 35, radius_mm=10, edema_mm=20), edema_fade=(0.5, 0.5))
    edema = (tumour.tissue == EDEMA).numpy()
    beyond_core_mm = ndimage.distance_transform_edt(~core_of(tumour).numpy()) * COARSE_MM
    inner, outer = (
        float(tumour.fade[torch.from_numpy(edema & where)].mean())
        for where in (beyond_core_mm < 5, beyond_core_mm > 12)
    )
    assert inner < 0.35
    assert outer > 0.65
    assert tumour.fade.min() >= 0 and tumour.fade.max() <= 1


def test_a_diffuse_core_thins_out_towards_its_surface_and_keeps_its_label():
    focus = focus_at(35, -20, 35, radius_mm=30)
    firm = grow(focus, low_grade=True)
    tumour = grow(focus, low_grade=True, diffuse=1, margin_mm=(16, 16), margin_fade=(0.6, 0.6))
    assert firm.thinned is None
    assert torch.equal(firm.tissue, tumour.tissue)
    core = core_of(tumour)
    below_mm = torch.from_numpy(ndimage.distance_transform_edt(core.numpy()) * COARSE_MM)
    assert tumour.thinned[core & (below_mm <= 4)].mean() > 0.4
    assert tumour.thinned[core & (below_mm > 20)].max() == 0
    assert tumour.thinned.min() >= 0 and tumour.thinned.max() <= 0.6


def test_only_low_grade_cores_are_diffuse():
    assert grow(focus_at(35, -20, 35), low_grade=False, diffuse=1).thinned is None


def test_a_core_of_several_lobes_contains_that_of_one():
    focus = focus_at(30, -20, 30)
    one = core_of(grow(focus))
    several = [core_of(grow(focus, seed, lobes=3)) for seed in range(6)]
    assert all(not (one & ~core).any() for core in several)
    assert sum(core.sum() > 1.1 * one.sum() for core in several) >= 3


def test_a_rough_surface_deviates_from_the_ellipsoid_both_ways():
    smooth, rough = (core_of(grow(focus_at(30, -20, 30), roughness=(r, r))) for r in (0, 0.4))
    assert (smooth & ~rough).sum() > 10
    assert (rough & ~smooth).sum() > 10


def test_low_grade_tumours_enhance_in_spots_or_not_at_all():
    focus = focus_at(30, -20, 30, radius_mm=25)
    assert not (grow(focus, low_grade=True).tissue == ENHANCING).any()
    spotted = grow(focus, low_grade=True, low_grade_enhances=1, low_grade_enhancement_level=(0.4, 0.4)).tissue
    assert 0 < (spotted == ENHANCING).sum() < 0.6 * (spotted == CORE).sum()


def test_necrosis_leaves_a_rim_of_the_given_thickness():
    focus = focus_at(30, -20, 30, radius_mm=24)
    on = {"has_necrosis": 1, "necrosis_level": (-9, -9)}
    for rim_mm in (6, 12):
        tumour = grow(focus, rim_mm=(rim_mm, rim_mm), **on)
        _, distance = distance_mm(focus, atlas_head().box)
        core = core_of(tumour)
        assert (tumour.tissue[core & (distance < 24 - rim_mm)] == CORE).all()
        assert (tumour.tissue[core & (distance >= 24 - rim_mm)] == ENHANCING).all()


def test_a_thin_rim_surrounds_an_inside_that_is_all_necrotic():
    focus = focus_at(30, -20, 30, radius_mm=24)
    tumour = grow(focus, has_necrosis=1, thin_rim=1, thin_rim_mm=(4, 4), necrosis_level=(9, 9))
    _, distance = distance_mm(focus, atlas_head().box)
    assert torch.equal(tumour.tissue == ENHANCING, core_of(tumour) & (distance >= 24 - 4))


def test_only_a_nodule_of_a_core_enhances():
    focus = focus_at(30, -20, 30, radius_mm=24)
    plain, tumour = grow(focus), grow(focus, nodule=1, nodule_mm=(8, 8))
    assert torch.equal(core_of(plain), core_of(tumour))
    enhancing = tumour.tissue == ENHANCING
    assert 1 < enhancing.sum() * VOXEL_ML < 2.5  # a ball of 8 mm has 2.1 ml
    assert ndimage.label(enhancing.numpy())[1] == 1


def test_edema_with_fingers_keeps_to_white_matter():
    focus = focus_at(35, -20, 35, radius_mm=10, edema_mm=15)
    plain, fingers = (grow(focus, fingers_mm=(mm, mm)).tissue == EDEMA for mm in (0, 20))
    assert torch.equal(plain & fingers, fingers)
    white = atlas_head().tissue[2]
    assert white[fingers].mean() > white[plain].mean() + 0.1
    assert fingers.sum() > 0.3 * plain.sum()


def test_a_focus_without_a_core_is_edema_all_through():
    focus = focus_at(35, -20, 35, radius_mm=20, edema_mm=5)
    usual, coreless = grow(focus, low_grade=True), grow(replace(focus, has_core=False), low_grade=True, min_core_ml=1)
    assert not core_of(coreless).any()
    assert (coreless.tissue == EDEMA).sum() > 0.8 * (usual.tissue > 0).sum()


def test_a_stirred_core_keeps_its_volume_and_loses_its_roundness():
    focus = focus_at(30, -20, 30, radius_mm=28, edema_mm=0)
    round_core = core_of(grow(focus))
    for seed in range(4):
        stirred = core_of(grow(focus, seed, swirl=(0.6, 0.6)))
        assert 0.6 < stirred.sum() / round_core.sum() < 1.6
        assert (stirred & round_core).sum() < 0.9 * round_core.sum()


def test_edema_lies_beside_the_core_and_keeps_about_its_volume():
    focus = focus_at(30, -20, 30, radius_mm=6, edema_mm=20)
    centred, shifted = grow(focus), grow(focus, edema_shift=(0.6, 0.6))
    assert torch.equal(core_of(centred), core_of(shifted))
    middles = [t.tissue.eq(EDEMA).nonzero().float().mean(0) * COARSE_MM for t in (centred, shifted)]
    assert (middles[0] - middles[1]).norm() > 3
    assert 0.5 < (shifted.tissue == EDEMA).sum() / (centred.tissue == EDEMA).sum() < 2


def test_a_shell_around_enhancing_tissue_does_not_enhance():
    focus = focus_at(30, -20, 30, radius_mm=24)
    plain, shelled = grow(focus), grow(focus, shell=1, shell_mm=(6, 6))
    assert torch.equal(core_of(plain), core_of(shelled))
    _, distance = distance_mm(focus, atlas_head().box)
    shell = core_of(shelled) & (distance > 24 - 6)
    assert (shelled.tissue[shell] == CORE).all()
    assert (shelled.tissue[core_of(shelled) & ~shell] == ENHANCING).all()


@pytest.mark.parametrize(("step", "made"), [("cystic", CYST), ("bleeds", BLOOD)])
def test_cysts_and_blood_replace_only_core_tissue(step, made):
    focus = focus_at(30, -20, 30, radius_mm=24)
    result = 0
    for seed in range(6):
        off, on = (grow(focus, seed, has_necrosis=1, **{step: chance}).tissue for chance in (0, 1))
        changed = off != on
        assert (on[changed] == made).all()
        assert not (off[changed] == EDEMA).any()
        assert (off[changed] > 0).all()
        if step == "bleeds":
            assert (off[changed] == CORE).all()
        result += bool(changed.any())
    assert result >= 3


def test_a_cyst_is_one_smooth_cavity_inside_a_wall():
    focus = focus_at(30, -20, 30, radius_mm=24)
    cyst = (grow(focus, cystic=1, cyst=(0.6, 0.6)).tissue == CYST).numpy()
    assert ndimage.label(cyst)[1] == 1
    outside = ~core_of(grow(focus)).numpy()
    assert not (ndimage.binary_dilation(cyst) & outside).any()


def test_foci_are_painted_together():
    foci = [focus_at(30, -20, 30, radius_mm=10), focus_at(-30, -20, 30, radius_mm=10)]
    both = grow_tumour(stream(), SMOOTH, atlas_head(), foci, low_grade=False)
    assert ndimage.label(core_of(both).numpy())[1] == 2


def test_a_tiny_tumour_grows_to_the_minimum_volume():
    tumour = grow(focus_at(30, -20, 30, radius_mm=1, edema_mm=0))
    assert (tumour.tissue > 0).sum() * VOXEL_ML >= MIN_TUMOUR_ML
    assert core_of(tumour).any()


@pytest.mark.parametrize("low_grade", [False, True])
def test_a_tumour_with_too_small_a_core_grows_to_the_minimum_core(low_grade):
    focus = focus_at(30, -20, 30, radius_mm=6, edema_mm=20)
    small, grown = (grow(focus, low_grade=low_grade, min_core_ml=ml) for ml in (0, 3))
    assert core_of(small).sum() * VOXEL_ML < 2
    assert core_of(grown).sum() * VOXEL_ML >= 3
    assert not (core_of(small) & ~core_of(grown)).any()
    large = focus_at(30, -20, 30)
    assert torch.equal(*(grow(large, low_grade=low_grade, min_core_ml=ml).tissue for ml in (0, 3)))


def test_a_core_that_had_to_grow_leaves_the_healthy_brain_unchanged():
    varied = replace(SETTINGS["varied"], small=1)
    small, grown = (make_phantom_tensors(8, "small", setting=replace(varied, min_core_ml=ml)) for ml in (0, 0.3))
    core_ml = [float(((case.label == 1) | (case.label == 4)).sum()) * VOXEL_ML for case in (small, grown)]
    assert core_ml[0] < varied.min_core_ml <= core_ml[1]
    far = (small.label == 0) & (grown.label == 0) & (small.image[2] != 0)
    scale = grown.image[2][far].median() / small.image[2][far].median()
    assert np.corrcoef(small.image[2][far], grown.image[2][far])[0, 1] > 0.995
    assert 0.97 < scale < 1.03


def test_specks_of_enhancement_become_core():
    specks = [
        grow(focus_at(30, -20, 30), seed, True, low_grade_enhances=1, low_grade_enhancement_level=(2, 3)).tissue
        for seed in range(12)
    ]
    volumes_ml = [float((tissue == ENHANCING).sum()) * VOXEL_ML for tissue in specks]
    assert all(volume == 0 or volume >= MIN_ENHANCING_ML for volume in volumes_ml)
    assert 0 in volumes_ml


def test_tumours_stay_within_the_stripped_brain():
    head = atlas_head()
    brain = head.brain & (to_mni(refine(head.coords, head.box))[2] < 30)  # cut off at the top
    tumour = grow_tumour(stream(), SMOOTH, replace(head, brain=brain), [focus_at(30, -20, 28)], low_grade=False)
    assert not (tumour.tissue[~brain]).any()
    assert (sample_atlas(refine(head.coords, head.box), COARSE_MM, DEPTH)[0][tumour.tissue > 0] > 0).all()
