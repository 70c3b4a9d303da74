"""The head of a phantom: deformation, ventricles, sulci, and skull-stripping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from brats3d.phantoms.atlas import (
    COARSE_MM,
    DEPTH,
    MM_INSIDE,
    MM_OUTSIDE,
    VENTRICLES,
    look_up,
    sample_atlas,
    sample_landmarks,
    to_mni,
)
from brats3d.phantoms.head import (
    SIZES,
    Box,
    find_brain_box,
    move_ventricles,
    place_head,
    refine,
    sample_tissue,
    strip_skull,
)
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Range, Setting

UNMOVED = Setting(rotation_deg=(0, 0), scale=(1, 1), shift_mm=(0, 0), warp_mm=(0, 0), strip_mm=(0, 0), sharpness=(1, 1))
"""The unmoved atlas; tests switch on one step at a time."""
SMALL = SIZES["small"]


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def still_head(**steps: object) -> tuple[torch.Tensor, Box]:
    coords = place_head(stream(), replace(UNMOVED, **steps), SMALL)
    return coords, find_brain_box(coords, SMALL.voxel_mm)


def tissue(seed: int = 0, **steps: object) -> torch.Tensor:
    coords, box = still_head()
    setting = replace(UNMOVED, **steps)
    return sample_tissue(stream(seed), setting, move_ventricles(stream(seed), setting, coords), box)


def test_the_unmoved_atlas_lies_in_the_middle_of_the_grid():
    coords, _ = still_head()
    np.testing.assert_allclose(coords[0, :3, 0, 0], [-94, -90, -86])
    np.testing.assert_allclose(coords[:, -1, -1, -1], [94, 94, 78])
    full = place_head(stream(), UNMOVED, SIZES["full"])
    assert full.shape == (3, 60, 60, 39)
    # By hand: the middle of BraTS's grid lies 0.5 mm left of, 7 mm in front of and 4 mm above that of the head.
    middle = full[:, 29:31, 29:31, 19].mean((1, 2))
    np.testing.assert_allclose(middle, [0.5, -7, 4], atol=1e-5)


def test_a_smaller_head_looks_up_the_atlas_further_out():
    assert torch.allclose(still_head(scale=(0.5, 0.5))[0], still_head()[0] * 2)


def test_quarter_turns_swap_axes():
    turned = Setting(rotation_deg=(90, 90), scale=(1, 1), shift_mm=(0, 0), warp_mm=(0, 0))
    coords = place_head(stream(), turned, SMALL)
    middle, ahead = coords[:, 24, 24, 20], coords[:, 25, 24, 20]
    # by hand: about z, x goes to y; about y, y stays; about x, y goes to z
    np.testing.assert_allclose(ahead - middle, [0, 0, COARSE_MM], atol=1e-4)


def test_a_rigid_rotation_keeps_distances_and_changes_no_other_step():
    for seed in range(4):
        bent = replace(UNMOVED, scale=(0.8, 1), warp_mm=(3, 3), rotation_deg=(0, 0))
        straight, turned = (
            place_head(stream(seed), replace(setting, rigid_rotation_deg=(9, 12)), SMALL)
            for setting in (UNMOVED, replace(UNMOVED, rotation_deg=(-8, 8)))
        )
        assert torch.equal(straight, turned)
        steps = torch.stack([straight.diff(dim=k + 1)[:, 0, 0, 0] for k in range(3)]) / COARSE_MM
        np.testing.assert_allclose(steps @ steps.T, np.eye(3), atol=1e-5)
        assert np.degrees(np.arccos((float(steps.trace()) - 1) / 2)) > 10
        off, on = (place_head(stream(seed), replace(bent, rigid_rotation_deg=(a, a)), SMALL) for a in (0, 1e-9))
        np.testing.assert_allclose(off, on, atol=1e-4)


@pytest.mark.parametrize("step", ["warp", "fold"])
def test_a_warp_has_the_given_amplitude_and_length(step):
    amplitude, length = 3, 24 if step == "warp" else 12
    coords, _ = still_head(**{f"{step}_mm": (amplitude, amplitude), f"{step}_length_mm": (length, length)})
    moved = coords - still_head()[0]
    assert 0.3 * amplitude < moved.std() < amplitude
    bends = (moved[:, 2:] - 2 * moved[:, 1:-1] + moved[:, :-2]).abs().amax((0, 2, 3))
    nodes = round(48 / (length / COARSE_MM)) + 2
    assert (bends > 1e-3).sum() <= 2 * nodes  # straight lines except at the nodes


def test_folding_does_not_affect_the_other_deformations():
    folded, plain = (place_head(stream(4), Setting(fold_mm=mm), SMALL) for mm in ((1.5, 1.5), (0, 0)))
    only_fold, _ = still_head(fold_mm=(1.5, 1.5))
    again = place_head(stream(4), replace(UNMOVED, fold_mm=(1.5, 1.5)), SMALL) - still_head()[0]
    assert torch.allclose(folded - plain, again, atol=1e-4)
    assert (only_fold != still_head()[0]).any()


def test_a_bend_is_strong_and_does_not_fold():
    straight = place_head(stream(), UNMOVED, SMALL)
    for seed in range(6):
        bent = place_head(stream(seed), replace(UNMOVED, bend_mm=(5, 5), bend_length_mm=(40, 40)), SMALL)
        moved = bent - straight
        assert 6 < moved.norm(dim=0).max() < 30
        slopes = torch.stack([torch.stack(torch.gradient(part)) for part in bent]) / COARSE_MM
        assert torch.linalg.det(slopes.permute(2, 3, 4, 0, 1)).min() > 0.2


def test_bending_back_undoes_a_bend():
    """Following the opposite field leads back, to within the error of interpolation on a grid of 4 mm."""
    setting = replace(UNMOVED, bend_mm=(5, 5), bend_length_mm=(60, 60))
    grid = place_head(stream(), UNMOVED, SMALL)
    there = place_head(stream(2), setting, SMALL) - grid
    back = place_head(stream(2), replace(setting, bend_mm=(-5, -5)), SMALL) - grid
    returned = there + look_up(back, grid + there, COARSE_MM)
    inside = (slice(None), *[slice(6, -6)] * 3)
    assert there[inside].norm(dim=0).mean() > 3
    assert returned[inside].norm(dim=0).mean() < 0.2


def test_the_box_contains_the_brain_with_a_margin_of_one_coarse_voxel():
    coords, box = still_head(scale=(0.8, 0.8))
    inside = sample_atlas(coords, COARSE_MM, DEPTH)[0] > 0
    part = inside[tuple(slice(a, a + n) for a, n in zip(box.start, box.shape, strict=True))]
    assert part.sum() == inside.sum()
    for axis in range(3):
        filled = part.any(tuple({0, 1, 2} - {axis})).nonzero().flatten()
        assert filled[0] == 1
        assert filled[-1] == box.shape[axis] - 2


def test_refining_keeps_positions():
    coords = place_head(stream(), UNMOVED, SIZES["full"])
    box = find_brain_box(coords, 1)
    fine = refine(coords, box)
    assert fine.shape[1:] == box.shape
    # Neighbours are 1 mm apart, except at the edges of the box, where interpolation has no data outside.
    np.testing.assert_allclose((fine[0, 1:] - fine[0, :-1])[2:-2], 1, atol=1e-4)
    grid = box.axes_mm(torch.device("cpu"))
    assert float((fine[0, 2:-2] - grid[0][2:-2]).std()) < 1e-4


def test_fractions_add_up_to_one_in_every_setting():
    for setting in (UNMOVED, Setting(), replace(UNMOVED, gyri=(0.6, 0.6), csf_weight=(3, 3), sharpness=(3, 3))):
        coords, box = still_head()
        fractions = sample_tissue(stream(), setting, coords, box)
        np.testing.assert_allclose(fractions.sum(0), 1, atol=1e-5)
        assert fractions.min() > 0


def test_only_ventricles_grow_and_shrink():
    coords, box = still_head()
    near = refine(sample_landmarks(coords, VENTRICLES), box)[0]
    depth = refine(sample_landmarks(coords, MM_INSIDE), box)[0]
    volumes_ml, cortex_ml = [], []
    for mm in (-2, 0, 3, 7):
        csf = tissue(ventricle_mm=(mm, mm))[0]
        volumes_ml.append(float(csf[near > 0.3].sum()) * 0.064)
        cortex_ml.append(float(csf[(depth > 0) & (near < 0.01)].sum()) * 0.064)
    assert volumes_ml == sorted(volumes_ml)
    assert volumes_ml[0] < 0.85 * volumes_ml[1]
    assert volumes_ml[3] > 1.4 * volumes_ml[1]
    np.testing.assert_allclose(cortex_ml, cortex_ml[1], rtol=0.01)


@pytest.mark.parametrize("skew", [-0.6, 0.6])
def test_the_widest_ventricles_do_not_fold_the_atlas(skew):
    coords, _ = still_head()
    moved = move_ventricles(stream(), replace(UNMOVED, ventricle_mm=(9, 9), ventricle_skew=(skew, skew)), coords)
    columns = torch.stack(torch.gradient(moved, spacing=COARSE_MM, dim=(1, 2, 3)), 1)
    assert torch.linalg.det(columns.permute(2, 3, 4, 0, 1)).min() >= 0


def ventricles_ml(**steps: object) -> tuple[float, float]:
    """Return the volume of fluid in and around the left and the right lateral ventricle."""
    coords, box = still_head()
    near, right_mm = refine(sample_landmarks(coords, VENTRICLES), box)[0], refine(to_mni(coords)[:1], box)[0]
    csf = tissue(**steps)[0]
    return tuple(float(csf[(near > 0.2) & side].sum()) * 0.064 for side in (right_mm < 0, right_mm > 0))


def test_a_skew_moves_the_walls_of_one_side_further_and_of_the_other_less():
    move = {"ventricle_mm": (6, 6)}
    even, left, right = (ventricles_ml(**move, ventricle_skew=(skew, skew)) for skew in (0, 0.6, -0.6))
    assert left[0] > 1.1 * even[0]
    assert left[1] < 0.9 * even[1]
    assert right[0] < 0.9 * even[0]
    assert right[1] > 1.1 * even[1]
    assert ventricles_ml(ventricle_skew=(0.6, 0.6)) == ventricles_ml()  # a fraction of zero movement


@pytest.mark.parametrize("level", [0.2, 0.4, 0.65])
def test_walls_enclose_only_fluid_and_change_nothing_far_from_the_ventricles(level):
    coords, box = still_head()
    near = refine(sample_landmarks(coords, VENTRICLES), box)[0]
    blurred, walled = tissue(), tissue(ventricle_level=(level, level))
    np.testing.assert_allclose(walled.sum(0), 1, atol=1e-5)
    assert walled.min() > 0
    between = [float(((t[0] > 0.1) & (t[0] < 0.9))[near > 0.4].float().mean()) for t in (blurred, walled)]
    assert between[0] > 0.8  # averaging has blurred every wall
    assert between[1] < 0.3  # voxels of 4 mm on the wall
    assert walled[0][near > 0.4].max() > 0.99
    assert (walled - blurred).abs().sum(0)[near < 0.1].max() < 1e-3


def test_walls_keep_the_ratio_of_grey_to_white_matter():
    blurred, walled = (tissue(ventricle_level=level) for level in ((0, 0), (0.5, 0.5)))
    both = (walled[1:] > 0.02).all(0) & (blurred[1:] > 0.02).all(0)
    np.testing.assert_allclose((walled[1] / walled[2])[both], (blurred[1] / blurred[2])[both], rtol=1e-3)


def test_a_higher_level_of_fluid_makes_smaller_ventricles():
    volumes_ml = [sum(ventricles_ml(ventricle_level=(level, level))) for level in (0.2, 0.4, 0.65)]
    assert volumes_ml == sorted(volumes_ml, reverse=True)
    assert volumes_ml[2] < 0.8 * volumes_ml[0]


def test_csf_weight_widens_or_narrows_sulci():
    coords, box = still_head()
    brain = sample_atlas(refine(coords, box), SMALL.voxel_mm, DEPTH)[0] > 0
    narrow, unchanged, wide = (float(tissue(csf_weight=(w, w))[0][brain].mean()) for w in (0.5, 1, 3))
    assert narrow < 0.85 * unchanged
    assert wide > 1.3 * unchanged


def test_sharpness_brings_fractions_nearer_to_one_tissue():
    most = [float(tissue(sharpness=(s, s)).amax(0).mean()) for s in (1, 2, 3)]
    assert most == sorted(most)
    assert torch.equal(tissue(sharpness=(1, 1)).argmax(0), tissue(sharpness=(3, 3)).argmax(0))


def test_gyri_are_cut_only_into_the_cortex():
    coords, box = still_head()
    depth = refine(sample_landmarks(coords, MM_INSIDE), box)[0]
    off, on = tissue(), tissue(gyri=(0.6, 0.6))
    changed = (on - off).abs().sum(0)
    assert not changed[depth > 22].any()
    assert changed[(depth > 2) & (depth < 12)].mean() > 0.1
    added = (on - off)[:, (depth > 0) & (off[1] > 0.5)]
    assert added[0].max() > 0.2  # sulci
    assert added[2].max() > 0.1  # blades of white matter
    assert (tissue(seed=1, gyri=(0.6, 0.6)) != on).any()


def strip(seed: int, **steps: Range | float) -> tuple[torch.Tensor, torch.Tensor]:
    coords, box = still_head()
    return strip_skull(stream(seed), replace(UNMOVED, **steps), coords, box)


def test_a_deeper_cut_leaves_less_brain():
    left = [int(strip(0, strip_mm=(mm, mm))[0].sum()) for mm in (0, 2, 4)]
    assert left == sorted(left, reverse=True)
    assert left[2] < 0.9 * left[0]


@given(seed=st.integers(0, 2**40))
@settings(deadline=None, max_examples=8)
def test_bites_only_remove_brain_and_skull_lies_outside_it(seed):
    brain, skull = strip(seed)
    bitten, _ = strip(seed, bitten=1)
    same, left = strip(seed, leaves_skull=1)
    assert not skull.any()
    assert not (bitten & ~brain).any()
    assert bitten.sum() > 0.8 * brain.sum()
    assert torch.equal(same, brain)
    assert not (left & brain).any()
    coords, box = still_head()
    assert not (left & (refine(sample_landmarks(coords, MM_OUTSIDE), box)[0] >= 4)).any()


def test_bites_go_no_deeper_than_the_given_depth():
    coords, box = still_head()
    depth = refine(sample_landmarks(coords, MM_INSIDE), box)[0]
    deepest = 0
    for seed in range(8):
        whole, bitten = (strip(seed, strip_mm=(2, 2), bitten=chance, bite_mm=(14, 14))[0] for chance in (0, 1))
        gone = whole & ~bitten
        assert not gone[depth > 14 + 2 + 4].any()  # the cut is uneven by a few mm
        deepest = max(deepest, float(depth[gone].max()))
    assert deepest > 10


def test_skull_never_lies_in_a_bite():
    beside = 0
    for seed in range(12):
        on = {"bitten": 1, "bite_mm": (10, 10)}
        whole, (bitten, skull) = strip(seed)[0], strip(seed, **on, leaves_skull=1, skull_mm=(4, 4))
        assert torch.equal(bitten, strip(seed, **on)[0])
        assert not (skull & whole).any()
        bite = (whole & ~bitten).numpy()
        beside += int((ndimage.binary_dilation(bite, iterations=2) & skull.numpy()).sum())
    assert beside > 20  # skull lies beside bites


def test_some_cases_are_bitten_and_some_keep_skull():
    assert sum(int((strip(seed)[0] & ~strip(seed, bitten=1)[0]).sum()) > 50 for seed in range(10)) >= 5
    assert sum(int(strip(seed, leaves_skull=1)[1].sum()) > 20 for seed in range(10)) >= 5


def test_a_head_larger_than_the_grid_is_cut_with_background_on_all_sides():
    coords, box = still_head(scale=(1.5, 1.5))
    brain, skull = strip_skull(stream(), replace(UNMOVED, leaves_skull=1), coords, box)
    whole = np.zeros(box.grid_shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(box.start, box.shape, strict=True))] = brain | skull
    assert whole.any()
    for axis in range(3):
        assert not whole.take([0, -1], axis).any()


def test_the_stripped_brain_is_in_one_piece():
    brain, _ = strip(0, strip_mm=(3, 3))
    numbers, count = ndimage.label(brain.numpy())
    assert count == 1 or np.bincount(numbers.ravel())[1:].max() > 0.99 * brain.sum()
