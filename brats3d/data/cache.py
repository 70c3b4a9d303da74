"""Prepared cases on disk: fresh by construction, checked at each read, free of pickle.

MONAI's ``PersistentDataset`` names an entry after the paths alone and loads it for ever: a file that has changed, or a
transform, goes unnoticed (MONAI issues 8599 and 8940). Here the name holds all that the content depends on.
"""

from __future__ import annotations

import enum
import json
import logging
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import MetaTensor

from brats3d.data.fingerprints import digest, fingerprint, versions
from brats3d.files import first_line, write_whole

MAGIC = b"brats3d case 1\n\0"

FILE_KEYS = ("image", "label")
"""What an item holds paths under."""

UNUSED_SECONDS = 14 * 24 * 3600
"""A fingerprint's folder that nobody has opened for so long is removed: its transforms or versions are hardly used."""

TOUCH_SECONDS = 24 * 3600
"""A folder in use is marked so after that long."""

LEFTOVER_SECONDS = 3600
"""A temporary file of that age belongs to a process that was killed while it wrote."""

logger = logging.getLogger("brats3d")


class DiskCache:
    """One file a prepared case: ``folder/<fingerprint>/<case_id>.<item>.<files>.case``.

    The fingerprint is of the transforms with their parameters, of the versions of MONAI, torch, numpy, nibabel and
    Python, and of brats3d's own source; ``item`` of the item's values and absolute paths; ``files`` of each file's
    size, mtime and ctime. Whatever changes, another file is looked for. So several runs, also with other settings, may
    share a folder, and it may be removed at any time. What no run has opened for 14 days goes when the next run opens.

    An entry is used only if all its checksums (crc32: 2.8 GB/s where blake2b has 0.7) fit the very bytes that are used.
    Any other is made anew. Tensors keep dtype, strides and, as ``MetaTensor``, their meta. What MONAI would need to
    invert a transform (``applied_operations``) is not kept: it refers to objects of the process that applied it.

    Args:
        folder: where the entries go; made when the first one is written.
        transforms: the deterministic ones, not used yet.
        share: of the disk's space that is free, or taken by ``folder``, that ``folder`` may fill, 0 to 1.
    """

    def __init__(self, folder: str | Path, transforms: Sequence[Callable], share: float = 0.5) -> None:
        self.share = share
        self._writes = True
        self._left: int | None = None
        self._touched = 0.0
        try:
            self.folder: Path | None = Path(folder).absolute() / digest(fingerprint(list(transforms)), versions())
        except (ValueError, TypeError, RuntimeError) as error:
            logger.info("cache_dir: prepared cases are not kept on disk: %s", first_line(error))
            self.folder = None
        else:
            self._touch()
            _remove_unused(self.folder)

    @property
    def writes(self) -> bool:
        """Whether entries are still written: the disk has neither failed nor is its share full."""
        return self._writes and self.folder is not None

    def entry(self, item: Mapping[str, Any]) -> Path | None:
        """Where the case stands, or would, as its files are now; None where nothing can be kept."""
        if self.folder is None:
            return None
        try:
            stats = [os.stat(path) for path in _paths(item)]  # noqa: PTH116 - items hold strings
            values = fingerprint({**item, "files": [os.path.abspath(path) for path in _paths(item)]})  # noqa: PTH100
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            logger.debug("%s: not kept on disk: %s", item.get("case_id"), error)
            return None
        files = repr([(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats])
        return self.folder / f"{item['case_id']}.{digest(values)}.{digest(files)}.case"

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether there is an entry, whatever its state."""
        entry = self.entry(item)
        return entry is not None and os.path.isfile(entry)  # noqa: PTH113 - False where the folder cannot be searched

    def read(self, entry: Path) -> dict[str, Any] | None:
        """The prepared case; None where there is no entry, or one that cannot be relied on."""
        try:
            if not entry.is_file():
                return None
            self._touch()
            with entry.open("rb", buffering=0) as file:
                return _read(file, entry.name)
        except (OSError, ValueError, KeyError, TypeError, MemoryError, RuntimeError) as error:
            logger.debug("%s: not used: %s", entry, error)
            return None

    def write(self, entry: Path | None, item: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
        """Keep a prepared case; never an error.

        Args:
            entry: what :meth:`entry` gave before the item's files were read. If they have changed since, or it is None,
                nothing is written.
            item: what was prepared.
            prepared: what came of it.
        """
        if not self._writes or entry is None or entry != self.entry(item):
            return
        try:
            parts = _encode(prepared, entry.name)
            if self._grant(sum(map(len, parts))):
                write_whole(entry, lambda file: [file.write(part) for part in parts])
                _tidy(entry)
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            self._stop(logging.INFO, f"{item['case_id']}: {first_line(error)}")
        except OSError as error:
            self._stop(logging.WARNING, str(error))

    def _grant(self, size: int) -> bool:
        """Whether the share of the disk has room for so many bytes; the share is taken at the first entry.

        What lies there already counts, so that runs one after the other, and side by side, fill no more than one would.
        """
        assert self.folder is not None
        if self._left is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            used = _used_bytes(self.folder.parent)
            room = self.share * (shutil.disk_usage(self.folder).free + used) - used
            self._left = int(max(0, room) / idist.get_nproc_per_node())
        if size > self._left:
            self._stop(logging.INFO, f"the cache has its share of the disk ({self.share:.0%} of what it could take)")
            return False
        self._left -= size
        return True

    def _touch(self) -> None:
        """Mark the folder as in use, once a day: reading leaves no trace of its own."""
        if self.folder is not None and time.time() - self._touched > TOUCH_SECONDS:
            self._touched = time.time()
            with suppress(OSError):
                os.utime(self.folder)

    def _stop(self, level: int, reason: str) -> None:
        if self._writes:
            logger.log(level, "cache_dir: no more prepared cases are kept on disk: %s", reason)
        self._writes = False


_FINGERPRINT = re.compile(r"[0-9a-f]{20}")


def _paths(item: Mapping[str, Any]) -> list[str]:
    values = [item[key] for key in FILE_KEYS if item.get(key)]
    return [os.fspath(p) for v in values for p in ([v] if isinstance(v, str | os.PathLike) else v)]


def _tidy(path: Path) -> None:
    """Remove what this entry replaces, and what killed processes have left of it."""
    case, _ = path.name.removesuffix(".case").rsplit(".", 1)
    for file in path.parent.iterdir():
        old = file.name.startswith(f"{case}.") and file != path
        try:
            if old or (file.name.endswith(".tmp") and time.time() - file.stat().st_mtime > LEFTOVER_SECONDS):
                file.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("%s: not removed: %s", file, error)


def _fingerprint_folders(root: Path) -> Iterator[tuple[os.DirEntry[str], list[os.DirEntry[str]]]]:
    """Folders that a cache has made, and their files: named by 20 hex digits, with nothing but entries in them."""
    with suppress(OSError), os.scandir(root) as listing:
        for folder in sorted(listing, key=lambda entry: entry.name):
            if not _FINGERPRINT.fullmatch(folder.name) or not folder.is_dir(follow_symlinks=False):
                continue
            with suppress(OSError), os.scandir(folder.path) as files:
                found = list(files)
                if all(f.is_file(follow_symlinks=False) and f.name.endswith((".case", ".tmp")) for f in found):
                    yield folder, found


def _used_bytes(root: Path) -> int:
    """What the entries of all fingerprints take."""
    used = 0
    for _, files in _fingerprint_folders(root):
        for file in files:
            with suppress(OSError):  # another process has removed it
                used += file.stat(follow_symlinks=False).st_size
    return used


def _remove_unused(own: Path) -> None:
    """Remove what no run has opened for long, beside this folder."""
    for folder, files in _fingerprint_folders(own.parent):
        with suppress(OSError):
            if folder.name != own.name and time.time() - folder.stat().st_mtime > UNUSED_SECONDS:
                for file in files:
                    Path(file).unlink(missing_ok=True)
                Path(folder).rmdir()


def _encode(prepared: Mapping[str, Any], name: str) -> list[bytes | memoryview]:
    arrays: list[memoryview] = []
    values = _encode_value(dict(prepared), arrays)
    sizes = [[array.nbytes, zlib.crc32(array)] for array in arrays]
    header = json.dumps({"name": name, "values": values, "arrays": sizes}).encode()
    prefix = MAGIC + len(header).to_bytes(8, "little") + zlib.crc32(header).to_bytes(4, "little")
    return [prefix, header, *arrays]


def _encode_value(value: Any, arrays: list[memoryview]) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str) and isinstance(value, enum.Enum):  # MONAI's keys; equal to their text
        return str(value.value)
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encode_value(v, arrays) for v in value]}
    if type(value) is dict and all(type(k) is str or isinstance(k, enum.Enum) for k in value):
        return {"dict": {_encode_value(k, arrays): _encode_value(v, arrays) for k, v in value.items()}}
    if type(value) is torch.Tensor and value.device.type == "cpu" and not value.requires_grad:
        return {"tensor": _encode_tensor(value, arrays)}
    if type(value) is MetaTensor and value.device.type == "cpu" and not value.pending_operations:
        plain = value.detach().as_tensor()
        return {"meta_tensor": _encode_tensor(plain, arrays), "meta": _encode_value(dict(value.meta), arrays)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        array = np.asarray(value)
        arrays.append(memoryview(array.tobytes()))
        kind = "ndarray" if isinstance(value, np.ndarray) else "scalar"
        return {kind: [len(arrays) - 1, array.dtype.str, list(array.shape)]}
    raise ValueError(f"a {type(value).__name__} cannot be written")


def _encode_tensor(tensor: torch.Tensor, arrays: list[memoryview]) -> list[Any]:
    """Its place, dtype, shape as it lies in memory, and the axes' order there: strides decide how a network sums."""
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    stored = tensor.permute(order).contiguous()
    arrays.append(stored.reshape(-1).view(torch.uint8).numpy().data)
    return [len(arrays) - 1, str(tensor.dtype).removeprefix("torch."), list(stored.shape), order]


def _read(file: IO[bytes], name: str) -> dict[str, Any]:
    """The values of an entry of this name.

    Raises:
        ValueError: if it is not one, or is not whole.
    """
    prefix = file.read(len(MAGIC) + 12)
    size, checksum = (int.from_bytes(prefix[a:b], "little") for a, b in ((-12, -4), (-4, None)))
    left = os.fstat(file.fileno()).st_size - len(prefix) - size
    if prefix[:-12] != MAGIC or left < 0:
        raise ValueError("no header")
    header = json.loads(_take(file, size, checksum).numpy().tobytes())
    if header["name"] != name or sum(size for size, _ in header["arrays"]) != left:
        raise ValueError("another case's, or cut off")
    arrays = [_take(file, size, checksum) for size, checksum in header["arrays"]]
    return _decode_value(header["values"], arrays)


def _take(file: IO[bytes], size: int, checksum: int) -> torch.Tensor:
    """The next bytes, in memory of their own, after they have been checked."""
    content, done = torch.empty(size, dtype=torch.uint8), 0
    view = content.numpy().data
    while done < size:  # one call reads 2 GiB at most
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError("cut off")
        done += count
    if zlib.crc32(view) != checksum:
        raise ValueError("damaged")
    return content


def _decode_value(node: Any, arrays: Sequence[torch.Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    kind, content = next(iter(node.items()))
    if kind in ("list", "tuple"):
        values = [_decode_value(v, arrays) for v in content]
        return values if kind == "list" else tuple(values)
    if kind == "dict":
        return {k: _decode_value(v, arrays) for k, v in content.items()}
    if kind in ("ndarray", "scalar"):
        place, dtype, shape = content
        array = arrays[place].numpy().view(np.dtype(dtype)).reshape(shape)
        return array if kind == "ndarray" else array[()]
    place, dtype, shape, order = content
    tensor = arrays[place].view(getattr(torch, dtype)).reshape(shape)
    tensor = tensor.permute([order.index(axis) for axis in range(len(order))])
    return MetaTensor(tensor, meta=_decode_value(node["meta"], arrays)) if kind == "meta_tensor" else tensor
