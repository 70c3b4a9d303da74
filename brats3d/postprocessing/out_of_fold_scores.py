"""Scores of out-of-fold predictions with many values of post-processing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from brats3d.cases import check_labels, whole_labels
from brats3d.data import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation import Rules, box_with_margin, read_probabilities, score_lesions
from brats3d.files import read_volume
from brats3d.labels import REGIONS, REGIONS_TO_READ, get_convention
from brats3d.postprocessing.values import PostprocessingValues

MEASURES = ("dice", "lesion_dice")
"""The scores of a region."""


@dataclass(frozen=True)
class OutOfFoldCase:
    """A case and what networks predicted for it that were not trained on it.

    Args:
        case_id: the case.
        fold: the fold whose training did not see it.
        probabilities: file of its probabilities; see :func:`brats3d.evaluation.read_probabilities`.
        reference: file of its segmentation, on the same grid.
        convention: label convention of the reference.
    """

    case_id: str
    fold: int
    probabilities: Path
    reference: Path
    convention: str


class ScoreTable:
    """The scores of cases with values of post-processing. Every combination is computed once.

    A case is read once for all values that are added at the same time, and not kept in memory.

    Args:
        cases: the cases.
        rules: rules of the challenge.
        workers: number of cases that are read and scored at the same time.
        progress: show progress bars.
    """

    def __init__(self, cases: Sequence[OutOfFoldCase], rules: Rules, workers: int = 2, progress: bool = True) -> None:
        self.cases = tuple(cases)
        self.rules = rules
        self.workers = workers
        self.progress = progress
        self._scores: dict[PostprocessingValues, np.ndarray] = {}

    def __getitem__(self, values: PostprocessingValues) -> np.ndarray:
        """Return the scores with values that were added: (cases, regions in the order WT, TC, ET, :data:`MEASURES`)."""
        return self._scores[values]

    def add(self, values: Iterable[PostprocessingValues], name: str) -> None:
        """Score all cases with each of the values.

        Args:
            values: the values; those in the table are skipped.
            name: what is tried, for the progress bar.

        Raises:
            DataError: if a file is damaged, or the two files of a case differ in shape.
            OSError: if a file cannot be opened.
        """
        from tqdm import tqdm

        new = [each for each in dict.fromkeys(values) if each not in self._scores]
        with ThreadPoolExecutor(self.workers) as pool:  # zlib, scipy and NumPy release the interpreter's lock
            scored = pool.map(lambda case: score_with_values(case, new, self.rules), self.cases if new else ())
            hidden = None if self.progress else True
            bar = tqdm(scored, desc=f"choose {name}", total=len(self.cases), unit="case", leave=False, disable=hidden)
            self._scores.update(zip(new, np.stack(list(bar), axis=1) if new else (), strict=True))


def score_with_values(case: OutOfFoldCase, values: Sequence[PostprocessingValues], rules: Rules) -> np.ndarray:
    """Score a case with each of several values.

    Returns:
        Float array (values, regions in the order WT, TC, ET, :data:`MEASURES`).
    """
    probs, ref, spacing_mm = _read(case, min(min(each.thresholds) for each in values), margin=rules.dilation)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    known: dict[tuple[str, bytes], tuple[float, float]] = {}  # most values leave most regions as they are
    scores = np.empty((len(values), len(REGIONS_TO_READ), len(MEASURES)))
    for row, each in enumerate(values):
        pred = each.apply(probs, voxel_ml)
        for column, region in enumerate(REGIONS_TO_READ):
            mask, expected = pred[REGIONS.index(region)], ref[REGIONS.index(region)]
            key = region, np.packbits(mask).tobytes()
            if key not in known:
                lesions = score_lesions(mask, expected, spacing_mm, rules, distances=False)
                known[key] = _dice(mask, expected), lesions.dice
            scores[row, column] = known[key]
    return scores


def read_out_of_fold(case: OutOfFoldCase) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """Return the probabilities of a case, the regions of its reference, bool, and the voxel size.

    Raises:
        DataError: if a file is damaged, or the shapes of the two differ.
        OSError: if a file cannot be opened.
    """
    volume, convention = read_volume(case.reference), get_convention(case.convention)
    check_labels(volume.values, convention, str(case.reference), "--label_convention")
    label = torch.from_numpy(np.ascontiguousarray(whole_labels(volume.values), dtype=np.int16))
    ref = labels_to_regions(label[None], convention).bool().numpy()
    probs = read_probabilities(case.probabilities)
    if probs.shape != ref.shape:
        raise DataError(
            case.probabilities, "shape", expected=f"that of {case.reference}, {ref.shape}", found=probs.shape
        )
    return probs, ref, volume.header.spacing_mm


def _read(case: OutOfFoldCase, threshold: float, margin: int) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """Read a case, cropped to what is not background; probabilities as float32."""
    probs, ref, spacing_mm = read_out_of_fold(case)
    box = box_with_margin((probs >= probs.dtype.type(threshold)).any(0) | ref.any(0), margin)
    return probs[:, *box].astype(np.float32), ref[:, *box], spacing_mm


def _dice(pred: np.ndarray, ref: np.ndarray) -> float:
    """Return Dice; 1 if both masks are empty."""
    total = np.count_nonzero(pred) + np.count_nonzero(ref)
    return 2 * np.count_nonzero(pred & ref) / total if total else 1.0
