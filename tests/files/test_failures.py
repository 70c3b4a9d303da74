"""Failed cases: which errors fail one case, which stop the run, and what is recorded."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from brats3d.errors import DataError, UsageError
from brats3d.files.failures import Failures, one_line


def test_failures_are_written_from_begin_on_and_the_latest_of_a_case_counts(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.folders["b"] = "/data/b"
    failures.add("a", "missing t1", "/data/a")
    assert not failures.path.exists(), "begin() was not called"
    failures.begin()
    with failures.catch("b"):
        raise ValueError("b: first\n  second\n")
    failures.add("a", "missing t2", "/data/a")
    assert json.loads(failures.path.read_text())["failures"] == [
        {"case_id": "a", "folder": "/data/a", "error": "missing t2"},
        {"case_id": "b", "folder": "/data/b", "error": "first; second"},
    ]
    assert len(failures) == 2 and "a" in failures and "c" not in failures


def test_a_run_without_failures_removes_the_file_of_an_earlier_run(tmp_path: Path) -> None:
    earlier = Failures(tmp_path)
    earlier.begin()
    earlier.add("a", "x")
    assert earlier.path.exists()
    now = Failures(tmp_path)
    now.begin()
    now.raise_any(3, 0)
    assert not now.path.exists()


def test_the_error_counts_the_cases_and_lists_the_failures(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.raise_any(2, 3)
    failures.add("a", "x")
    failures.add("b", "y")
    with pytest.raises(DataError) as caught:
        failures.raise_any(2, 3)
    assert caught.value.subject == "2 of 7 cases failed (2 segmented, 3 skipped)"
    assert caught.value.problems == ("a: x", "b: y")
    assert str(failures.path) in caught.value.advice


def from_(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        from_(RuntimeError("applying transform"), OSError(errno.ENOSPC, "No space left on device")),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        KeyboardInterrupt(),
        SystemExit(143),
    ],
    ids=repr,
)
def test_errors_that_affect_every_case_are_raised(error: BaseException, tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    with pytest.raises(type(error)), failures.catch("a"):
        raise error
    assert len(failures) == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EIO, "Input/output error"), "[Errno 5] Input/output error"),
        (torch.OutOfMemoryError("CUDA out of memory.\nSee"), "OutOfMemoryError: CUDA out of memory."),
        (torch.AcceleratorError("CUDA error: out of memory"), "AcceleratorError: CUDA error: out of memory"),
        (MemoryError(), "MemoryError"),
        (from_(RuntimeError("applying transform"), ValueError("case a: NaN")), "NaN"),
        (KeyError("pred"), "KeyError: 'pred'"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_other_errors_fail_only_their_case(error: Exception, text: str, tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    with failures.catch("a"):
        raise error
    assert [failure.error for failure in failures] == [text]
    assert "\n" not in one_line(error)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.path.write_text("mine")
    with pytest.raises(UsageError) as caught:
        failures.begin()
    assert caught.value.subject == "output_dir"
    assert failures.path.read_text() == "mine"
