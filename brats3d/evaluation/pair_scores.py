"""The scores of a prediction and its reference, read from their files."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from brats3d.cases import check_labels, grid_difference, whole_labels
from brats3d.data import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.challenge_rules import Rules
from brats3d.evaluation.find_segmentation_files import Segmentation
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.files import (
    Header,
    Volume,
    format_affine,
    marked_convention,
    read_volume,
    same_grid,
    strip_image_ending,
    to_grid,
)
from brats3d.labels import CONVENTIONS, get_convention

MAX_LABEL = max(value for convention in CONVENTIONS.values() for value in convention.values)
"""The largest label of any convention."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """The scores of a case and how its labels were read.

    Args:
        rows: one for each region.
        ref_convention: label convention of the reference.
        pred_convention: label convention of the prediction; empty without a prediction.
        assumed: True if the prediction's convention is unknown and was assumed to be the reference's.
        ref_mark: the convention that brats3d wrote into the reference.
        pred_mark: the same of the prediction.
        counts: number of voxels with each pair of labels, shape (labels of the reference, labels of the prediction);
            voxels that are background in both are not counted.
        notes: remarks about the files, in the same words for all cases that they apply to.
    """

    rows: tuple[ScoreRow, ...]
    ref_convention: str
    pred_convention: str = ""
    assumed: bool = False
    ref_mark: str | None = None
    pred_mark: str | None = None
    counts: np.ndarray = field(default_factory=lambda: np.zeros((MAX_LABEL + 1, MAX_LABEL + 1), np.intp))
    notes: tuple[str, ...] = ()


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
        DataError: if a file cannot be read, both are the same file, their grids differ by more than flips, swapped axes
            and rounding, or a label is not in its convention.
        OSError: if a file cannot be opened.
    """
    ref_mark = marked_convention(ref.path)
    ref_convention = ref_labels or _known(ref_mark, ref.path) or ref.convention
    if ref_convention is None:
        raise DataError(ref.path, "its label convention is unknown", advice="pass --ref-labels NAME")
    ref_volume = read_volume(ref.path)
    header = ref_volume.header
    ref_values = _labels(ref_volume.values, ref.path, ref_convention, "--ref-labels")
    ref_regions = _regions(ref_values, ref_convention)
    if pred is None:
        rows = score_case(torch.zeros_like(ref_regions), ref_regions, ref.case_id, header.spacing_mm, rules)
        return PairScores(tuple(_count_as_missing(row, rules) for row in rows), ref_convention, ref_mark=ref_mark)
    if pred.path.samefile(ref.path):
        raise DataError(pred.path, "is the reference itself", expected="a prediction", advice="check the folders")
    pred_volume = read_volume(pred.path)
    values, grid_note = _on_grid(pred_volume, header)
    pred_mark = marked_convention(pred.path)
    stated = pred_labels or _known(pred_mark, pred.path)
    pred_convention = stated or ref_convention
    pred_values = _labels(values, pred.path, pred_convention, "--pred-labels")
    rows = score_case(_regions(pred_values, pred_convention), ref_regions, ref.case_id, header.spacing_mm, rules)
    sides = (("prediction", pred_volume.header), ("reference", header))
    notes = [
        grid_note,
        *(f"{side}: {note.text}" for side, each in sides for note in each.notes),
        _overridden("--ref-labels", ref_labels, ref_mark, "the reference's header"),
        _overridden("--ref-labels", ref_labels, None if ref.assumed else ref.convention, "the reference's name"),
        _overridden("--pred-labels", pred_labels, pred_mark, "the prediction's header"),
    ]
    return PairScores(
        rows=tuple(rows),
        ref_convention=ref_convention,
        pred_convention=pred_convention,
        assumed=stated is None,
        ref_mark=ref_mark,
        pred_mark=pred_mark,
        counts=_count_pairs(pred_values, ref_values),
        notes=tuple(filter(None, notes)),
    )


_ROUNDING_MM = 1e-3  # float32 coordinates of some hundred mm, and a qform's quaternion, are exact to this


def _known(mark: str | None, path: Path) -> str | None:
    """Check the convention in the header of a file that brats3d wrote."""
    if mark is not None and mark not in CONVENTIONS:
        raise DataError(path, "convention in the header", expected=f"one of {', '.join(CONVENTIONS)}", found=mark)
    return mark


def _on_grid(volume: Volume, expected: Header) -> tuple[np.ndarray, str]:
    """Return the voxels on the reference's grid, and a note if the headers differ by more than rounding.

    Raises:
        DataError: if the voxels would have to be resampled, or reordered from an orientation that is only a guess.
    """
    header = volume.header
    if same_grid(header, expected):
        is_rounded = np.abs(header.affine - expected.affine).max() > _ROUNDING_MM
        return volume.values, "the affines differ by rounding; the grids are treated as equal" if is_rounded else ""
    if not (_is_guess(header) or _is_guess(expected)) and (values := to_grid(volume, expected)) is not None:
        return values, "the prediction's axes are flipped or swapped; it was compared in the reference's orientation"
    raise _other_grid(header, expected)


def _other_grid(header: Header, expected: Header) -> DataError:
    """Return the error for a prediction on another grid, with the command that places it on the reference's."""
    _, problem = grid_difference(header, expected) or ("", "")
    problem = problem.removeprefix(f"{header.path}: ")
    lost = [each for each in (header, expected) if _is_guess(each) or _is_placeholder(each)]
    how = "resample it with nearest neighbour and replace the file"
    change = "i=s.Resample(i,r,s.Transform(),s.sitkNearestNeighbor)"
    if header.shape == expected.shape and lost:
        problem = f"its grid is not that of {expected.path.name}: {lost[0].path.name} has lost its affine"
        problem += f" ({format_affine(header.affine)} against {format_affine(expected.affine)})"
        how = "if its voxels are in the reference's order, copy the reference's affine and replace the file"
        change = "i.CopyInformation(r)"
    out = header.path.with_name(f"{strip_image_ending(header.path.name)}_placed.nii.gz")
    files = f"{str(header.path)!r},{str(expected.path)!r}"
    code = f"import SimpleITK as s; i,r=map(s.ReadImage,({files})); {change}; s.WriteImage(i,{str(out)!r})"
    code = shlex.quote(code) if set('"$`\\!') & set(code) else f'"{code}"'
    return DataError(header.path, problem, advice=f"{how}: python -c {code}")


def _is_guess(header: Header) -> bool:
    return any(note.kind == "no affine" for note in header.notes)


def _is_placeholder(header: Header) -> bool:
    """Return True for an affine without rotation and origin, which programs write that know only the spacing."""
    spacing = header.affine[:3, :3]
    return not header.affine[:3, 3].any() and np.count_nonzero(spacing) == np.count_nonzero(np.diag(spacing))


def _labels(values: np.ndarray, path: Path, convention: str, option: str) -> np.ndarray:
    """Check labels (H, W, D) against their convention and return them as int16."""
    check_labels(values, get_convention(convention), str(path), option)
    return np.ascontiguousarray(whole_labels(values), dtype=np.int16)


def _regions(labels: np.ndarray, convention: str) -> torch.Tensor:
    return labels_to_regions(torch.from_numpy(labels)[None], get_convention(convention))


def _count_pairs(pred: np.ndarray, ref: np.ndarray) -> np.ndarray:
    size = MAX_LABEL + 1
    labelled = (pred != 0) | (ref != 0)
    return np.bincount(ref[labelled] * size + pred[labelled], minlength=size**2).reshape(size, size)


def _overridden(option: str, convention: str | None, stated: str | None, where: str) -> str:
    if convention in (None, stated) or stated is None:
        return ""
    return f"{option} {convention} overrides {stated}, which {where} states"


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
