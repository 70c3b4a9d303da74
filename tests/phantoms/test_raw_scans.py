"""Raw scans: rigid motions, grids that cover the brain, slices that average, noise in the air."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine

from brats3d.labels import MODALITIES
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.raw_scans import CLINICAL, Acquisition, Grid, add_scanner, draw_grid, draw_motions, scan_grid

OFF = (0, 0)
STILL = Acquisition(position_mm=OFF, position_deg=OFF, motion_mm=OFF, motion_deg=OFF, tilt_deg=OFF, coronal=0)
MIDDLE = np.array([-120.0, 112.0, 73.0])


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, torch.device("cpu"))


def sphere() -> np.ndarray:
    """Return points of a brain of 140 mm in diameter."""
    points = np.stack(np.meshgrid(*[np.arange(-70, 71, 10.0)] * 3), -1).reshape(-1, 3)
    return points[np.linalg.norm(points, axis=1) <= 70]


def test_without_motion_the_head_is_moved_to_the_origin_only():
    for motion in draw_motions(stream(), STILL, MIDDLE).values():
        np.testing.assert_array_equal(motion[:3, :3], np.eye(3))
        np.testing.assert_array_equal(motion[:3, 3], -MIDDLE)


def test_motions_are_rigid_and_differ_by_a_few_mm_between_sequences():
    motions = draw_motions(stream(1), CLINICAL, MIDDLE)
    assert tuple(motions) == MODALITIES
    for motion in motions.values():
        np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(motion[:3, :3]) > 0
    places = np.array([apply_affine(motion, MIDDLE) for motion in motions.values()])
    apart = np.linalg.norm(places[1:] - places[0], axis=1)
    assert (apart > 0.1).all() and (apart <= 8 * 3**0.5).all()
    assert np.abs(places).max() <= 12 + 4


@pytest.mark.parametrize(
    ("name", "coronal", "codes"), [("t2", 0, "LPS"), ("t2", 1, "LIP"), ("t1ce", 0, "PIL")], ids=["axial", "cor", "sag"]
)
def test_each_plane_has_its_own_orientation(name, coronal, codes):
    grid = draw_grid(stream(), replace(STILL, coronal=coronal, sagittal_t1ce=1), name, sphere())
    assert "".join(nib.aff2axcodes(grid.affine)) == codes
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    if name == "t1ce":
        np.testing.assert_allclose(spacing, 1)
    else:
        assert 0.8 <= spacing[0] == spacing[1] <= 1
        assert 4 <= spacing[2] <= 7


@pytest.mark.parametrize("name", MODALITIES)
def test_the_brain_lies_within_the_grid(name):
    for seed in range(10):
        grid = draw_grid(stream(seed), CLINICAL, name, sphere())
        voxels = apply_affine(np.linalg.inv(grid.affine), sphere())
        assert (voxels > 0).all() and (voxels < np.array(grid.shape) - 1).all()


def test_a_slice_averages_the_voxels_that_it_crosses():
    volume = np.zeros((6, 6, 12), np.float32)
    volume[..., 5] = 8
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[2, 3] = 1.5  # slices are voxels 0 to 3, 4 to 7, 8 to 11
    image = scan_grid(volume, np.eye(4), Grid((6, 6, 3), affine, 1))
    np.testing.assert_allclose(image[3, 3], [0, 2, 0])
    gaps = scan_grid(volume, np.eye(4), Grid((6, 6, 3), affine, 0.5))  # voxels 1 and 2, 5 and 6, 9 and 10
    np.testing.assert_allclose(gaps[3, 3], [0, 4, 0])


def test_air_shows_the_noise_of_a_magnitude_image():
    acquisition = Acquisition(coil=OFF, noise=(0.02, 0.02))
    image = add_scanner(stream(), acquisition, np.zeros((40, 40, 40), np.float32), brightness=1000)
    assert image.dtype == np.int16
    assert image.min() >= 0
    assert image.mean() == pytest.approx(20 * np.sqrt(np.pi / 2), rel=0.01)  # the mean of a Rayleigh distribution


def test_the_coil_makes_one_side_brighter():
    image = np.full((40, 40, 40), 1000, np.float32)
    even = add_scanner(stream(), Acquisition(coil=OFF, noise=OFF), image, 1000)
    uneven = add_scanner(stream(), Acquisition(coil=(0.1, 0.1), noise=OFF), image, 1000)
    assert (even == 1000).all()
    assert 30 < uneven.std() < 150
