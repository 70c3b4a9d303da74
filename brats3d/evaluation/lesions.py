"""Lesion-wise scores, which the BraTS challenges have used for ranking since 2023.

Every lesion of the reference counts the same, regardless of its size, and so does every predicted component where the
reference has none. Source: https://github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brats3d.evaluation.challenge_rules import Rules
from brats3d.evaluation.hd95 import hd95_mm

NEIGHBOURS_26 = np.ones((3, 3, 3), bool)
"""Voxels that share a face, an edge or a corner belong to one component."""

NEIGHBOURS_18 = ndimage.generate_binary_structure(3, 2)
"""A step of dilation adds neighbours by a face or an edge."""


@dataclass(frozen=True)
class LesionScores:
    """The lesions of one region of one case.

    Args:
        dice: mean over the lesions and the spurious components; 1 if there are neither. Missed lesions and spurious
            components count 0.
        hd95_mm: mean over the same; 0 if there are neither. Missed lesions and spurious components count with the
            HD95 of a missing region. None if it was not computed.
        found: number of lesions that a prediction touches.
        missed: number of lesions that no prediction touches.
        spurious: number of predicted components that touch no lesion.
    """

    dice: float
    hd95_mm: float | None
    found: int
    missed: int
    spurious: int


def score_lesions(
    pred: np.ndarray,
    ref: np.ndarray,
    spacing_mm: Sequence[float],
    rules: Rules,
    whole_mm: float | None = None,
    distances: bool = True,
) -> LesionScores:
    """Score each lesion of the reference against the predicted components that touch it.

    Components of the reference that merge when dilated are one lesion. A predicted component belongs to every lesion
    whose dilated mask it touches. Lesions up to ``rules.least_mm3`` are ignored, and so are predicted components that
    touch no other lesion; predicted components have no minimum size of their own.

    Args:
        pred: bool, shape (H, W, D).
        ref: bool, same shape.
        spacing_mm: voxel size along each axis.
        rules: dilation, smallest lesion and HD95 of a missing region.
        whole_mm: HD95 of the two whole masks, if known; it is reused if there is a single lesion.
        distances: False skips HD95, which takes most of the time.
    """
    if not (pred.any() or ref.any()):
        return LesionScores(dice=1.0, hd95_mm=0.0, found=0, missed=0, spurious=0)
    # A component of the dilated reference is a lesion already dilated: it holds all voxels that it was dilated from.
    dilated, box = np.zeros_like(ref), box_with_margin(ref, rules.dilation)
    dilated[box] = ndimage.binary_dilation(ref[box], NEIGHBOURS_18, iterations=rules.dilation)
    lesions, lesion_count = ndimage.label(dilated, NEIGHBOURS_26)
    components, component_count = ndimage.label(pred, NEIGHBOURS_26)
    touching = _common_voxels(lesions, components, lesion_count, component_count)
    overlap = _common_voxels(lesions * ref, components, lesion_count, component_count)
    lesion_sizes = np.bincount((lesions * ref).ravel(), minlength=lesion_count + 1)
    component_sizes = np.bincount(components.ravel(), minlength=component_count + 1)
    lesion_boxes, component_boxes = ndimage.find_objects(lesions), ndimage.find_objects(components)
    spurious = int((touching[:, 1:].sum(0) == 0).sum())
    dice, hd95, found = [], [], 0
    for lesion in range(1, lesion_count + 1):
        if lesion_sizes[lesion] * math.prod(spacing_mm) <= rules.least_mm3 * _ROUNDING:
            continue
        matches = touching[lesion].nonzero()[0]
        dice.append(2 * overlap[lesion, matches].sum() / (lesion_sizes[lesion] + component_sizes[matches].sum()))
        if not len(matches):
            hd95.append(rules.missing_mm)
            continue
        found += 1
        if not distances:
            continue
        if whole_mm is None or lesion_count > 1 or spurious:
            box = _union([lesion_boxes[lesion - 1], *(component_boxes[match - 1] for match in matches)])
            pred_part, ref_part = np.isin(components[box], matches), (lesions[box] == lesion) & ref[box]
            hd95.append(hd95_mm(pred_part, ref_part, spacing_mm))
        else:
            hd95.append(whole_mm)
    total = len(dice) + spurious
    mean_mm = (sum(hd95) + spurious * rules.missing_mm) / total if total else 0.0
    return LesionScores(
        dice=float(sum(dice)) / total if total else 1.0,
        hd95_mm=mean_mm if distances else None,
        found=found,
        missed=len(dice) - found,
        spurious=spurious,
    )


def box_with_margin(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """Return the mask's bounding box, enlarged by a margin within the image; empty slices for an empty mask."""
    planes = (np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3))
    return tuple(slice(max(0, p[0] - margin), p[-1] + 1 + margin) if len(p) else slice(0) for p in planes)


def _common_voxels(lesions: np.ndarray, components: np.ndarray, lesion_count: int, component_count: int) -> np.ndarray:
    """Count the voxels that each lesion (row) and each component (column) have in common; number 0 is background."""
    both = (lesions > 0) & (components > 0)
    keys = lesions[both].astype(np.int64) * (component_count + 1) + components[both]
    shape = (lesion_count + 1, component_count + 1)
    return np.bincount(keys, minlength=math.prod(shape)).reshape(shape)


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """Return the smallest box that holds all boxes."""
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))


_ROUNDING = 1 + 1e-5
"""An oblique affine gives voxels of 1.00000005 mm³; 50 of them are not more than 50 mm³."""
