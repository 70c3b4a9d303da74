"""BraTS scores of each region of a case, from masks, with one rule for empty regions.

The rule (BraTS 2023, https://github.com/rachitsaluja/BraTS-2023-Metrics): a region that is empty in both reference and
prediction has Dice 1 and HD95 0; a region that is empty in only one of them has Dice 0 and the HD95 of a missing
region. No region is skipped and no score is NaN. MONAI's ``DiceMetric`` skips regions that are empty in the reference
by default (MONAI issue 7504).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from brats3d.errors import DataError
from brats3d.evaluation.challenge_rules import RULES, Rules
from brats3d.evaluation.hd95 import hd95_mm
from brats3d.evaluation.lesions import box_with_margin, score_lesions
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.labels import REGIONS, REGIONS_TO_READ


def score_case(
    pred: torch.Tensor,
    ref: torch.Tensor,
    case_id: str,
    spacing_mm: Sequence[float],
    rules: Rules | None = RULES["brats2023"],
    voxels: int | None = None,
) -> list[ScoreRow]:
    """Score one case.

    Args:
        pred: regions {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        ref: regions of the reference, same shape.
        case_id: copied into the rows.
        spacing_mm: voxel size along each axis.
        rules: rules of a challenge; None skips distances and lesion-wise scores, which take most of the time.
        voxels: number of voxels of the uncropped image, for specificity; None uses the size of the masks.

    Returns:
        One row for each region, in the order WT, TC, ET.

    Raises:
        DataError: if the shapes differ or are not (3, H, W, D), or a value is neither 0 nor 1.
    """
    if pred.shape != ref.shape or pred.ndim != 4 or len(pred) != len(REGIONS):
        found = tuple(pred.shape), tuple(ref.shape)
        raise DataError(case_id, "pred and ref", expected="two masks of shape (3, H, W, D)", found=found)
    for name, regions in (("pred", pred), ("ref", ref)):
        if regions.is_floating_point() and not ((regions == 0) | (regions == 1)).all():
            raise DataError(case_id, f"{name} has other values", expected="0 and 1", advice="threshold probabilities")
    voxel_ml = math.prod(float(s) for s in spacing_mm) / 1000
    rows = []
    for region in REGIONS_TO_READ:
        channel = REGIONS.index(region)
        pred_mask, ref_mask = (regions[channel].bool().cpu().numpy() for regions in (pred, ref))
        values = _overlap(pred_mask, ref_mask, voxel_ml, voxels)
        if rules is not None:
            values |= _distances(pred_mask, ref_mask, spacing_mm, rules)
        rows.append(ScoreRow(case_id=case_id, region=region, **values))
    return rows


def _overlap(pred: np.ndarray, ref: np.ndarray, voxel_ml: float, voxels: int | None) -> dict[str, Any]:
    """Compute the scores that need only counts of voxels. Sensitivity follows Dice's rule for empty regions."""
    both, pred_voxels, ref_voxels = (int(np.count_nonzero(mask)) for mask in (pred & ref, pred, ref))
    negatives = (voxels or pred.size) - ref_voxels
    return {
        "dice": 2 * both / (pred_voxels + ref_voxels) if pred_voxels + ref_voxels else 1.0,
        "sensitivity": both / ref_voxels if ref_voxels else float(not pred_voxels),
        "specificity": (negatives - (pred_voxels - both)) / negatives if negatives else 1.0,
        "ref_volume_ml": ref_voxels * voxel_ml,
        "pred_volume_ml": pred_voxels * voxel_ml,
        "volume_error_ml": (pred_voxels - ref_voxels) * voxel_ml,
    }


def _distances(pred: np.ndarray, ref: np.ndarray, spacing_mm: Sequence[float], rules: Rules) -> dict[str, Any]:
    """Compute the scores that need surfaces and components, within the bounding box of both masks."""
    box = box_with_margin(pred | ref, margin=rules.dilation)
    pred, ref = pred[box], ref[box]
    whole_mm = hd95_mm(pred, ref, spacing_mm)
    lesions = score_lesions(pred, ref, spacing_mm, rules, whole_mm)
    return {
        "hd95_mm": whole_mm if math.isfinite(whole_mm) else rules.missing_mm,
        "lesion_dice": lesions.dice,
        "lesion_hd95_mm": lesions.hd95_mm,
        "lesions_found": lesions.found,
        "lesions_missed": lesions.missed,
        "lesions_spurious": lesions.spurious,
    }
