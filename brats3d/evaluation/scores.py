"""BraTS scores of each region of each case, with one rule for empty regions.

The rule (BraTS 2023, https://github.com/rachitsaluja/BraTS-2023-Metrics): a region empty in reference and prediction
scores Dice 1 and HD95 0, a region empty in one of them Dice 0 and the HD95 of a missing one. Nothing is skipped,
nothing is NaN. MONAI's ``DiceMetric`` skips regions that the reference lacks unless told otherwise (MONAI issue 7504).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from brats3d.evaluation.hd95 import hd95_mm
from brats3d.evaluation.lesions import box_with_margin, score_lesions
from brats3d.evaluation.rules import RULES, Rules
from brats3d.labels import REGIONS, REGIONS_TO_READ

logger = logging.getLogger("brats3d")


def score_case(
    pred: torch.Tensor,
    ref: torch.Tensor,
    case_id: str,
    spacing_mm: Sequence[float],
    rules: Rules | None = RULES["brats2023"],
    voxels: int | None = None,
) -> list[dict[str, Any]]:
    """Score one case.

    Args:
        pred: {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        ref: the same.
        case_id: the case's name, copied into the rows.
        spacing_mm: voxel size along each axis.
        rules: of a challenge; None leaves out distances and lesions, which take most of the time.
        voxels: of the image that the masks were cropped from, over which specificity is taken; None = of the masks.

    Returns:
        One row a region, in the order WT, TC, ET: ``{case_id, region, dice, sensitivity, specificity, ref_volume_ml,
        pred_volume_ml, volume_error_ml, hd95_mm, lesion_dice, lesion_hd95_mm, lesions_found, lesions_missed,
        lesions_spurious}``. The error of a volume is what is predicted less what is there.

    Raises:
        ValueError: if the shapes differ, or are not (3, H, W, D), or a value is neither 0 nor 1.
    """
    if pred.shape != ref.shape:
        raise ValueError(f"{case_id}: expected pred and ref of one shape, got {tuple(pred.shape)}, {tuple(ref.shape)}")
    if pred.ndim != 4 or len(pred) != len(REGIONS):
        raise ValueError(f"{case_id}: expected regions of shape (3, H, W, D), got {tuple(pred.shape)}")
    for name, regions in (("pred", pred), ("ref", ref)):
        if regions.is_floating_point() and not ((regions == 0) | (regions == 1)).all():
            raise ValueError(f"{case_id}: {name}: expected 0 and 1, got other values (probabilities?); threshold them")
    voxel_ml = math.prod(float(s) for s in spacing_mm) / 1000
    rows = []
    for region in REGIONS_TO_READ:
        channel = REGIONS.index(region)
        found, there = (_plain(regions[channel]).bool().cpu().numpy() for regions in (pred, ref))
        row = {"case_id": case_id, "region": region, **_overlap(found, there, voxel_ml, voxels)}
        if rules is not None:
            row |= _shape(found, there, spacing_mm, rules)
        rows.append(row)
    return rows


def _overlap(pred: np.ndarray, ref: np.ndarray, voxel_ml: float, voxels: int | None) -> dict[str, float]:
    """What counting voxels gives. Sensitivity follows Dice's rule for empty regions."""
    both, found, there = (int(np.count_nonzero(mask)) for mask in (pred & ref, pred, ref))
    elsewhere = (voxels or pred.size) - there
    return {
        "dice": 2 * both / (found + there) if found + there else 1.0,
        "sensitivity": both / there if there else float(not found),
        "specificity": (elsewhere - (found - both)) / elsewhere if elsewhere else 1.0,
        "ref_volume_ml": there * voxel_ml,
        "pred_volume_ml": found * voxel_ml,
        "volume_error_ml": (found - there) * voxel_ml,
    }


def _shape(pred: np.ndarray, ref: np.ndarray, spacing_mm: Sequence[float], rules: Rules) -> dict[str, Any]:
    """What takes surfaces and components, computed within the box around both masks."""
    box = box_with_margin(pred | ref, margin=rules.dilation)
    pred, ref = pred[box], ref[box]
    whole_mm = hd95_mm(pred, ref, spacing_mm)
    lesions = score_lesions(pred, ref, spacing_mm, rules.dilation, rules.least_mm3, rules.missing_mm, whole_mm)
    return {
        "hd95_mm": whole_mm if math.isfinite(whole_mm) else rules.missing_mm,
        "lesion_dice": lesions.dice,
        "lesion_hd95_mm": lesions.hd95_mm,
        "lesions_found": lesions.found,
        "lesions_missed": lesions.missed,
        "lesions_spurious": lesions.spurious,
    }


def _plain(data: torch.Tensor) -> torch.Tensor:
    return data.as_tensor() if isinstance(data, MetaTensor) else data
