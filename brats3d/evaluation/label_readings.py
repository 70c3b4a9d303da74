"""Find conventions under which a folder would score far better, so that its labels may be misread.

The Dice of every reading follows from each case's counts of pairs of labels, so no file is read again. No reading is
applied: only the user knows what the labels mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from brats3d.cases import Case, with_convention
from brats3d.errors import DataError
from brats3d.evaluation.find_segmentation_files import Segmentation
from brats3d.evaluation.pair_scores import MAX_LABEL, PairScores
from brats3d.files import marked_convention
from brats3d.labels import CONVENTIONS, REGIONS_TO_READ, LabelConvention, get_convention

MIN_GAIN = 0.2
"""Least gain in a region's mean Dice that is reported."""

MIN_DICE = 0.5
"""Least mean Dice of that region under the other reading."""

MAX_LOSS = 0.05
"""Largest loss in the mean Dice of the other regions."""


def describe_labels(pairs: Sequence[PairScores]) -> str:
    """Describe the label conventions that were used."""
    preds = {pair.pred_convention + " (as the reference)" * pair.assumed for pair in pairs if pair.pred_convention}
    refs = {pair.ref_convention for pair in pairs}
    return f"predictions {', '.join(sorted(preds))}, reference {', '.join(sorted(refs))}"


def check_conventions(refs: Sequence[Segmentation]) -> None:
    """Refuse references whose names and headers do not state the meaning of their labels.

    Raises:
        UsageError: with the conventions that have all their labels.
    """
    unknown = [ref for ref in refs if ref.convention is None and not _is_marked(ref.path)]
    with_convention([Case(ref.case_id, ref.case_id, {}, ref.path, "", None) for ref in unknown], None, "ref-labels")


def _is_marked(path: Path) -> bool:
    try:
        return marked_convention(path) is not None
    except (ValueError, OSError):  # reported where the file is read
        return True


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
    if not assumed:
        return
    ref_labels, pred_labels = (_present(assumed, axis) for axis in (_REF, _PRED))
    if 4 in pred_labels and 3 not in pred_labels and 3 in ref_labels:
        convention = assumed[0].ref_convention
        raise DataError(
            pred_dir,
            f"the predictions have label 4 but never 3, which the reference ({convention}) has",
            advice=f"pass --pred-labels brats2020 if 4 is the enhancing tumour, else --pred-labels {convention}",
        )


def better_readings(pairs: Sequence[PairScores]) -> str:
    """Return a warning if another meaning of the labels of one folder would score far better; else an empty text.

    Dice cannot tell which of the two folders is misread. Files that brats3d wrote state their convention and are not
    doubted.
    """
    pairs = [pair for pair in pairs if pair.pred_convention]
    if not pairs:
        return ""
    best = [found for axis in (_PRED, _REF) if (found := _best_reading(pairs, axis))]
    highest = max((dice for dice, _ in best), default=0)
    ways = [text for dice, text in best if dice >= highest - MAX_LOSS]
    return f"labels may be misread: another meaning fits far better; {', or '.join(ways)}" if ways else ""


_REF, _PRED = 0, 1  # axes of PairScores.counts


def _present(pairs: Sequence[PairScores], axis: int) -> set[int]:
    """Return the labels that occur in the references (axis 0) or in the predictions (axis 1), without 0."""
    total = np.sum([pair.counts for pair in pairs], axis=0)
    return {int(label) for label in np.flatnonzero(total.sum(axis=1 - axis)) if label}


def _depths(pairs: Sequence[PairScores], axis: int = 0, reading: LabelConvention | None = None) -> np.ndarray:
    """Count voxels by depth in reference and prediction: 1 in WT only, 2 in TC too, 3 in ET. Shape (cases, 4, 4).

    Args:
        pairs: the cases.
        axis: the folder that has another meaning.
        reading: that meaning; None keeps the convention of every file.
    """
    ref = [_depth_of_labels(reading if reading and axis == _REF else pair.ref_convention) for pair in pairs]
    pred = [_depth_of_labels(reading if reading and axis == _PRED else pair.pred_convention) for pair in pairs]
    return np.stack([r.T @ pair.counts @ p for r, pair, p in zip(ref, pairs, pred, strict=True)])


def _depth_of_labels(meaning: LabelConvention | str) -> np.ndarray:
    """Return an array (labels, 4) with a 1 at the depth of each label."""
    convention = get_convention(meaning) if isinstance(meaning, str) else meaning
    depths = [sum(label in labels for labels in convention.regions.values()) for label in range(MAX_LABEL + 1)]
    return np.eye(4, dtype=int)[depths]


def _readings(pairs: Sequence[PairScores], axis: int) -> Iterator[LabelConvention]:
    """Yield meanings of the labels of one folder: conventions that have all labels, then the labels in other orders."""
    labels = sorted(_present(pairs, axis))
    names = {(pair.ref_convention, pair.pred_convention)[axis] for pair in pairs}
    yield from (convention for convention in CONVENTIONS.values() if convention.values.issuperset(labels))
    for order in itertools.permutations(labels) if len(names) == 1 else ():
        usual = get_convention(*names)
        number = dict(zip(labels, order, strict=True))
        regions = {region: tuple(number.get(label, label) for label in of) for region, of in usual.regions.items()}
        meanings = {number.get(label, label): meaning for label, meaning in usual.labels.items()}
        yield LabelConvention("", meanings, regions)


def _mean_dice(depths: np.ndarray) -> dict[str, float]:
    """Return region -> mean Dice over the cases."""
    dice = {}
    for depth, region in enumerate(REGIONS_TO_READ, start=1):
        both = depths[:, depth:, depth:].sum(axis=(1, 2))
        voxels = depths[:, depth:].sum(axis=(1, 2)) + depths[:, :, depth:].sum(axis=(1, 2))
        dice[region] = float(np.where(voxels, 2 * both / np.maximum(voxels, 1), 1).mean())
    return dice


def _is_far_better(depths: np.ndarray, usual: np.ndarray) -> bool:
    """Return True if another reading scores far better, and not by chance.

    More parts of the references must be predicted mostly as themselves, because predictions with few labels score
    better under any reading with larger regions. A reading must not empty a region, because an empty region scores 1.
    """
    matched = _matched_parts(depths)
    if matched < 2 or matched <= _matched_parts(usual) or _occurring(depths) < _occurring(usual):
        return False
    before, after = _mean_dice(usual), _mean_dice(depths)
    gains = {region: after[region] - before[region] for region in REGIONS_TO_READ}
    best = max(gains, key=lambda region: gains[region])
    return gains[best] >= MIN_GAIN and after[best] >= MIN_DICE and min(gains.values()) >= -MAX_LOSS


def _matched_parts(depths: np.ndarray) -> int:
    """Return how many of edema, core without ET, and ET are predicted more often as themselves than as another part."""
    parts = depths.sum(axis=0)[1:, 1:]
    return int(np.count_nonzero(parts.any(axis=1) & (parts.argmax(axis=1) == np.arange(len(parts)))))


def _occurring(depths: np.ndarray) -> int:
    """Return how many of the nested regions occur in the references, plus the same for the predictions."""
    return sum(int(np.flatnonzero(depths.sum(axis=(0, axis))).max(initial=0)) for axis in (1, 2))


def _best_reading(pairs: Sequence[PairScores], axis: int) -> tuple[float, str] | None:
    """Return the meaning of the labels of one folder that scores far better than the usual one: its Dice and a text."""
    if all((pair.ref_mark, pair.pred_mark)[axis] for pair in pairs):
        return None
    usual = _depths(pairs)
    scored = ((reading, _depths(pairs, axis, reading)) for reading in _readings(pairs, axis))
    better = [(reading, _mean_dice(depths)) for reading, depths in scored if _is_far_better(depths, usual)]
    if not better:
        return None
    reading, dice = max(better, key=lambda each: sum(each[1].values()))
    gains = ", ".join(
        f"{region} {dice[region]:.3f} instead of {before:.3f}"
        for region, before in _mean_dice(usual).items()
        if dice[region] > before
    )
    meaning = ", ".join(f"{label} = {name}" for label, name in sorted(reading.labels.items()))
    side = ("references", "predictions")[axis]
    return sum(dice.values()), f"{_way_out(reading, axis, pairs)} if the {side} have {meaning} (Dice {gains})"


def _way_out(reading: LabelConvention, axis: int, pairs: Sequence[PairScores]) -> str:
    """Return the options under which one folder has another meaning and the other folder keeps its own."""
    if not reading.name:
        return "renumber the files"
    if axis == _PRED:
        return f"pass --pred-labels {reading.name}"
    keep = sorted({pair.pred_convention for pair in pairs if pair.assumed})
    return f"pass --ref-labels {reading.name}" + "".join(f" --pred-labels {name}" for name in keep)
