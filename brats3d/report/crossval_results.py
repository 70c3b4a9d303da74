"""The folder of a run, or of a cross-validation with the runs of its folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from brats3d.networks import ENSEMBLE_NAME, read_card
from brats3d.report.run_results import Run, read_run

OF_A_FOLD = ("fold", "output_dir", "training_cases", "validation_cases", "cache_dir")
"""Settings that differ between the folds."""


def read_results(run_dir: str | Path) -> Run:
    """Read a run; or a cross-validation, whose ``ensemble.json`` lists the best weights of its folds' runs.

    Raises:
        NotFoundError, DataError: as :func:`brats3d.report.run_results.read_run`, for each run.
    """
    run = read_run(run_dir)
    if not (run.folder / ENSEMBLE_NAME).is_file():
        return run
    folds = [read_run((run.folder / member).parents[1]) for member in read_card(run.folder)["members"]]
    first = folds[0]
    return replace(
        run,
        settings={name: value for name, value in first.settings.items() if name not in OF_A_FOLD},
        card=first.card,
        modalities=first.modalities,
        remarks=tuple(remark for fold in folds for remark in fold.remarks),
        folds=tuple(folds),
    )
