"""The contribution of a case to a fit: a few hundred numbers, so that cases can be read one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brats3d.errors import DataError
from brats3d.labels import REGIONS
from brats3d.quality.calibration import count_border
from brats3d.quality.case_features import case_features, to_logits


@dataclass(frozen=True, eq=False)
class FittingCase:
    """A segmented case with a reference. Regions are in the order of ``labels.REGIONS``.

    Args:
        group: the patient; cases of a group are never on both sides of a cross-validation.
        features: shape (3, features), see :func:`brats3d.quality.case_features`.
        dice: shape (3,).
        volume_ml: of the segmentation, shape (3,).
        reference_ml: of the reference, shape (3,).
        border: shape (3, 2, bins), see :func:`brats3d.quality.calibration.count_border`.
    """

    group: str
    features: np.ndarray
    dice: np.ndarray
    volume_ml: np.ndarray
    reference_ml: np.ndarray
    border: np.ndarray


def describe_case(
    group: str, probabilities: np.ndarray, regions: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> FittingCase:
    """Compare a segmentation with its reference. The network must not have been trained on the case.

    Args:
        group: the patient.
        probabilities: shape (3, H, W, D), channels in the order of ``labels.REGIONS``; float16 suffices.
        regions: the segmentation after post-processing, bool or {0, 1}, same shape and order.
        reference: bool or {0, 1}, same shape and order.
        spacing_mm: voxel size along each axis.

    Raises:
        DataError: if the shapes differ.
    """
    if not probabilities.shape == regions.shape == reference.shape or len(probabilities) != len(REGIONS):
        found = [probabilities.shape, regions.shape, reference.shape]
        raise DataError(group, expected="probabilities, regions and reference of one shape (3, H, W, D)", found=found)
    masks, refs, voxel_ml = regions > 0, reference > 0, float(np.prod(spacing_mm)) / 1000
    sizes, ref_sizes, common = (np.count_nonzero(each, axis=(1, 2, 3)) for each in (masks, refs, masks & refs))
    total = sizes + ref_sizes
    pairs = zip(to_logits(probabilities), masks, refs, strict=True)
    return FittingCase(
        group=group,
        features=case_features(probabilities, regions, voxel_ml),
        dice=np.where(total > 0, 2 * common / np.maximum(total, 1), 1.0),
        volume_ml=sizes * voxel_ml,
        reference_ml=ref_sizes * voxel_ml,
        border=np.stack([count_border(*each, spacing_mm) for each in pairs]),
    )
