"""Prepare the raw scans of a folder, case by case. A case that fails does not stop the others."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brats3d.errors import MAX_LISTED, DataError, UsageError
from brats3d.files import Failures, explain_full_disk, remove_leftovers, writable_folder
from brats3d.scans.find_scans import RawCase, find_scans, read_scans
from brats3d.scans.preparation import prepare_case
from brats3d.scans.prepared_files import read_source, write_prepared

logger = logging.getLogger("brats3d")


@dataclass(frozen=True)
class Preparation:
    """The result of a run.

    Args:
        out: the output folder.
        done: cases of this run -> what they lacked of BraTS's form.
        skipped: cases that were in the output folder already.
        failed: cases that failed -> the reason.
    """

    out: Path
    done: Mapping[str, str]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]

    def summary(self) -> list[str]:
        """Return lines to print: the counts, the failures, and the command to run next."""
        done, skipped, failed = len(self.done), len(self.skipped), len(self.failed)
        lines = [f"Prepared {done} case{'s' * (done != 1)} in {self.out} ({skipped} already done, {failed} failed)"]
        lines += [f"  {case_id}: {reason}" for case_id, reason in list(self.failed.items())[:MAX_LISTED]]
        if failed > MAX_LISTED:
            lines.append(f"  and {failed - MAX_LISTED} more, see failures.json")
        if self.done or self.skipped:
            lines.append(f"Next: look at the *_check.png, then brats3d predict {shlex.quote(str(self.out))}")
        return lines


def prepare_scans(src: str | os.PathLike[str], out: str | os.PathLike[str]) -> Preparation:
    """Write the raw scans of ``src`` to ``out`` in BraTS 2020's layout.

    Each case gets a folder with its images, the transforms to the raw scans, a picture for checking and
    ``preparation.json``. Cases that are in ``out`` already are skipped. Failures are listed in ``failures.json``.

    Args:
        src: a folder of DICOM series or image files, see :func:`brats3d.scans.find_scans.find_scans`.
        out: the output folder, created if missing.

    Raises:
        UsageError: if a folder cannot be used, or if a library of the extra is needed and not installed.
        DataError: if ``src`` contains no scan.
        OSError: if the disk fills up. Finished cases are kept, and nothing is half written.
    """
    source, out = Path(src).expanduser(), Path(out).expanduser()
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError("out", expected=f"a folder outside {src}", found=str(out), advice="choose another")
    cases = find_scans(source)
    writable_folder(out, "out")
    remove_leftovers(out)
    failures = Failures(out)
    failures.begin()
    done: dict[str, str] = {}
    skipped = []
    for case in cases:
        with failures.catch(case.case_id):
            if lacked := prepare_once(case, out):
                done[case.case_id] = lacked
            else:
                skipped.append(case.case_id)
    return Preparation(out, done, tuple(skipped), {failure.case_id: failure.error for failure in failures})


def prepare_once(case: RawCase, out: Path) -> str:
    """Prepare a case into ``out/<case_id>``, unless that was done before from the same files.

    Returns:
        What the case lacked of BraTS's form; empty if it was prepared before.

    Raises:
        DataError: if the case cannot be prepared, or ``out`` holds a case of this name that was made from other files.
        UsageError: if a library of the extra is needed and not installed.
        OSError: if the disk fills up.
    """
    folder = out / case.case_id
    if folder.exists():
        if read_source(folder) == case.fingerprint():
            return ""
        advice = "move this folder away, or choose another for the output"
        raise DataError(case.case_id, f"{folder} was not prepared from these scans", advice=advice)
    with explain_full_disk(out, "finished cases are kept"):
        prepared = prepare_case(case.case_id, read_scans(case))
        write_prepared(folder, case.case_id, prepared, case.fingerprint())
    lacked = prepared.condition.describe()
    logger.info("%s: %s", case.case_id, lacked)
    return lacked
