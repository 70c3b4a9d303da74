"""Which segmentations in a folder are whole, and from what they were made: so that a restart leaves them alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RECORDS_NAME = "predictions.jsonl"

_NAMES = re.compile(r"predictions(-\d+-of-\d+)?\.jsonl")


class Predictions:
    """The records in ``<folder>/predictions.jsonl``: a line of JSON for each case that was written.

    ``{"case_id", "made_from", "files": {name: SHA-256}}``, appended when all of the case's files are in their places.
    Runs of a share write into a file of their own, since network disks do not append in one piece; all are read. In
    each file the last line of a case counts; a line that is torn, or something else, does not. A case without a line is
    made again, so that the files may be removed at any time.

    Args:
        folder: where the segmentations are.
        name: of the own file, see :func:`brats3d.files.share_name`: ``"predictions-3-of-8.jsonl"``.
    """

    def __init__(self, folder: str | Path, name: str = RECORDS_NAME) -> None:
        self.folder = Path(folder)
        self.path = self.folder / name
        self._records: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(self.folder.glob("predictions*.jsonl")):
            if _NAMES.fullmatch(path.name):
                for case_id, record in _read(path).items():
                    self._records.setdefault(case_id, []).append(record)

    @property
    def names(self) -> set[str]:
        """Of all files that were ever written, whatever lies there now."""
        return {name for records in self._records.values() for record in records for name in record["files"]}

    def is_done(self, case_id: str, made_from: str, names: Iterable[str]) -> bool:
        """Whether a case's files are, byte for byte, what was written, and were made from the same.

        Args:
            case_id: which case.
            made_from: what a segmentation depends on, as a text that differs where anything of it differs.
            names: the files that are asked for.
        """
        wanted = set(names)
        records = [
            record["files"]
            for record in self._records.get(case_id, ())
            if record["made_from"] == made_from and wanted <= record["files"].keys()
        ]
        found = {name: _sha256(self.folder / name) for name in wanted} if records else {}
        return None not in found.values() and any(found.items() <= files.items() for files in records)

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
        self._records[case_id] = [record]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
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
