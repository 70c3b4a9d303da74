"""Score the file of a prediction against that of its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from brats3d.cases import check_labels, grid_difference, layout_of, whole_labels
from brats3d.data import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.challenge_rules import Rules
from brats3d.evaluation.find_segmentation_files import Segmentation
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.files import Header, marked_convention, read_header, read_volume
from brats3d.labels import CONVENTIONS, get_convention


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
