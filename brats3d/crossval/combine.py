"""Combine finished folds: one table over all cases, the ensemble of their networks, and a report.

Each case is scored by the network that was not trained on it. One process combines the folds of a folder at a time; the
last two jobs of an array may finish together.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from brats3d.bundle import repeat_command
from brats3d.crossval.check import Checked
from brats3d.crossval.cross_validation import CrossValidation
from brats3d.crossval.one_fold import Echo
from brats3d.crossval.out_of_fold import choose_for_ensemble, fitting_cases, out_of_fold_cases
from brats3d.evaluation import ScoreRow, format_table, group_by_case, read_scores, write_csv, write_scores
from brats3d.files import WrittenFiles, read_json, write_json, write_owned
from brats3d.networks import ENSEMBLE_NAME, write_ensemble
from brats3d.postprocessing import CHOICE_NAME
from brats3d.quality import QUALITY_NAME, fit_quality, predict_out_of_fold, write_quality
from brats3d.report import EVALUATED_NAME, make_report

COMBINED_NAME = "combined.json"
"""The records of the evaluations that were combined, in the folder of the cross-validation."""

LOCK_NAME = ".combining.lock"

OWNED = ("metrics.json", QUALITY_NAME, "report.html")
"""Results that replace only what brats3d wrote."""

RESULTS = (*OWNED, "metrics.csv", ENSEMBLE_NAME, CHOICE_NAME)
"""The files that are written once all folds are finished."""


def check_results_replaceable(crossval: CrossValidation) -> None:
    """Raise before the trainings rather than after them if a result would replace a file of the user.

    Raises:
        ChangedFileError: naming the file.
    """
    WrittenFiles(crossval.output_dir).check_replaceable(OWNED)


def combine_folds(crossval: CrossValidation, checked: Checked, echo: Echo) -> None:
    """Write :data:`RESULTS` to the folder of the cross-validation, unless they are up to date, and print the scores.

    Args:
        crossval: the cross-validation; every fold is finished.
        checked: the facts about it.
        echo: prints a line.

    Raises:
        DataError: if a file of a fold is damaged.
    """
    folds = range(len(checked.folds))
    rows_of = [read_scores(crossval.folder(fold) / "metrics.json").rows for fold in folds]
    evaluations = [read_json(crossval.folder(fold) / EVALUATED_NAME) for fold in folds]
    with _one_at_a_time(crossval.output_dir):
        if _combined(crossval) != evaluations:
            _write_results(crossval, checked, rows_of)
            make_report(crossval.output_dir, repeat=repeat_command)
            write_json(crossval.output_dir / COMBINED_NAME, evaluations)
    rows = _in_order(rows_of)
    echo(f"\n{format_table(rows)}\n")
    for fold, each in zip(folds, rows_of, strict=True):
        echo(f"fold {fold}: {_describe(each)}")
    echo(f"all: {_describe(rows)}")
    echo(f"{crossval.output_dir / 'report.html'}")
    folder = shlex.quote(str(crossval.output_dir))
    echo(f"to predict with the ensemble: brats3d predict CASE_OR_DIR --output OUT --checkpoint {folder}")


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process combines the folds of this folder; on a file system without locks, do not wait."""
    lock = FileLock(folder / LOCK_NAME, fallback_to_soft=False)
    with suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            lock.release()


def _combined(crossval: CrossValidation) -> Any:
    """Return the records of the evaluations that were combined last; None if a result is missing."""
    if not all((crossval.output_dir / name).is_file() for name in RESULTS):
        return None
    try:
        return read_json(crossval.output_dir / COMBINED_NAME)
    except (OSError, ValueError):
        return None


def _write_results(crossval: CrossValidation, checked: Checked, rows_of: Sequence[Sequence[ScoreRow]]) -> None:
    folder, rows = crossval.output_dir, _in_order(rows_of)
    write_scores(
        folder / "metrics.json",
        rows,
        write_owned,
        mean_dice=_mean_dice(rows),
        rules=checked.settings["score_rules"],
        mean_dice_by_fold=[_mean_dice(each) for each in rows_of],
    )
    write_csv(folder / "metrics.csv", rows)
    cases = out_of_fold_cases(crossval, checked)
    choice = choose_for_ensemble(cases, checked.settings)
    write_json(folder / CHOICE_NAME, choice.to_json())
    fitted = fitting_cases(cases, choice)
    predicted = zip(fitted, predict_out_of_fold(list(fitted.values())), strict=False)  # none of few cases
    write_quality(folder / QUALITY_NAME, dict(predicted))
    learned = {"postprocessing": choice.values.to_json(), "quality": fit_quality(list(fitted.values()))}
    write_ensemble(folder, [crossval.best(fold) for fold in range(len(checked.folds))], learned)


def _in_order(rows_of: Sequence[Sequence[ScoreRow]]) -> list[ScoreRow]:
    return sorted((row for rows in rows_of for row in rows), key=lambda row: row.sort_key)


def _mean_dice(rows: Sequence[ScoreRow]) -> float:
    return statistics.fmean(row.dice for row in rows)


def _describe(rows: Sequence[ScoreRow]) -> str:
    return f"{len(group_by_case(rows))} cases, mean Dice {_mean_dice(rows):.3f}"
