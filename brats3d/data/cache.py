"""Prepared cases on disk: never stale, checked at each read, free of pickled objects.

MONAI's ``PersistentDataset`` identifies an entry by its paths alone, so it misses a changed file or transform (MONAI
issues 8599 and 8940). Here the name of an entry depends on everything that its content depends on.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import monai
import nibabel
import numpy as np
import torch

from brats3d.data.cache_format import pack_case, unpack_case
from brats3d.files import first_line, image_files, write_whole

FILE_KEYS = ("image", "label")
"""Keys of an item that hold paths."""

LEFTOVER_SECONDS = 3600
"""A temporary file of this age belongs to a process that was killed while writing it."""

logger = logging.getLogger("brats3d")


class DiskCache:
    """A folder with one file for each prepared case: ``folder/<recipe>/<case_id>.<item>.<files>.case``.

    ``recipe`` is a digest of the recipe's text, the source files of the transforms' classes, the source of brats3d and
    the versions of MONAI, torch, numpy, nibabel and Python; ``item`` of the item's values and absolute paths; ``files``
    of the size, mtime and ctime of each file. A change in any of these leads to another file. So several runs, also
    with different settings, can use one folder at the same time, and it can be deleted at any time. Modules that a
    transform from outside brats3d and MONAI imports are not in the digest.

    An entry is used only if its checksum is right; otherwise the case is prepared again. Tensors keep their dtype,
    their strides (which decide the order of sums in a network) and, as ``MetaTensor``, their meta. What MONAI needs to
    invert a transform (``applied_operations``) is dropped: it refers to objects of the process that applied it.

    Args:
        folder: parent of the entries; created when the first one is written.
        recipe: text that describes the transforms with all their arguments.
        transforms: the transforms themselves.
        fraction: of the disk space (free, or used by ``folder``) that ``folder`` may fill, 0 to 1.
    """

    def __init__(
        self, folder: str | Path, recipe: str, transforms: Sequence[Callable] = (), fraction: float = 0.5
    ) -> None:
        self.root = Path(folder).absolute()
        self.folder = self.root / _digest(recipe, _versions(), *_sources(transforms))
        self.fraction = fraction
        self.writes = True
        self._bytes_left: int | None = None

    def entry(self, item: Mapping[str, Any]) -> Path | None:
        """Return the path of the case's entry for its files as they are now; None if it cannot be stored."""
        try:
            files = {key: _absolute(item[key]) for key in FILE_KEYS if item.get(key)}
            values = json.dumps({**item, **files}, sort_keys=True, default=os.fspath)
            stats = [file.stat() for paths in files.values() for path in paths for file in image_files(Path(path))]
        except (OSError, ValueError, TypeError) as error:
            logger.debug("%s: not stored on disk: %s", item.get("case_id"), error)
            return None
        states = repr([(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats])
        return self.folder / f"{item['case_id']}.{_digest(values)}.{_digest(states)}.case"

    def contains(self, item: Mapping[str, Any]) -> bool:
        """Return True if the case has an entry, whole or damaged."""
        entry = self.entry(item)
        return entry is not None and os.path.isfile(entry)  # noqa: PTH113 - Path.is_file raises PermissionError

    def read(self, entry: Path) -> dict[str, Any] | None:
        """Return the prepared case; None if there is no entry, or a damaged one."""
        try:
            if not entry.is_file():
                return None
            return unpack_case(entry)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            logger.debug("%s: not used: %s", entry, first_line(error))
            return None

    def write(self, entry: Path | None, item: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
        """Store a prepared case. Never raises: a full disk or a value that cannot be stored only disables writing.

        Args:
            entry: result of :meth:`entry` from before the item's files were read. Nothing is written if it is None or
                if the files have changed since.
            item: the case that was prepared.
            prepared: the result of the transforms.
        """
        if not self.writes or entry is None or entry != self.entry(item):
            return
        try:
            content = pack_case(entry.name, prepared)
            if self._reserve(sum(map(len, content))):
                write_whole(entry, lambda file: file.writelines(content))
                _remove_outdated(entry)
        except OSError as error:
            self._stop_writing(logging.WARNING, str(error))
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            self._stop_writing(logging.INFO, f"{item['case_id']}: {first_line(error)}")

    def _reserve(self, size: int) -> bool:
        """Return True if ``size`` more bytes fit into the fraction of the disk, which is measured at the first entry.

        Existing entries count, so that runs that use one folder fill no more of the disk than one run would.
        """
        if self._bytes_left is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            used = _used_bytes(self.root)
            room = self.fraction * (shutil.disk_usage(self.folder).free + used) - used
            self._bytes_left = int(max(0, room) / idist.get_nproc_per_node())
        if size > self._bytes_left:
            self._stop_writing(
                logging.INFO,
                f"{self.fraction:.0%} of the disk space is used; delete {self.root} if it holds cases of old runs",
            )
            return False
        self._bytes_left -= size
        return True

    def _stop_writing(self, level: int, reason: str) -> None:
        if self.writes:
            logger.log(level, "cache_dir: no more prepared cases are stored on disk: %s", reason)
        self.writes = False


def _digest(*parts: str | bytes) -> str:
    """Return 20 hexadecimal digits of the SHA-256 of the parts."""
    return hashlib.sha256(b"\n".join(p if isinstance(p, bytes) else p.encode() for p in parts)).hexdigest()[:20]


@functools.cache
def _versions() -> str:
    """Return the versions of everything that prepares a case, brats3d's own as a digest of its source."""
    package = Path(__file__).parents[1]
    source = [f"{file.relative_to(package)} {_digest(file.read_bytes())}" for file in sorted(package.rglob("*.py"))]
    libraries = [library.__version__ for library in (monai, torch, np, nibabel)]
    return repr([*libraries, platform.python_version(), _digest(*source)])


def _sources(transforms: Sequence[Callable]) -> list[bytes]:
    """Return the content of the modules that define the transforms, so that a change of the user's own is noticed."""
    modules = [sys.modules.get(getattr(transform, "__module__", None) or "") for transform in transforms]
    files = {getattr(module, "__file__", None) for module in modules}
    return [Path(file).read_bytes() for file in sorted(filter(None, files))]


def _absolute(paths: Any) -> list[str]:
    return [os.path.abspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]  # noqa: PTH100


def _used_bytes(root: Path) -> int:
    used = 0
    for file in root.glob("*/*.case"):
        with suppress(OSError):  # another process has removed it
            used += file.stat().st_size
    return used


def _remove_outdated(entry: Path) -> None:
    """Remove the entries of the same item from before its files changed, and old temporary files."""
    item = entry.name.removesuffix(".case").rpartition(".")[0]
    for file in entry.parent.iterdir():
        outdated = file.name.startswith(f"{item}.") and file != entry
        try:
            if outdated or (file.suffix == ".tmp" and time.time() - file.stat().st_mtime > LEFTOVER_SECONDS):
                file.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("%s: not removed: %s", file, error)
