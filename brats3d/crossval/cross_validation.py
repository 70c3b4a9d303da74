"""The settings of a cross-validation, and the folders and knobs of its folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OUTPUT_DIR = "runs/crossval"
"""The folder of a cross-validation, if the user names none."""

OF_A_CALL = ("fold", "minutes", "output_dir")
"""Knobs of train.yaml that a cross-validation sets for each fold."""


@dataclass(frozen=True)
class CrossValidation:
    """The settings of a cross-validation.

    Args:
        output_dir: its folder; ``fold<k>`` in it is the folder of the run that fold k validates.
        knobs: id -> value, for the training of every fold.
        overlays: config files that follow those of each workflow.
    """

    output_dir: Path
    knobs: Mapping[str, Any] = field(hash=False)
    overlays: tuple[Path, ...] = ()

    def folder(self, fold: int) -> Path:
        """Return the folder of a fold's run."""
        return self.output_dir / f"fold{fold}"

    def best(self, fold: int) -> Path:
        """Return the best weights of a fold's run."""
        return self.folder(fold) / "checkpoints" / "best.pt"

    def training(self, fold: int) -> dict[str, Any]:
        """Return id -> value for the training of a fold."""
        return {**self.knobs, "fold": fold, "output_dir": str(self.folder(fold))}

    def evaluation(self, fold: int) -> dict[str, Any]:
        """Return id -> value for the evaluation of a fold: those of the training, but other weights and all scores."""
        evaluated = {"checkpoint": str(self.best(fold)), "full_every": 1, "save_probabilities": True}
        return {**self.training(fold), **evaluated}
