"""Record the files that brats3d writes, so that a later run replaces only those that are still unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from brats3d.errors import UsageError
from brats3d.files.atomic_write import write_whole
from brats3d.files.bounded_read import regular_file_size

RECORD_NAME = ".brats3d.jsonl"
"""The record of the files in a folder, unless they are predictions."""

PREDICTIONS_NAME = "predictions.jsonl"
"""The record of predictions."""

_RECORD = re.compile(r"(\.brats3d|predictions)(-\d+-of-\d+)?\.jsonl")


class WrittenFiles:
    """The files of a folder that brats3d wrote. Write files through this class if a later run may replace them.

    A record in the folder has one line of JSON per written file, ``{"made_from": text, "files": {name: SHA-256}}``. The
    line is appended before the file gets its name, so that a killed run leaves no file without a line. Incomplete
    lines and those of other programs are ignored.

    Args:
        folder: the folder; it need not exist.
        record: the record to append to; all records in the folder are read. Processes that write into one folder at
            the same time need separate records, since network file systems do not append atomically: see
            :func:`brats3d.files.shard_file_name`.
    """

    def __init__(self, folder: str | Path, record: str = RECORD_NAME) -> None:
        self.folder = Path(folder)
        self.record = self.folder / record
        self._written: dict[str, set[tuple[str, str]]] = {}
        """Name -> (SHA-256, made_from) of every version."""
        for path in self.folder.glob("*.jsonl"):
            if _RECORD.fullmatch(path.name):
                self._read(path)

    def write(self, path: str | Path, write: Callable[[IO[bytes]], Any], made_from: str = "") -> Path:
        """Record a file and write it as :func:`brats3d.files.write_whole` does. This does not check the old file.

        Args:
            path: the file, in the folder.
            write: called with a binary file object.
            made_from: a text, such as a digest, that identifies everything that the content depends on.

        Raises:
            OSError: if the file or the record cannot be written.
        """
        name = Path(path).name

        def record(temporary: Path) -> None:
            digest = _sha256(temporary)
            assert digest is not None  # it was just written
            line = json.dumps({"made_from": made_from, "files": {name: digest}})
            # One write call, so that lines of two processes do not mix. The previous line may be incomplete.
            with self.record.open("ab", buffering=0) as file:
                file.write(f"\n{line}\n".encode("ascii"))
                os.fsync(file.fileno())
            self._written.setdefault(name, set()).add((digest, made_from))

        return write_whole(path, write, before_rename=record)

    def are_unchanged(self, names: Iterable[str], made_from: str) -> bool:
        """Return True if all these files exist and are unchanged since they were written with this ``made_from``."""
        return all((_sha256(self.folder / name), made_from) in self._written.get(name, ()) for name in names)

    def check_replaceable(self, names: Iterable[str], argument: str = "output_dir") -> None:
        """Raise if one of these files exists and is not what brats3d wrote.

        Args:
            names: files in the folder.
            argument: the argument that chose the folder or file.

        Raises:
            UsageError: naming the file.
        """
        for name in names:
            path = self.folder / name
            if not os.path.lexists(path) or _sha256(path) in {digest for digest, _ in self._written.get(name, ())}:
                continue
            problem = "was changed after brats3d wrote it" if name in self._written else "was not written by brats3d"
            raise UsageError(argument, f"{path} {problem}", advice=f"move it away, or choose another {argument}")

    def _read(self, record: Path) -> None:
        try:
            lines = record.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            match entry:
                case {"made_from": str() as made_from, "files": Mapping() as files}:
                    for name, digest in files.items():
                        self._written.setdefault(name, set()).add((str(digest), made_from))


def write_owned(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file that a later run may replace; see :meth:`WrittenFiles.write`."""
    return WrittenFiles(Path(path).parent).write(path, write)


def check_replaceable(path: str | Path, argument: str) -> None:
    """Raise if a file exists and is not what brats3d wrote; see :meth:`WrittenFiles.check_replaceable`."""
    WrittenFiles(Path(path).parent).check_replaceable([Path(path).name], argument)


def _sha256(path: Path) -> str | None:
    """Return the digest of a regular file; None if it cannot be read."""
    try:
        regular_file_size(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
