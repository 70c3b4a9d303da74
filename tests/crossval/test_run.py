"""The order of the folds, their time limits and their failures, with stand-ins for trainings."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from brats3d.crossval import CrossValidation, cross_validate, run
from brats3d.crossval.check import Checked
from brats3d.errors import DataError, UsageError
from brats3d.training import lock_run


class Folds:
    """Stands in for the trainings: ``errors`` by fold, and the calls that were made."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.errors: dict[int, BaseException] = {}
        self.finished: set[int] = set()
        self.calls: list[tuple[int, float | None]] = []
        self.combined = 0
        self.takes: Callable[[], None] = lambda: None

    def run(self, crossval: CrossValidation, fold: int, made_with: str, minutes: float | None, echo: object) -> bool:
        self.calls.append((fold, minutes))
        self.takes()
        if fold in self.errors:
            raise self.errors[fold]
        self.finished.add(fold)
        return True

    def combine(self, *given: object) -> None:
        self.combined += 1


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folds:
    monkeypatch.chdir(tmp_path)
    made = Folds(count=3)
    monkeypatch.setattr(run, "check", lambda *given: Checked([[]] * made.count, "", {}))
    monkeypatch.setattr(run, "is_finished", lambda crossval, fold, made_with: fold in made.finished)
    monkeypatch.setattr(run, "run_fold", made.run)
    monkeypatch.setattr(run, "combine_folds", made.combine)
    return made


CROSSVAL = CrossValidation(Path("out"), {})


def test_every_fold_runs_once_and_then_they_are_combined(folds: Folds) -> None:
    cross_validate(CROSSVAL)
    assert folds.calls == [(0, None), (1, None), (2, None)] and folds.combined == 1


def test_finished_folds_are_skipped_and_reported(folds: Folds, log: pytest.LogCaptureFixture) -> None:
    folds.finished = {0, 2}
    cross_validate(CROSSVAL)
    assert [fold for fold, _ in folds.calls] == [1] and folds.combined == 1
    assert [text for text in log.messages if "is finished" in text] == ["fold 0 is finished", "fold 2 is finished"]


def test_a_single_fold_is_combined_only_with_all_others(folds: Folds, log: pytest.LogCaptureFixture) -> None:
    cross_validate(CROSSVAL, fold=1)
    assert [fold for fold, _ in folds.calls] == [1] and folds.combined == 0
    assert "not finished yet: folds 0, 2" in log.text
    cross_validate(CROSSVAL, fold=0)
    cross_validate(CROSSVAL, fold=2)
    assert folds.combined == 1


def test_a_failure_does_not_stop_the_other_folds_and_is_raised_at_the_end(folds: Folds) -> None:
    folds.errors = {1: DataError("case7", "is damaged")}
    with pytest.raises(DataError) as caught:
        cross_validate(CROSSVAL)
    assert [fold for fold, _ in folds.calls] == [0, 1, 2] and folds.combined == 0
    assert caught.value.problems == ("fold 1: case7: is damaged",)
    folds.errors = {}
    cross_validate(CROSSVAL)
    assert [fold for fold, _ in folds.calls[3:]] == [1] and folds.combined == 1


@pytest.mark.parametrize(("other", "kind"), [(UsageError("b", "y"), UsageError), (KeyError("y"), DataError)])
def test_failures_are_of_usage_only_if_all_are(folds: Folds, other: Exception, kind: type) -> None:
    folds.errors = {0: UsageError("a", "x"), 2: other}
    with pytest.raises(kind) as caught:
        cross_validate(CROSSVAL)
    assert [text.split(":")[0] for text in caught.value.problems] == ["fold 0", "fold 2"]


def test_the_cause_behind_an_error_of_monai_is_named(folds: Folds) -> None:
    folds.errors = {0: RuntimeError("Failed to instantiate")}
    folds.errors[0].__cause__ = UsageError("patch_size", "too large")
    with pytest.raises(UsageError) as caught:
        cross_validate(CROSSVAL)
    assert caught.value.problems == ("fold 0: patch_size: too large",)


def test_each_fold_gets_the_minutes_that_are_left(folds: Folds, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(run, "TimeLeft", lambda limit: run_time_left(limit, lambda: clock[0]))
    folds.takes = lambda: clock.__setitem__(0, clock[0] + 360)  # six minutes
    cross_validate(CROSSVAL, minutes=10)
    assert folds.calls == [(0, 10), (1, 4)] and folds.combined == 0  # no time is left for fold 2


run_time_left = run.TimeLeft


def test_sigterm_outside_a_training_ends_the_process_with_143(folds: Folds) -> None:
    before = signal.getsignal(signal.SIGTERM)
    folds.takes = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        cross_validate(CROSSVAL)
    assert stopped.value.code == 143 and len(folds.calls) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_call_for_all_folds_is_refused_at_once_and_one_for_a_fold_is_not(folds: Folds) -> None:
    CROSSVAL.output_dir.mkdir()
    with lock_run(CROSSVAL.output_dir):
        with pytest.raises(UsageError) as caught:
            cross_validate(CROSSVAL)
        assert caught.value.problem.startswith("out is being trained by another process") and folds.calls == []
        cross_validate(CROSSVAL, fold=1)
    folds.takes = lambda: cross_validate(CROSSVAL, fold=2) if len(folds.calls) == 2 else None
    cross_validate(CROSSVAL)
    assert [fold for fold, _ in folds.calls] == [1, 0, 2, 2]  # the lock was free again, and does not bind single folds


def test_a_folder_that_cannot_be_written_is_refused_once(folds: Folds) -> None:
    CROSSVAL.output_dir.touch()
    with pytest.raises(UsageError) as caught:
        cross_validate(CROSSVAL)
    assert caught.value.subject == "output_dir" and folds.calls == []


def test_the_settings_are_in_the_folder_before_a_fold_is_trained(folds: Folds) -> None:
    folds.errors = {fold: KeyboardInterrupt() for fold in range(3)}
    with pytest.raises(KeyboardInterrupt):
        cross_validate(CROSSVAL)
    assert json.loads((CROSSVAL.output_dir / "crossval.json").read_text()) == {"folds": 3, "settings": {}}
