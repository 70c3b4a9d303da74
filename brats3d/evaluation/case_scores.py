"""BraTS scores of each region of a case, from masks or from files, with one rule for empty regions.

The rule (BraTS 2023, https://github.com/rachitsaluja/BraTS-2023-Metrics): a region that is empty in both reference and
prediction has Dice 1 and HD95 0; a region that is empty in only one of them has Dice 0 and the HD95 of a missing
region. No region is skipped and no score is NaN. MONAI's ``DiceMetric`` skips regions that are empty in the reference
by default (MONAI issue 7504).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brats3d.cases import check_labels, grid_difference, layout_of, whole_labels
from brats3d.data import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation.challenge_rules import RULES, Rules
from brats3d.evaluation.find_segmentation_files import Segmentation
from brats3d.evaluation.hd95 import hd95_mm
from brats3d.evaluation.lesions import box_with_margin, score_lesions
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.files import Header, marked_convention, read_header, read_volume
from brats3d.labels import CONVENTIONS, REGIONS, REGIONS_TO_READ, get_convention


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


@dataclass(frozen=True)
class PairScores:
    """The scores of a case and the labels that were read.

    Args:
        rows: one for each region.
        ref_convention: label convention of the reference.
        pred_convention: label convention of the prediction; empty without a prediction.
        assumed: True if the prediction's convention is unknown and was assumed to be the reference's.
        pred_labels: the labels that occur in the prediction.
        ref_labels: the labels that occur in the reference.
    """

    rows: tuple[ScoreRow, ...]
    ref_convention: str
    pred_convention: str = ""
    assumed: bool = False
    pred_labels: frozenset[int] = frozenset()
    ref_labels: frozenset[int] = frozenset()


def score_pair(
    pred: Segmentation | None, ref: Segmentation, rules: Rules, pred_labels: str | None, ref_labels: str | None
) -> PairScores:
    """Read and score one case.

    Args:
        pred: the prediction; None if it is missing, which counts as 0.
        ref: the reference.
        rules: scoring rules.
        pred_labels: label convention of predictions; None uses the one that brats3d has written into the file, else
            the convention of the reference.
        ref_labels: label convention of references; None uses the one in the file, else the one of the file's name.

    Raises:
        DataError: if a file cannot be read, both are the same file, their grids differ, or a label is not in its
            convention.
        OSError: if a file cannot be opened.
    """
    ref_convention = ref_labels or _marked_convention(ref.path) or ref.convention
    if ref_convention is None:
        names = " or ".join(layout_of(ref.case_id).conventions) or "such as brats2020"
        raise DataError(ref.path, "its label convention is unknown", advice=f"pass --ref-labels {names}")
    ref_regions, header, ref_values = _read_regions(ref.path, ref_convention, "--ref-labels")
    if pred is None:
        rows = score_case(torch.zeros_like(ref_regions), ref_regions, ref.case_id, header.spacing_mm, rules)
        return PairScores(tuple(_count_as_missing(row, rules) for row in rows), ref_convention)
    if pred.path.samefile(ref.path):
        raise DataError(pred.path, "is the reference itself", expected="a prediction", advice="check the folders")
    if difference := grid_difference(read_header(pred.path), header):
        raise DataError(pred.path, difference[1].removeprefix(f"{pred.path}: "))
    stated = pred_labels or _marked_convention(pred.path)
    pred_convention = stated or ref_convention
    pred_regions, _, pred_values = _read_regions(pred.path, pred_convention, "--pred-labels")
    rows = score_case(pred_regions, ref_regions, ref.case_id, header.spacing_mm, rules)
    return PairScores(tuple(rows), ref_convention, pred_convention, stated is None, pred_values, ref_values)


def describe_labels(pairs: Sequence[PairScores]) -> str:
    """Describe the label conventions that were used."""
    preds = {pair.pred_convention + " (as the reference)" * pair.assumed for pair in pairs if pair.pred_convention}
    refs = {pair.ref_convention for pair in pairs}
    return f"predictions {', '.join(sorted(preds))}, reference {', '.join(sorted(refs))}"


def refuse_suspicious_labels(pred_dir: str | Path, pairs: Sequence[PairScores]) -> None:
    """Refuse predictions that seem to have BraTS 2020's labels but were read with another convention.

    In BraTS 2020, 4 is the enhancing tumour; in the other convention it is a cavity or edema.

    Args:
        pred_dir: folder of the predictions, for the error.
        pairs: the scored cases.

    Raises:
        DataError: if predictions without a known convention hold 4 and never 3, while their references hold 3.
    """
    assumed = [pair for pair in pairs if pair.assumed]
    pred_labels = {label for pair in assumed for label in pair.pred_labels}
    ref_labels = {label for pair in assumed for label in pair.ref_labels}
    if 4 in pred_labels and 3 not in pred_labels and 3 in ref_labels:
        convention = assumed[0].ref_convention
        raise DataError(
            pred_dir,
            f"the predictions have label 4 but never 3, which the reference ({convention}) has",
            advice=f"pass --pred-labels brats2020 if 4 is the enhancing tumour, else --pred-labels {convention}",
        )


def _marked_convention(path: Path) -> str | None:
    """Return the convention in the header of a file that brats3d wrote; None for other files."""
    marked = marked_convention(path)
    if marked is not None and marked not in CONVENTIONS:
        raise DataError(path, "convention in the header", expected=f"one of {', '.join(CONVENTIONS)}", found=marked)
    return marked


def _read_regions(path: Path, name: str, option: str) -> tuple[torch.Tensor, Header, frozenset[int]]:
    """Read a segmentation: its regions (3, H, W, D), its header and the labels that occur in it."""
    volume = read_volume(path)
    convention = get_convention(name)
    check_labels(volume.values, convention, str(path), option)
    label = np.ascontiguousarray(whole_labels(volume.values), dtype=np.int16)
    values = frozenset(value for value in convention.labels if (label == value).any())
    return labels_to_regions(torch.from_numpy(label)[None], convention), volume.header, values


def _count_as_missing(row: ScoreRow, rules: Rules) -> ScoreRow:
    return replace(
        row,
        dice=0.0,
        lesion_dice=0.0,
        sensitivity=0.0,
        hd95_mm=float(rules.missing_mm),
        lesion_hd95_mm=float(rules.missing_mm),
        missing=True,
    )
