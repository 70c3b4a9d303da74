"""Lesion-wise scores, as the BraTS challenges have ranked by since 2023.

Every lesion of the reference counts the same, whatever its size, and so does every lesion that is predicted where there
is none. Source: https://github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from brats3d.evaluation.hd95 import hd95_mm

TOUCHING = np.ones((3, 3, 3), bool)
"""Voxels that share a face, an edge or a corner are of one component (26 neighbours)."""

GROWTH = ndimage.generate_binary_structure(3, 2)
"""One step of dilation: neighbours by a face or an edge."""


@dataclass(frozen=True)
class LesionScores:
    """Lesions of one region of one case.

    Args:
        dice: mean over the lesions and the spurious components, which count 0; 1 if there is neither.
        hd95_mm: the same mean, to which a missed lesion and a spurious component give the distance of a missing one; 0
            if there is neither.
        found: lesions that a prediction touches.
        missed: lesions that none touches.
        spurious: predicted components that touch no lesion.
    """

    dice: float
    hd95_mm: float
    found: int
    missed: int
    spurious: int


def score_lesions(
    pred: np.ndarray,
    ref: np.ndarray,
    spacing_mm: Sequence[float],
    dilation: int = 3,
    least_mm3: float = 50,
    missing_mm: float = 374,
    whole_mm: float | None = None,
) -> LesionScores:
    """Score each lesion of the reference against what is predicted there.

    Components of the reference that grow together when they are dilated are one lesion. A predicted component belongs
    to every lesion whose dilated mask it touches. Lesions up to ``least_mm3`` drop out, and so do the predicted
    components that touch them and no other lesion; predicted components have no such limit.

    Args:
        pred: bool, shape (H, W, D).
        ref: the same.
        spacing_mm: voxel size along each axis.
        dilation: steps to 18 neighbours, before it is asked what touches.
        least_mm3: a lesion must be larger.
        missing_mm: distance that counts for a lesion that is missed, and for a spurious component.
        whole_mm: HD95 of the two masks as they are, where it is known; it is that of a single lesion.
    """
    # A component of the dilated reference is a lesion, dilated: what else its voxels were dilated from is in it too.
    if not (pred.any() or ref.any()):
        return LesionScores(dice=1.0, hd95_mm=0.0, found=0, missed=0, spurious=0)
    grown, box = np.zeros_like(ref), box_with_margin(ref, dilation)
    grown[box] = ndimage.binary_dilation(ref[box], GROWTH, iterations=dilation)
    groups, count = ndimage.label(grown, TOUCHING)
    parts, part_count = ndimage.label(pred, TOUCHING)
    touching = _pairs(groups, parts, count, part_count)
    overlap = _pairs(groups * ref, parts, count, part_count)
    lesion_sizes = np.bincount((groups * ref).ravel(), minlength=count + 1)
    part_sizes = np.bincount(parts.ravel(), minlength=part_count + 1)
    boxes = [ndimage.find_objects(numbers) for numbers in (groups, parts)]
    spurious = int((touching[:, 1:].sum(0) == 0).sum())
    dice, distances, found = [], [], 0
    for lesion in range(1, count + 1):
        if lesion_sizes[lesion] * math.prod(spacing_mm) <= least_mm3 * _ROUNDING:
            continue
        own = touching[lesion].nonzero()[0]
        dice.append(2 * overlap[lesion, own].sum() / (lesion_sizes[lesion] + part_sizes[own].sum()))
        if not len(own):
            distances.append(missing_mm)
            continue
        found += 1
        if whole_mm is None or count > 1 or spurious:
            box = _around([boxes[0][lesion - 1], *(boxes[1][part - 1] for part in own)])
            distances.append(hd95_mm(np.isin(parts[box], own), (groups[box] == lesion) & ref[box], spacing_mm))
        else:
            distances.append(whole_mm)
    total = len(dice) + spurious
    return LesionScores(
        dice=float(sum(dice)) / total if total else 1.0,
        hd95_mm=(sum(distances) + spurious * missing_mm) / total if total else 0.0,
        found=found,
        missed=len(dice) - found,
        spurious=spurious,
    )


def box_with_margin(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The box that holds the mask and some voxels around it, as far as the image reaches; nothing of an empty one."""
    planes = (np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3))
    return tuple(slice(max(0, p[0] - margin), p[-1] + 1 + margin) if len(p) else slice(0) for p in planes)


def _pairs(lesions: np.ndarray, parts: np.ndarray, lesion_count: int, part_count: int) -> np.ndarray:
    """How many voxels each lesion (row) and each predicted component (column) have in common; 0 is neither."""
    both = (lesions > 0) & (parts > 0)
    keys = lesions[both].astype(np.int64) * (part_count + 1) + parts[both]
    shape = (lesion_count + 1, part_count + 1)
    return np.bincount(keys, minlength=math.prod(shape)).reshape(shape)


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The box that holds all of them."""
    return tuple(slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))


_ROUNDING = 1 + 1e-5
"""An oblique affine gives voxels of 1.00000005 mm³, of which 50 are not more than 50 mm³."""
