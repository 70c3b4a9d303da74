"""Rigid registration of two images of one head by mutual information, with SimpleITK.

Mattes et al., "PET-CT image registration in the chest using free-form deformations", IEEE TMI 22 (2003), 120-128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from brats3d.scans.itk_images import isotropic


@dataclass(frozen=True, eq=False)
class Registration:
    """The result of a registration.

    Args:
        transform: SimpleITK transform, points of the fixed image -> points of the moving image.
        mutual_information: of the two images where they are registered.
        lost_when_moved: fraction of the mutual information that is lost if the moving image is moved by
            :data:`MOVED_MM`; near 0, or below, if the images do not match.
    """

    transform: Any
    mutual_information: float
    lost_when_moved: float


MOVED_MM = 10.0
"""Shift that destroys a good registration."""


def register(
    fixed: Any, moving: Any, scale: bool = False, fixed_mask: Any = None, moving_mask: Any = None
) -> Registration:
    """Find the rigid motion between two images. The same images give the same result.

    Args:
        fixed, moving: ``SimpleITK.Image`` of float32, with any grids and contrasts.
        scale: also search for a factor of the size, as between two heads; the transform is then a
            ``SimpleITK.Similarity3DTransform``.
        fixed_mask, moving_mask: ``SimpleITK.Image`` of uint8; the mutual information of the result is measured only
            where it is 1. A search within a mask fails more often.
    """
    import SimpleITK as sitk

    fixed, moving = isotropic(fixed, _SPACING_MM), isotropic(moving, _SPACING_MM)
    method = _method()

    def information(transform: Any) -> float:
        method.SetInitialTransform(transform, inPlace=False)
        try:
            return -float(method.MetricEvaluate(fixed, moving))
        except RuntimeError:  # the images do not overlap
            return 0.0

    kind = sitk.Similarity3DTransform if scale else sitk.Euler3DTransform
    method.SetInitialTransform(max(_starts(fixed, moving, kind), key=information), inPlace=False)
    found = kind(method.Execute(fixed, moving).GetNthTransform(0))
    # Sums over threads differ in the last digits.
    found.SetParameters([round(parameter, _DIGITS) for parameter in found.GetParameters()])
    if fixed_mask is not None:
        method.SetMetricFixedMask(fixed_mask)
    if moving_mask is not None:
        method.SetMetricMovingMask(moving_mask)
    best = information(found)
    shifts = [sign * MOVED_MM * axis for axis in np.eye(3) for sign in (-1, 1)]
    moved = np.mean([information(_shifted(found, shift)) for shift in shifts])
    return Registration(found, best, 1 - float(moved) / best if best else 0.0)


def rigid_part(transform: Any) -> Any:
    """Return a similarity transform without its factor; its centre moves as before."""
    import SimpleITK as sitk

    rigid = sitk.VersorRigid3DTransform()
    rigid.SetCenter(transform.GetCenter())
    rigid.SetTranslation(transform.GetTranslation())
    rigid.SetRotation(transform.GetVersor())
    return rigid


def compose(first: Any, second: Any) -> Any:
    """Return the rigid transform that applies ``first`` and then ``second``, as a ``VersorRigid3DTransform``."""
    import SimpleITK as sitk

    points = np.vstack([np.zeros(3), np.eye(3)])
    images = np.array([second.TransformPoint(first.TransformPoint(point.tolist())) for point in points])
    composed = sitk.VersorRigid3DTransform()
    composed.SetMatrix((images[1:] - images[0]).T.ravel().tolist(), 1e-6)
    composed.SetTranslation(images[0].tolist())
    return composed


_SPACING_MM = 2.0  # of the finest level; slices are often thicker, pixels a little smaller

_SHRINK, _SMOOTH_MM = [4, 2, 1], [4.0, 2.0, 1.0]

_SAMPLED, _SEED = [0.2, 0.1, 0.05], 22  # fractions of the voxels of each level

_BINS = 32

_DIGITS = 6  # of mm and of radians

_FIRST_STEP_MM, _LAST_STEP_MM, _STEPS = 1.0, 1e-3, 100


def _method() -> Any:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel(_SAMPLED, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(_FIRST_STEP_MM, _LAST_STEP_MM, _STEPS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _starts(fixed: Any, moving: Any, kind: Any) -> list[Any]:
    """Return where a search may start: the positions that the scanner states, and coinciding centres of mass."""
    import SimpleITK as sitk

    centred = sitk.CenteredTransformInitializer(fixed, moving, kind(), sitk.CenteredTransformInitializerFilter.MOMENTS)
    centred, as_stated = kind(centred), kind(centred)
    as_stated.SetTranslation([0.0, 0.0, 0.0])
    return [as_stated, centred]


def _shifted(transform: Any, shift_mm: np.ndarray) -> Any:
    moved = type(transform)(transform)
    moved.SetTranslation((np.array(moved.GetTranslation()) + shift_mm).tolist())
    return moved
