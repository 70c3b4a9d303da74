"""Record the files that brats3d writes, so that a later run replaces only those that are still unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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


class ChangedFileError(UsageError):
    """A file that would be replaced is not what brats3d wrote."""


@dataclass(frozen=True)
class WrittenVersion:
    """One version of a file, as the record describes it.

    Args:
        sha256: digest of the content.
        made_from: a text that identifies everything that the content depends on.
        source: a description of the input; empty if the record has none.
    """

    sha256: str
    made_from: str
    source: Mapping[str, Any] = field(default_factory=dict, hash=False)


class WrittenFiles:
    """The files of a folder that brats3d wrote. Write files through this class if a later run may replace them.

    A record in the folder has one line of JSON per written file, ``{"made_from": text, "files": {name: SHA-256}}``,
    with the name relative to the folder, and the ``"source"`` of the file if it is known. The line is appended before
    the file gets its name, so that a killed run leaves no file without a line. Incomplete lines and those of other
    programs are ignored.

    Args:
        folder: the folder; it need not exist.
        record: the record to append to; all records in the folder are read. Processes that write into one folder at
            the same time need separate records, since network file systems do not append atomically: see
            :func:`brats3d.files.shard_file_name`.
        argument: the argument that chose the folder or file, for error messages.
    """

    def __init__(self, folder: str | Path, record: str = RECORD_NAME, argument: str = "output_dir") -> None:
        self.folder = Path(folder)
        self.record = self.folder / record
        self.argument = argument
        self._written: dict[str, list[WrittenVersion]] = {}
        self._read_all()

    def write(
        self,
        path: str | Path,
        write: Callable[[IO[bytes]], Any],
        made_from: str = "",
        source: Mapping[str, Any] | None = None,
    ) -> Path:
        """Record a file and write it as :func:`brats3d.files.write_whole` does.

        An existing file is checked just before it is replaced: somebody may have changed it since the run started.

        Args:
            path: the file, in the folder or below it.
            write: called with a binary file object.
            made_from: a text, such as a digest, that identifies everything that the content depends on.
            source: describes the input, see :class:`WrittenVersion`.

        Raises:
            ChangedFileError: if the existing file is not what brats3d wrote. It is kept.
            OSError: if the file or the record cannot be written.
        """
        name = os.path.relpath(path, self.folder)

        def record(temporary: Path) -> None:
            digest = _sha256(temporary)
            assert digest is not None  # it was just written
            version = WrittenVersion(digest, made_from, source or {})
            entry = {"made_from": made_from, "files": {name: digest}, **({"source": source} if source else {})}
            line = json.dumps(entry)
            # One write call, so that lines of two processes do not mix. The previous line may be incomplete.
            with self.record.open("ab", buffering=0) as file:
                file.write(f"\n{line}\n".encode("ascii"))
                os.fsync(file.fileno())
            self._written.setdefault(name, []).append(version)
            self.check_replaceable([name])

        return write_whole(path, write, before_rename=record)

    @property
    def has_record(self) -> bool:
        """True if brats3d has written to the folder."""
        return bool(self._written)

    def versions(self, name: str) -> list[WrittenVersion]:
        """Return the recorded versions that the file may be now: those with its digest, or all if it was changed."""
        versions = self._written.get(name, [])
        digest = _sha256(self.folder / name)
        return [version for version in versions if version.sha256 == digest] or versions

    def are_unchanged(self, names: Iterable[str], made_from: str) -> bool:
        """Return True if all these files exist and are unchanged since they were written with this ``made_from``."""
        for name in names:
            digest = _sha256(self.folder / name)
            if not any((v.sha256, v.made_from) == (digest, made_from) for v in self._written.get(name, ())):
                return False
        return True

    def changed(self, names: Iterable[str]) -> list[str]:
        """Return those of these files that exist and are not what brats3d wrote."""
        changed = [name for name in names if self._is_changed(name)]
        if changed:
            self._read_all()  # another process may have written them
        return [name for name in changed if self._is_changed(name)]

    def check_replaceable(self, names: Iterable[str]) -> None:
        """Raise if one of these files exists and is not what brats3d wrote.

        Raises:
            ChangedFileError: naming the file.
        """
        for name in self.changed(names):
            problem = "was changed after brats3d wrote it" if name in self._written else "was not written by brats3d"
            advice = f"move it away, or choose another {self.argument}"
            raise ChangedFileError(self.argument, f"{self.folder / name} {problem}", advice=advice)

    def _is_changed(self, name: str) -> bool:
        path = self.folder / name
        return os.path.lexists(path) and _sha256(path) not in {each.sha256 for each in self._written.get(name, ())}

    def _read_all(self) -> None:
        self._written = {}
        for path in self.folder.glob("*.jsonl"):
            if _RECORD.fullmatch(path.name):
                self._read(path)

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
                    source = entry.get("source")
                    source = source if isinstance(source, Mapping) else {}
                    for name, digest in files.items():
                        self._written.setdefault(name, []).append(WrittenVersion(str(digest), made_from, source))


def write_owned(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file that a later run may replace; see :meth:`WrittenFiles.write`."""
    return WrittenFiles(Path(path).parent, argument="output").write(path, write)


def check_replaceable(path: str | Path, argument: str) -> None:
    """Raise if a file exists and is not what brats3d wrote; see :meth:`WrittenFiles.check_replaceable`."""
    WrittenFiles(Path(path).parent, argument=argument).check_replaceable([Path(path).name])


def _sha256(path: Path) -> str | None:
    """Return the digest of a regular file; None if it cannot be read."""
    try:
        regular_file_size(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
