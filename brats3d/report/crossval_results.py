"""The folder of a cross-validation, with the runs of its folds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats3d.errors import DataError
from brats3d.files import write_json
from brats3d.report.repeat_commands import RepeatCommand
from brats3d.report.run_results import Run, read_mapping, read_run

CROSSVAL_NAME = "crossval.json"
"""The number of folds and the settings of their trainings, in the folder of a cross-validation."""

EVALUATED_NAME = "evaluated.json"
"""The record of the last evaluation of a fold, in the fold's folder."""

OF_A_FOLD = ("fold", "output_dir", "training_cases", "validation_cases", "cache_dir")
"""Settings that differ between the folds."""


def write_crossval_settings(folder: Path, folds: int, settings: Mapping[str, Any]) -> None:
    """Write :data:`CROSSVAL_NAME`, by which a report recognises a cross-validation, finished or not.

    Args:
        folder: the folder of the cross-validation.
        folds: number of its folds, whose runs are in ``fold<k>``.
        settings: the settings of the trainings, without those that differ between the folds.
    """
    write_json(folder / CROSSVAL_NAME, json.loads(json.dumps({"folds": folds, "settings": settings}, default=str)))


def read_results(run_dir: str | Path, repeat: RepeatCommand | None = None) -> Run:
    """Read a run, or a cross-validation with the runs of its folds.

    Args:
        run_dir: the folder.
        repeat: writes the command that finishes a cross-validation, for the advice.

    Raises:
        NotFoundError, DataError: as :func:`brats3d.report.run_results.read_run`, for each run.
        DataError: naming the folds that a cross-validation lacks.
    """
    folder = Path(run_dir).expanduser()
    if not (folder / CROSSVAL_NAME).is_file():
        return read_run(folder)
    names = _finished_folds(folder, repeat)
    run, folds = read_run(folder), [read_run(folder / name) for name in names]
    first = folds[0]
    return replace(
        run,
        settings={name: value for name, value in first.settings.items() if name not in OF_A_FOLD},
        card=first.card,
        modalities=first.modalities,
        remarks=tuple(remark for fold in folds for remark in fold.remarks),
        folds=tuple(folds),
    )


def _finished_folds(folder: Path, repeat: RepeatCommand | None) -> list[str]:
    """Return the names of the folders of the folds; raise if some are not finished, or not combined."""
    content = read_mapping(folder / CROSSVAL_NAME)
    match content:
        case {"folds": int() as count, "settings": dict() as settings} if count > 0:
            names = [f"fold{number}" for number in range(count)]
        case _:
            raise DataError(folder / CROSSVAL_NAME, expected="folds and settings", found=content)
    missing = [str(number) for number, name in enumerate(names) if not (folder / name / EVALUATED_NAME).is_file()]
    if missing or not (folder / "metrics.json").is_file():
        unfinished = f"folds {', '.join(missing)} of {count} are not finished"
        command = repeat("crossval", {**settings, "output_dir": str(folder)}) if repeat else "brats3d crossval again"
        raise DataError(folder, unfinished if missing else "the folds were not combined", advice=f"run {command}")
    return names
