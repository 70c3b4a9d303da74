"""The atlas of healthy brains, and the landmarks computed from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brats3d.phantoms.atlas import (
    COARSE_MM,
    DEPTH,
    MM_INSIDE,
    MM_OUTSIDE,
    VENTRICLE_SLOPE,
    VENTRICLES,
    load_atlas,
    load_landmarks,
    sample_atlas,
    sample_landmarks,
    to_mni,
)

CPU = torch.device("cpu")


def positions(shape: tuple[int, ...], voxel_mm: int) -> torch.Tensor:
    """Return atlas coordinates of the voxels of a grid around the middle of the atlas."""
    axes = [(torch.arange(n) - (n - 1) / 2) * voxel_mm for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def at_mni(*point: float) -> torch.Tensor:
    """Convert one point from MNI to atlas coordinates, (3, 1, 1, 1)."""
    middle = to_mni(torch.zeros(3, 1, 1, 1))
    signs = torch.tensor([-1.0, -1.0, 1.0]).view(3, 1, 1, 1)
    return (torch.tensor(point).view(3, 1, 1, 1) - middle) * signs


def test_fractions_are_between_0_and_1_and_lie_within_the_brain():
    gm, wm, depth = load_atlas(COARSE_MM, CPU)
    assert gm.min() >= 0 and wm.min() >= 0
    assert (gm + wm).max() <= 1.01
    assert not (gm + wm)[depth == 0].any()
    assert 1.7e6 < float((depth > 0).sum()) * COARSE_MM**3 < 2.3e6  # the mask, with the CSF around the brain


def test_coordinates_agree_with_nilearns_affine():
    """The centre of the grey matter, in MNI millimetres, is the same by nilearn's affine."""
    from nilearn import datasets

    image = datasets.load_mni152_gm_template(resolution=1)
    mask = datasets.load_mni152_brain_mask(resolution=1).get_fdata()
    weights = image.get_fdata() * mask
    voxels = np.stack([np.average(g, weights=weights) for g in np.indices(weights.shape)])
    expected = (image.affine @ np.append(voxels, 1))[:3]
    gm = load_atlas(1, CPU)[0]
    result = (to_mni(positions(gm.shape, 1)) * gm).sum((1, 2, 3)) / gm.sum()
    np.testing.assert_allclose(result, expected, atol=0.01)


@pytest.mark.parametrize(
    ("point", "gm", "wm"),
    [
        ((6, 8, 14), False, False),  # the frontal horn: fluid
        ((26, -20, 30), False, True),  # the corona radiata
        ((0, 26, 4), False, True),  # the genu of the corpus callosum
        ((-12, 10, 10), True, False),  # the head of the caudate nucleus
    ],
)
def test_known_places_hold_the_expected_tissue(point, gm, wm):
    fractions = sample_atlas(at_mni(*point), 1).flatten()
    assert (fractions[0] > 0.5) == gm
    assert (fractions[1] > 0.5) == wm


def test_nearness_is_high_in_the_lateral_ventricles_and_0_far_away():
    places = {
        "ventricle": (12, -30, 18),
        "other side": (-12, -30, 18),
        "cortex": (40, -30, 60),
        "cerebellum": (20, -60, -40),
    }
    near = {name: float(sample_landmarks(at_mni(*point), VENTRICLES)) for name, point in places.items()}
    assert min(near["ventricle"], near["other side"]) > 0.4
    assert max(near["cortex"], near["cerebellum"]) < 0.01


def test_the_slope_points_to_the_ventricles():
    right_of_it, left_of_it = (sample_landmarks(at_mni(x, 0, 18), VENTRICLE_SLOPE).flatten() for x in (30, -30))
    assert right_of_it[0] > 0.1  # the first axis runs from right to left
    assert left_of_it[0] < -0.1
    assert load_landmarks(CPU)[VENTRICLE_SLOPE].square().sum(0).sqrt().max() == pytest.approx(1, abs=1e-5)


def test_depth_and_distance_outside_exclude_each_other():
    landmarks = load_landmarks(CPU)
    outside, inside = landmarks[MM_OUTSIDE][0], landmarks[MM_INSIDE][0]
    assert outside.min() == 0 and inside.min() == 0
    assert inside.max() > 40
    assert not ((outside > 2 * COARSE_MM) & (inside > 0)).any()
    assert float(sample_atlas(at_mni(6, 8, 14), 1, DEPTH)) == 8  # the cap
