"""Processes of folds, with scripts that stand in for trainings."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from brats3d.crossval import CrossValidation, SideBySide, side_by_side as module
from brats3d.crossval.time_left import TimeLeft
from brats3d.errors import UsageError

RECORDS = "import sys; print('error: brats3d: error: old'); print(*sys.argv[1:])"
FAILS = "import sys; print('brats3d: error: fold 1 is damaged\\n  case7', file=sys.stderr); sys.exit({code})"
WAITS = "import sys; print('started', flush=True); sys.stdin.read(); print('stopped')"


def started(script: str, devices: str = "cpu,cpu") -> SideBySide:
    return SideBySide([sys.executable, "-c", script], devices.split(","))


@pytest.fixture
def crossval(tmp_path: Path) -> CrossValidation:
    return CrossValidation(tmp_path / "out", {})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.005)


def test_every_fold_has_a_process_with_its_number_device_and_log(crossval: CrossValidation) -> None:
    assert started(RECORDS).run(crossval, [0, 1, 3], lambda fold: True, TimeLeft(None)) == []
    for fold in (0, 1, 3):
        assert f"--fold {fold} --device cpu\n" in (crossval.folder(fold) / "log.txt").read_text()


def test_a_process_gets_the_minutes_that_are_left(crossval: CrossValidation) -> None:
    started(RECORDS).run(crossval, [0], lambda fold: False, TimeLeft(5))
    minutes = float((crossval.folder(0) / "log.txt").read_text().split("--minutes")[1])
    assert 4.9 < minutes <= 5


def test_no_process_starts_after_the_time_limit(crossval: CrossValidation) -> None:
    assert started(RECORDS).run(crossval, [0], lambda fold: False, TimeLeft(1e-9)) == []
    assert not crossval.folder(0).exists()


@pytest.mark.parametrize(("code", "is_usage"), [(1, False), (2, True)])
def test_the_failure_of_a_process_is_the_last_error_in_its_log(
    crossval: CrossValidation, code: int, is_usage: bool
) -> None:
    started(RECORDS).run(crossval, [1], lambda fold: True, TimeLeft(None))
    (failure,) = started(FAILS.format(code=code)).run(crossval, [1], lambda fold: False, TimeLeft(None))
    assert (failure.fold, failure.is_usage) == (1, is_usage)
    assert failure.cause == "fold 1 is damaged\n  case7"


def test_a_process_that_was_killed_is_a_failure_with_its_exit_code(crossval: CrossValidation) -> None:
    script = "import os; os.kill(os.getpid(), 9)"
    (failure,) = started(script).run(crossval, [0], lambda fold: False, TimeLeft(None))
    assert "exit code -9" in failure.cause and "log.txt" in failure.cause and not failure.is_usage


def test_when_the_call_is_interrupted_its_processes_stop_first(
    crossval: CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        if all((crossval.folder(fold) / "log.txt").read_text() for fold in (0, 1)):
            raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        started(WAITS).run(crossval, [0, 1, 2], lambda fold: False, TimeLeft(None))
    assert [(crossval.folder(fold) / "log.txt").read_text() for fold in (0, 1)] == ["started\nstopped\n"] * 2
    assert not crossval.folder(2).exists()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        started(RECORDS, f"cpu,{name}")
    assert (caught.value.subject, caught.value.found) == ("devices", name)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_process_gets_one_signal_when_its_input_ends(monkeypatch: pytest.MonkeyPatch, stopping: bool) -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: received.append(signum))
    monkeypatch.setattr(module, "ECHO_SECONDS", 0.01)
    monkeypatch.setattr(module, "is_stopping", lambda: stopping)
    read, write = os.pipe()
    try:
        with os.fdopen(read) as source:
            monkeypatch.setattr(module.sys, "stdin", source)
            watching = module.stop_with_parent()
            watching.join(0.05)
            assert watching.is_alive() and received == []
            os.close(write)
            watching.join(10)
        assert received == ([] if stopping else [signal.SIGTERM])
    finally:
        signal.signal(signal.SIGTERM, before)
