"""Cases set aside: what is one case's failure, what concerns all, and what is told of it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from brats3d.files.failures import FailedCasesError, Failures, one_line


def test_failures_are_kept_on_disk_from_the_beginning_on_and_the_last_one_of_a_case_counts(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.folders["b"] = "/data/b"
    failures.add("a", "missing t1", "/data/a")
    assert not failures.path.exists(), "nothing is written before"
    failures.begin()
    with failures.of("b"):
        raise ValueError("b: first\n  second\n")
    failures.add("a", "missing t2", "/data/a")
    assert json.loads(failures.path.read_text())["failures"] == [
        {"case_id": "a", "folder": "/data/a", "error": "missing t2"},
        {"case_id": "b", "folder": "/data/b", "error": "first; second"},
    ]
    assert len(failures) == 2 and "a" in failures and "c" not in failures


def test_a_run_without_failures_removes_what_an_earlier_one_has_left(tmp_path: Path) -> None:
    earlier = Failures(tmp_path)
    earlier.begin()
    earlier.add("a", "x")
    assert earlier.path.exists()
    now = Failures(tmp_path)
    now.begin()
    now.raise_any(3, 0)
    assert list(tmp_path.iterdir()) == []


def test_one_failure_is_told_on_one_line_and_many_are_cut_at_twenty(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.add("a", "x")
    with pytest.raises(FailedCasesError, match=r"^1 of 6 cases failed \(2 segmented, 3 skipped\): a: x; see .*json$"):
        failures.raise_any(2, 3)
    for i in range(24):
        failures.add(f"b{i}", "y")
    with pytest.raises(FailedCasesError) as caught:
        failures.raise_any(0, 0)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[1] == "  a: x" and lines[-1] == "  and 5 more"


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
def test_what_concerns_every_case_is_raised(error: BaseException, tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    with pytest.raises(type(error)), failures.of("a"):
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
def test_anything_else_is_that_cases_failure(error: Exception, text: str, tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    with failures.of("a"):
        raise error
    assert [failure.error for failure in failures] == [text]
    assert "\n" not in one_line(error)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    for content in ("[]", "{", '{"failures": []}'):
        failures.path.write_text(content)
        with pytest.raises(ValueError, match="brats3d has not written it"):
            failures.begin()
        assert failures.path.read_text() == content
