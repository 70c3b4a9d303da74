"""The knobs of the folds."""

from __future__ import annotations

from pathlib import Path

from brats3d.crossval import CrossValidation

CROSSVAL = CrossValidation(Path("out"), {"dataset_dir": "data", "epochs": 3, "checkpoint": "start.pt", "full_every": 0})


def test_a_fold_is_trained_in_a_folder_of_its_own() -> None:
    assert CROSSVAL.training(2) == {**CROSSVAL.knobs, "fold": 2, "output_dir": "out/fold2"}


def test_the_evaluation_has_the_knobs_of_the_training_but_scores_its_best_weights_in_full() -> None:
    changed = {"checkpoint": "out/fold2/checkpoints/best.pt", "full_every": 1, "save_probabilities": True}
    assert CROSSVAL.evaluation(2) == {**CROSSVAL.training(2), **changed}
