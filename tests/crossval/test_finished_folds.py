"""A fold is finished if its scores are those of its present weights with the same settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.crossval import CrossValidation
from brats3d.crossval.finished_folds import identify, is_finished, record_evaluation
from brats3d.report import EVALUATED_NAME


@pytest.fixture
def crossval(tmp_path: Path) -> CrossValidation:
    """Fold 0 was evaluated."""
    made = CrossValidation(tmp_path, {})
    made.best(0).parent.mkdir(parents=True)
    made.best(0).write_bytes(b"weights")
    (made.folder(0) / "metrics.json").write_text("scores")
    (made.folder(0) / "probabilities").mkdir()
    (made.folder(0) / "probabilities" / "case1.npz").write_text("probabilities")
    record_evaluation(made, 0, "settings")
    return made


def test_an_evaluated_fold_is_finished(crossval: CrossValidation) -> None:
    assert is_finished(crossval, 0, "settings")
    assert not is_finished(crossval, 1, "settings")
    assert not is_finished(crossval, 0, "other settings")


@pytest.mark.parametrize("name", ["checkpoints/best.pt", "metrics.json", EVALUATED_NAME])
@pytest.mark.parametrize("change", [lambda path: path.write_text("{"), lambda path: path.unlink()], ids=["new", "gone"])
def test_a_fold_is_not_finished_once_a_file_has_changed(crossval: CrossValidation, name: str, change) -> None:
    change(crossval.folder(0) / name)
    assert not is_finished(crossval, 0, "settings")


def test_a_fold_is_not_finished_once_probabilities_are_gone(crossval: CrossValidation) -> None:
    (crossval.folder(0) / "probabilities" / "case1.npz").unlink()
    assert not is_finished(crossval, 0, "settings")


def test_equal_parts_are_identified_in_any_order() -> None:
    assert identify([{"a": 1, "b": [2]}]) == identify([{"b": [2], "a": 1}]) != identify([{"a": 1, "b": [3]}])
