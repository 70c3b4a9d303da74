"""Which segmentations in a folder are whole, and from what they were made: so that a restart leaves them alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["RECORDS_NAME", "Predictions"]

RECORDS_NAME = "predictions.jsonl"


class Predictions:
    """The records in ``<folder>/predictions.jsonl``: a line of JSON for each case that was written.

    ``{"case_id", "made_from", "files": {name: SHA-256}}``, appended when all of the case's files are in their places.
    The last line of a case counts; a line that is torn, or something else, does not. A case without a line is made
    again, so that the file may be removed at any time.

    Args:
        folder: where the segmentations are.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RECORDS_NAME
        self._records = _read(self.path)

    @property
    def names(self) -> set[str]:
        """Of all files that were ever written, whatever lies there now."""
        return {name for record in self._records.values() for name in record["files"]}

    def is_done(self, case_id: str, made_from: str, names: Iterable[str]) -> bool:
        """Whether a case's files are, byte for byte, what was written, and were made from the same.

        Args:
            case_id: which case.
            made_from: what a segmentation depends on, as a text that differs where anything of it differs.
            names: the files that are asked for.
        """
        record = self._records.get(case_id)
        if record is None or record["made_from"] != made_from:
            return False
        return all(name in record["files"] and record["files"][name] == _sha256(self.folder / name) for name in names)

    def add(self, case_id: str, made_from: str, names: Iterable[str]) -> None:
        """Record a case whose files are in their places.

        Raises:
            OSError: if the record cannot be written, or a file is not there.
        """
        files = {name: _sha256(self.folder / name) for name in names}
        if missing := [name for name, found in files.items() if found is None]:
            raise FileNotFoundError(f"{self.folder / missing[0]}: written, and gone")
        record = {"case_id": case_id, "made_from": made_from, "files": files}
        # In one write, so that the lines of two processes do not mix. The line before may be torn, and lack its end.
        with self.path.open("ab", buffering=0) as file:
            file.write(b"\n" + json.dumps(record).encode("ascii") + b"\n")
        self._records[case_id] = record


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if _is_record(record):
            found[record["case_id"]] = record
    return found


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("case_id"), str)
        and isinstance(record.get("made_from"), str)
        and isinstance(record.get("files"), Mapping)
    )


def _sha256(path: Path) -> str | None:
    """Of a file's content; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
