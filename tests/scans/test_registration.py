"""Rigid registration: a known motion is recovered across contrasts, and images that do not match are noticed."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from brats3d.scans.itk_images import RAS_TO_LPS, Grid
from brats3d.scans.registration import compose, register, rigid_part

SHAPE = (48, 44, 40)
AFFINE = np.diag([2.5, 2.5, 2.5, 1.0])
INSIDE = sum(((np.indices(SHAPE)[k] - (n - 1) / 2) / (0.42 * n)) ** 2 for k, n in enumerate(SHAPE)) < 1


def head(seed: int = 0) -> np.ndarray:
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.5)
    return np.where(INSIDE, 3 + texture / texture.std(), 0).astype(np.float32)


def motion(degrees: float, mm: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees, degrees / 2], degrees=True).as_matrix()
    matrix[:3, 3] = mm, -mm, mm / 2
    return matrix


def moved(transform: sitk.Transform) -> np.ndarray:
    """Return the RAS points to which voxels of the head are moved."""
    points = nib.affines.apply_affine(RAS_TO_LPS @ AFFINE, np.argwhere(INSIDE)[::97])
    found = np.array([transform.TransformPoint(point.tolist()) for point in points])
    return nib.affines.apply_affine(RAS_TO_LPS, found)


def test_a_known_motion_is_recovered_in_another_contrast_within_a_millimetre():
    fixed, known = head(), motion(6, 8)
    other = np.where(INSIDE, 1 / (0.5 + np.abs(fixed)), 0).astype(np.float32)
    found = register(Grid(SHAPE, AFFINE).to_itk(fixed), Grid(SHAPE, known @ AFFINE).to_itk(other))
    expected = nib.affines.apply_affine(known @ AFFINE, np.argwhere(INSIDE)[::97])
    assert np.linalg.norm(moved(found.transform) - expected, axis=1).mean() < 1
    assert found.lost_when_moved > 0.3


def test_the_result_is_the_same_twice():
    pair = Grid(SHAPE, AFFINE).to_itk(head()), Grid(SHAPE, motion(3, 3) @ AFFINE).to_itk(head())
    assert register(*pair).transform.GetParameters() == register(*pair).transform.GetParameters()


def test_images_of_different_things_lose_little_when_they_are_moved():
    texture = np.random.default_rng(1).normal(5, 1, SHAPE).astype(np.float32)
    found = register(Grid(SHAPE, AFFINE).to_itk(head()), Grid(SHAPE, AFFINE).to_itk(texture))
    assert found.lost_when_moved < 0.1


def test_the_size_of_a_head_is_found_and_left_out_of_the_rigid_part():
    larger = motion(4, 3) @ np.diag([1.1, 1.1, 1.1, 1])
    found = register(Grid(SHAPE, AFFINE).to_itk(head()), Grid(SHAPE, larger @ AFFINE).to_itk(head()), scale=True)
    assert abs(found.transform.GetScale() - 1.1) < 0.02
    matrix = np.array(rigid_part(found.transform).GetMatrix()).reshape(3, 3)
    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    centre = found.transform.GetCenter()
    assert np.allclose(rigid_part(found.transform).TransformPoint(centre), found.transform.TransformPoint(centre))


def test_composed_transforms_are_applied_one_after_the_other():
    first, second = sitk.Euler3DTransform(), sitk.Euler3DTransform()
    first.SetCenter([10.0, 20.0, 30.0])
    first.SetRotation(0.1, -0.2, 0.3)
    second.SetRotation(-0.4, 0.1, 0.2)
    second.SetTranslation([5.0, -3.0, 1.0])
    point = [12.0, -7.0, 33.0]
    assert np.allclose(compose(first, second).TransformPoint(point), second.TransformPoint(first.TransformPoint(point)))
