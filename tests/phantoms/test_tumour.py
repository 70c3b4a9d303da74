"""The tumour of a phantom: where it stands, how it spreads, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from brats3d.phantoms import tumour as module
from brats3d.phantoms.atlas import COARSE_MM, DEPTH, sample_atlas, to_mni
from brats3d.phantoms.head import SIZES, Head, brain_box, place_head, refine, sample_tissue, strip_skull
from brats3d.phantoms.noise import Draw
from brats3d.phantoms.phantom import grow_phantom
from brats3d.phantoms.settings import SETTINGS, Ranges
from brats3d.phantoms.tumour import (
    BLOOD,
    CORE,
    CYST,
    EDEMA,
    ENHANCING,
    MIN_ENHANCING_ML,
    MIN_TUMOUR_ML,
    Focus,
    Tumour,
    grow_tumour,
    place_tumour,
    push_tissue,
)

SMOOTH = Ranges(
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
"""Smooth ellipsoids in the atlas as it is, solid all through; steps are switched on one at a time."""
VOXEL_ML = COARSE_MM**3 / 1000


def draw(seed: int = 0) -> Draw:
    return Draw(seed, torch.device("cpu"))


@cache
def still_head() -> Head:
    coords = place_head(draw(), SMOOTH, SIZES["small"])
    frame = brain_box(coords, COARSE_MM)
    brain, skull = strip_skull(draw(), SMOOTH, coords, frame)
    return Head(frame, brain, skull, sample_tissue(draw(), SMOOTH, coords, frame), coords)


def focus_at(*mni: float, radius_mm: float = 18, edema_mm: float = 10, push_mm: float = 0) -> Focus:
    """A ball around a point in MNI coordinates (right, anterior, superior)."""
    x, y, z = torch.tensor(mni, dtype=torch.float32) - to_mni(torch.zeros(3))
    return Focus(torch.stack([-x, -y, z]), radius_mm, torch.ones(3), push_mm, edema_mm)


def grow(focus: Focus, seed: int = 0, low_grade: bool = False, **on: object) -> Tumour:
    return grow_tumour(draw(seed), replace(SMOOTH, **on), still_head(), [focus], low_grade)


def core_of(tumour: Tumour) -> torch.Tensor:
    return (tumour.tissue > 0) & (tumour.tissue != EDEMA)


# --- place and size ---


@given(seed=st.integers(0, 2**40), setting=st.sampled_from(list(SETTINGS)), low_grade=st.booleans())
@settings(deadline=None, max_examples=40)
def test_foci_stand_in_brain_tissue_with_sizes_from_the_table(seed, setting, low_grade):
    ranges, coords = SETTINGS[setting], still_head().coords
    foci = place_tumour(draw(seed), ranges, coords, low_grade)
    assert 1 <= len(foci) <= 4
    first = ranges.radius_low_mm if low_grade else ranges.radius_high_mm
    allowed = [first, *([ranges.radius_small_mm] if ranges.small else [])]
    assert any(low <= foci[0].radius_mm <= high for low, high in allowed)
    for focus in foci[1:]:
        assert ranges.radius_second_mm[0] <= focus.radius_mm <= ranges.radius_second_mm[1]
    for focus in foci:
        index = (focus.centre_mm / COARSE_MM + (torch.tensor(coords.shape[1:]) - 1) / 2).round().long()
        gm, wm, depth = sample_atlas(coords[:, index[0], index[1], index[2]].view(3, 1, 1, 1), COARSE_MM).flatten()
        assert gm + wm > 0.5
        assert depth > 0
        assert 0 <= focus.push_mm <= ranges.push[1] * focus.radius_mm


def test_small_lesions_are_small():
    for seed in range(20):
        focus = place_tumour(draw(seed), replace(SMOOTH, small=1), still_head().coords, low_grade=True)[0]
        assert 3 <= focus.radius_mm <= 9


def test_the_cerebellum_is_left_out_unless_chance_has_it():
    def in_cerebellum(seed: int, chance: float) -> bool:
        focus = place_tumour(draw(seed), replace(SMOOTH, cerebellar=chance), still_head().coords, False)[0]
        _, y, z = to_mni(focus.centre_mm.view(3, 1)).flatten()
        return bool((y < -36 - COARSE_MM) & (z < -14 - COARSE_MM))

    assert not any(in_cerebellum(seed, 0) for seed in range(60))
    assert any(in_cerebellum(seed, 1) for seed in range(60))


def test_further_foci_are_at_most_four_and_leave_the_first_as_it_was():
    few, many = (
        [
            place_tumour(draw(s), replace(SMOOTH, second_focus=1, more_foci=c), still_head().coords, False)
            for s in range(5)
        ]
        for c in (0, 1)
    )
    assert {len(foci) for foci in few} == {2}
    assert {len(foci) for foci in many} == {4}
    for one, other in zip(few, many, strict=True):
        assert torch.equal(one[0].centre_mm, other[0].centre_mm)
        assert torch.equal(one[1].centre_mm, other[1].centre_mm)


# --- mass effect ---


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


def test_mass_effect_shifts_the_midline_away_from_the_tumour():
    head = still_head()
    pushed = push_tissue(head.coords, [focus_at(28, 10, 20, radius_mm=25, push_mm=12)])
    midline = to_mni(head.coords)[0].abs() < COARSE_MM / 2
    level = (to_mni(head.coords)[1] - 10).abs() + (to_mni(head.coords)[2] - 20).abs() < 12
    shift_mm = to_mni(pushed)[0][midline & level].mean() - to_mni(head.coords)[0][midline & level].mean()
    assert shift_mm > 2  # what stands at the midline now was to its right, where the tumour is


# --- spread ---


@pytest.fixture
def painted_atlas(monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """``painted_atlas(gm, wm)``: the atlas is these fractions; returns coordinates, a plane 100 mm from the midline."""

    def paint(gm: torch.Tensor, wm: torch.Tensor) -> torch.Tensor:
        monkeypatch.setattr(module, "sample_atlas", lambda *_: torch.stack([gm, wm, torch.full_like(gm, 8)]))
        axes = [(torch.arange(n) - (n - 1) / 2) * COARSE_MM for n in gm.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")) + torch.tensor([100.0, 0, 0]).view(3, 1, 1, 1)

    return paint


def detour_mm(coords: torch.Tensor, **on: object) -> torch.Tensor:
    focus = Focus(torch.zeros(3), radius_mm=6, stretch=torch.ones(3), push_mm=0, edema_mm=20)
    return module._detour_mm(draw(), replace(SMOOTH, **on), coords, focus)


def test_there_is_no_detour_where_nothing_is_in_the_way(painted_atlas):
    wm = torch.ones(21, 21, 21)
    assert detour_mm(painted_atlas(torch.zeros_like(wm), wm)).max() == 0


def test_grey_matter_is_as_much_slower_as_it_says(painted_atlas):
    gm = torch.ones(21, 21, 21)
    detour = detour_mm(painted_atlas(gm, torch.zeros_like(gm)), slow_in_gm=(2, 2))
    assert detour[10, 10, 10] == 0
    # by hand, along an axis: the focus's own 6 mm hold its middle and the next voxel; each step after that takes
    # 8 instead of 4
    np.testing.assert_allclose(detour[10, 10, 10:18], [0, 0, 4, 8, 12, 16, 20, 24], atol=1e-4)


def test_fluid_is_in_the_way_unless_there_is_a_way_around(painted_atlas):
    wm = torch.ones(21, 21, 21)
    wm[:, :, 13:15] = 0
    behind = detour_mm(painted_atlas(torch.zeros_like(wm), wm))[10, 10, 12:17]
    # by hand: into the fluid (1 + 5) / 2 x 4 = 12 instead of 4, through it 20 instead of 4, out of it 12 instead of 4
    np.testing.assert_allclose(behind, [0, 8, 24, 32, 32], atol=1e-4)
    wm[11, 10, 13:15] = 1
    with_gap = detour_mm(painted_atlas(torch.zeros_like(wm), wm))[10, 10, 15:17]
    assert (with_gap < 10).all()


def test_edema_does_not_cross_the_falx():
    head = still_head()
    other_side = to_mni(refine(head.coords, head.frame))[0] < -COARSE_MM
    for place in ((14, -30, 55), (12, 10, 50), (14, -60, 40)):
        focus = focus_at(*place, radius_mm=8, edema_mm=20)
        free, held = (grow(focus, low_grade=True, infiltrates=on).tissue for on in (False, True))
        assert (free[other_side] > 0).sum() * VOXEL_ML > 4
        assert not held[other_side].any()


def test_edema_crosses_the_corpus_callosum_and_nothing_else():
    head = still_head()
    x, y, _ = to_mni(refine(head.coords, head.frame))
    for place in ((16, 22, 20), (18, -42, 22)):  # beside the genu and the splenium
        tissue = grow(focus_at(*place, radius_mm=8, edema_mm=20), low_grade=True, infiltrates=True).tissue
        crossed = (tissue == EDEMA) & (x < -COARSE_MM / 2)
        assert crossed.sum() * VOXEL_ML > 0.8
        assert ((y[crossed] - place[1]).abs() < 25).all()
        assert head.tissue[2][(tissue == EDEMA) & (x.abs() < COARSE_MM / 2)].mean() > 0.35


def test_edema_reaches_further_in_white_matter_than_in_grey():
    head = still_head()
    focus = focus_at(35, -20, 35, radius_mm=10, edema_mm=15)
    less, more = (grow(focus, low_grade=True, edema_in_white_matter_mm=mm).tissue for mm in (0, 16))
    gained, lost = (more > 0) & (less == 0), (less > 0) & (more == 0)
    assert head.tissue[2][gained].mean() > 0.6
    assert head.tissue[2][lost].mean() < 0.5


@pytest.mark.parametrize("infiltrates", [False, True])
def test_tumour_keeps_out_of_fluid(infiltrates):
    head = still_head()
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


def test_a_diffuse_core_thins_out_towards_its_surface_and_its_labels_stay():
    focus = focus_at(35, -20, 35, radius_mm=30)
    firm = grow(focus, low_grade=True)
    tumour = grow(focus, low_grade=True, diffuse=1, margin_mm=(16, 16), margin_fade=(0.6, 0.6))
    assert firm.thin is None
    assert torch.equal(firm.tissue, tumour.tissue)
    core = core_of(tumour)
    below_mm = torch.from_numpy(ndimage.distance_transform_edt(core.numpy()) * COARSE_MM)
    assert tumour.thin[core & (below_mm <= 4)].mean() > 0.4
    assert tumour.thin[core & (below_mm > 20)].max() == 0
    assert tumour.thin.min() >= 0 and tumour.thin.max() <= 0.6


def test_only_low_grade_cores_are_diffuse():
    assert grow(focus_at(35, -20, 35), low_grade=False, diffuse=1).thin is None


# --- shape and content ---


def test_a_core_of_several_lobes_holds_that_of_one():
    focus = focus_at(30, -20, 30)
    one = core_of(grow(focus))
    several = [core_of(grow(focus, seed, lobes=3)) for seed in range(6)]
    assert all(not (one & ~core).any() for core in several)
    assert sum(core.sum() > 1.1 * one.sum() for core in several) >= 3


def test_a_rough_surface_is_no_ellipsoid():
    smooth, rough = (core_of(grow(focus_at(30, -20, 30), roughness=(r, r))) for r in (0, 0.4))
    assert (smooth & ~rough).sum() > 10
    assert (rough & ~smooth).sum() > 10


def test_low_grade_tumours_enhance_in_spots_or_not_at_all():
    focus = focus_at(30, -20, 30, radius_mm=25)
    assert not (grow(focus, low_grade=True).tissue == ENHANCING).any()
    spotted = grow(focus, low_grade=True, low_grade_enhances=1, low_grade_enhancement_level=(0.4, 0.4)).tissue
    assert 0 < (spotted == ENHANCING).sum() < 0.6 * (spotted == CORE).sum()


def test_necrosis_leaves_a_rim_that_is_as_thick_as_it_says():
    focus = focus_at(30, -20, 30, radius_mm=24)
    on = {"has_necrosis": 1, "necrosis_level": (-9, -9)}
    for rim_mm in (6, 12):
        tumour = grow(focus, rim_mm=(rim_mm, rim_mm), **on)
        _, distance = module._distance_mm(focus, still_head().frame)
        core = core_of(tumour)
        assert (tumour.tissue[core & (distance < 24 - rim_mm)] == CORE).all()
        assert (tumour.tissue[core & (distance >= 24 - rim_mm)] == ENHANCING).all()


def test_a_shell_around_what_enhances_does_not():
    focus = focus_at(30, -20, 30, radius_mm=24)
    plain, shelled = grow(focus), grow(focus, shell=1, shell_mm=(6, 6))
    assert torch.equal(core_of(plain), core_of(shelled))
    _, distance = module._distance_mm(focus, still_head().frame)
    shell = core_of(shelled) & (distance > 24 - 6)
    assert (shelled.tissue[shell] == CORE).all()
    assert (shelled.tissue[core_of(shelled) & ~shell] == ENHANCING).all()


@pytest.mark.parametrize(("step", "made"), [("cystic", CYST), ("bleeds", BLOOD)])
def test_cysts_and_blood_lie_within_the_core_and_change_nothing_outside(step, made):
    focus = focus_at(30, -20, 30, radius_mm=24)
    found = 0
    for seed in range(6):
        off, on = (grow(focus, seed, has_necrosis=1, **{step: chance}).tissue for chance in (0, 1))
        changed = off != on
        assert (on[changed] == made).all()
        assert not (off[changed] == EDEMA).any()
        assert (off[changed] > 0).all()
        if step == "bleeds":
            assert (off[changed] == CORE).all()
        found += bool(changed.any())
    assert found >= 3


def test_a_cyst_is_one_smooth_cavity_inside_a_wall():
    focus = focus_at(30, -20, 30, radius_mm=24)
    cyst = (grow(focus, cystic=1, cyst=(0.6, 0.6)).tissue == CYST).numpy()
    assert ndimage.label(cyst)[1] == 1
    outside = ~core_of(grow(focus)).numpy()
    assert not (ndimage.binary_dilation(cyst) & outside).any()


def test_foci_are_painted_together():
    foci = [focus_at(30, -20, 30, radius_mm=10), focus_at(-30, -20, 30, radius_mm=10)]
    both = grow_tumour(draw(), SMOOTH, still_head(), foci, low_grade=False)
    assert ndimage.label(core_of(both).numpy())[1] == 2


# --- what every tumour must be ---


def test_a_tiny_tumour_grows_until_it_is_one():
    tumour = grow(focus_at(30, -20, 30, radius_mm=1, edema_mm=0))
    assert (tumour.tissue > 0).sum() * VOXEL_ML >= MIN_TUMOUR_ML
    assert core_of(tumour).any()


@pytest.mark.parametrize("low_grade", [False, True])
def test_a_tumour_with_too_small_a_core_grows_until_it_is_large_enough(low_grade):
    focus = focus_at(30, -20, 30, radius_mm=6, edema_mm=20)
    small, grown = (grow(focus, low_grade=low_grade, min_core_ml=ml) for ml in (0, 3))
    assert core_of(small).sum() * VOXEL_ML < 2
    assert core_of(grown).sum() * VOXEL_ML >= 3
    assert not (core_of(small) & ~core_of(grown)).any()
    large = focus_at(30, -20, 30)
    assert torch.equal(*(grow(large, low_grade=low_grade, min_core_ml=ml).tissue for ml in (0, 3)))


def test_no_varied_case_has_a_smaller_core_than_its_table_says():
    varied = replace(SETTINGS["varied"], small=1)
    volumes_ml = {}
    for least_ml in (0, varied.min_core_ml):
        cases = (grow_phantom(seed, "small", setting=replace(varied, min_core_ml=least_ml)) for seed in range(4, 10))
        volumes_ml[least_ml] = [float(((c.label == 1) | (c.label == 4)).sum()) * VOXEL_ML for c in cases]
    assert min(volumes_ml[0]) < varied.min_core_ml  # as it would be
    assert min(volumes_ml[varied.min_core_ml]) >= varied.min_core_ml


def test_a_core_that_had_to_grow_leaves_the_healthy_brain_as_it_was():
    varied = replace(SETTINGS["varied"], small=1)
    small, grown = (grow_phantom(8, "small", setting=replace(varied, min_core_ml=ml)) for ml in (0, 0.3))
    assert not torch.equal(small.label, grown.label)
    far = (small.label == 0) & (grown.label == 0) & (small.image[2] != 0)
    scale = grown.image[2][far].median() / small.image[2][far].median()
    assert np.corrcoef(small.image[2][far], grown.image[2][far])[0, 1] > 0.995
    assert 0.97 < scale < 1.03


def test_a_speck_of_enhancement_is_none():
    specks = [
        grow(focus_at(30, -20, 30), seed, True, low_grade_enhances=1, low_grade_enhancement_level=(2, 3)).tissue
        for seed in range(12)
    ]
    volumes_ml = [float((tissue == ENHANCING).sum()) * VOXEL_ML for tissue in specks]
    assert all(volume == 0 or volume >= MIN_ENHANCING_ML for volume in volumes_ml)
    assert 0 in volumes_ml


def test_tumour_stays_within_what_is_left_of_the_brain():
    head = still_head()
    brain = head.brain & (to_mni(refine(head.coords, head.frame))[2] < 30)  # bitten off above
    tumour = grow_tumour(draw(), SMOOTH, replace(head, brain=brain), [focus_at(30, -20, 28)], low_grade=False)
    assert not (tumour.tissue[~brain]).any()
    assert (sample_atlas(refine(head.coords, head.frame), COARSE_MM, DEPTH)[0][tumour.tissue > 0] > 0).all()
