"""Prepared cases on disk: fresh by construction, checked at each read, free of pickle.

MONAI's ``PersistentDataset`` names an entry after the paths alone and loads it for ever: a file that has changed, or a
transform, goes unnoticed (MONAI issues 8599 and 8940). Here the name holds all that the content depends on.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import logging
import os
import platform
import re
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import ignite.distributed as idist
import monai
import nibabel
import numpy as np
import torch
from monai.data import MetaTensor

from brats3d.files import write_whole

__all__ = ["DiskCache", "fingerprint"]

MAGIC = b"brats3d case 1\n\0"
FILE_KEYS = ("image", "label")
"""What an item holds paths under."""
VERSIONED = frozenset({"monai", "torch", "numpy", "nibabel"}) | sys.stdlib_module_names
"""Packages whose code is known by its version; of any other the source is part of the fingerprint."""
LEFTOVER_SECONDS = 3600
"""A temporary file of that age belongs to a process that was killed while it wrote."""

logger = logging.getLogger("brats3d")


class DiskCache:
    """One file a prepared case: ``folder/<fingerprint>/<case_id>.<item>.<files>.case``.

    The fingerprint is of the transforms with their parameters, of the versions of MONAI, torch, numpy, nibabel and
    Python, and of brats3d's own source; ``item`` of the item's values and absolute paths; ``files`` of each file's
    size, mtime and ctime. Whatever changes, another file is looked for. So several runs, also with other settings, may
    share a folder, and it may be removed at any time.

    An entry is used only if all its checksums (crc32: 2.8 GB/s where blake2b has 0.7) fit the very bytes that are used.
    Any other is made anew. Tensors keep dtype, strides and, as ``MetaTensor``, their meta. What MONAI would need to
    invert a transform (``applied_operations``) is not kept: it refers to objects of the process that applied it.

    Args:
        folder: where the entries go; made when the first one is written.
        transforms: the deterministic ones, not used yet.
        share: of the disk's free space that this process and those beside it may fill, 0 to 1.
    """

    def __init__(self, folder: str | Path, transforms: Sequence[Callable], share: float = 0.5) -> None:
        self.share = share
        self._writes = True
        self._left: int | None = None
        try:
            self.folder: Path | None = Path(folder).absolute() / _digest(fingerprint(list(transforms)), _versions())
        except ValueError as error:
            logger.info("cache_dir: prepared cases are not kept on disk: %s", error)
            self.folder = None

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
        except (OSError, ValueError) as error:
            logger.debug("%s: not kept on disk: %s", item.get("case_id"), error)
            return None
        files = repr([(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats])
        return self.folder / f"{item['case_id']}.{_digest(values)}.{_digest(files)}.case"

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether there is an entry, whatever its state."""
        entry = self.entry(item)
        return entry is not None and entry.is_file()

    def read(self, entry: Path) -> dict[str, Any] | None:
        """The prepared case; None where there is no entry, or one that cannot be relied on."""
        try:
            if not entry.is_file():
                return None
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
        except ValueError as error:
            self._stop(logging.INFO, f"{item['case_id']}: {error}")
        except OSError as error:
            self._stop(logging.WARNING, str(error))

    def _grant(self, size: int) -> bool:
        """Whether the share of the disk has room for so many bytes; the share is taken at the first entry."""
        assert self.folder is not None
        if self._left is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._left = int(self.share * shutil.disk_usage(self.folder).free / idist.get_nproc_per_node())
        if size > self._left:
            self._stop(logging.INFO, f"{self.share:.0%} of the free disk is full")
            return False
        self._left -= size
        return True

    def _stop(self, level: int, reason: str) -> None:
        if self._writes:
            logger.log(level, "cache_dir: no more prepared cases are kept on disk: %s", reason)
        self._writes = False


def fingerprint(value: Any) -> str:
    """A text that is the same for equal values in any process, and another for any other value.

    Objects are described by their classes, the source of the modules of those, and their attributes.

    Raises:
        ValueError: if something has no such text: a lambda, an object in itself, or what is not made of Python.
    """
    return json.dumps(_describe(value, ()))


def _describe(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if id(value) in above:
        raise ValueError(f"{type(value).__name__} refers to itself")
    inner = functools.partial(_describe, above=(*above, id(value)))
    kind = type(value)
    if kind in (float, complex, bytes) or isinstance(value, torch.dtype | torch.device | np.dtype | np.generic):
        return [_name(kind), repr(value)]
    if kind in (list, tuple):
        return [kind.__name__, [inner(v) for v in value]]
    if kind in (set, frozenset):
        return [kind.__name__, sorted(json.dumps(inner(v)) for v in value)]
    if isinstance(value, Mapping):
        return [_name(kind), sorted(json.dumps([inner(k), inner(v)]) for k, v in value.items())]
    if isinstance(value, enum.Enum):
        return [_name(kind), value.name]
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.asarray(value)
        return [_name(kind), str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, re.Pattern):
        return ["pattern", inner(value.pattern), value.flags]
    if isinstance(value, Path):
        return [_name(kind), str(value)]
    if isinstance(value, functools.partial):
        return ["partial", inner(value.func), inner(value.args), inner(value.keywords)]
    if inspect.ismethod(value):
        return ["method", inner(value.__self__), value.__name__]
    if inspect.isclass(value) or inspect.isroutine(value):
        return ["named", _name(value)]
    return [[_name(c) for c in kind.__mro__[:-1]], inner(_attributes(value))]


def _attributes(value: Any) -> dict[str, Any]:
    kind = type(value)
    slots = [s for c in kind.__mro__ for s in _as_tuple(c.__dict__.get("__slots__", ())) if s != "__weakref__"]
    if not hasattr(value, "__dict__") and not slots:
        raise ValueError(f"{kind.__module__}.{kind.__qualname__} is not made of Python")
    return {**{s: getattr(value, s) for s in slots if hasattr(value, s)}, **getattr(value, "__dict__", {})}


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _name(thing: Any) -> list[str]:
    """Where a class or function is found, and a digest of the code there."""
    module, name = getattr(thing, "__module__", None) or "builtins", thing.__qualname__
    if "<" in name:
        raise ValueError(f"{module}.{name} is not at the top of its module")
    if module.split(".")[0] in VERSIONED:
        return [module, name]
    return [module, name, _source_digest(thing if inspect.isclass(thing) else inspect.unwrap(thing))]


def _source_digest(thing: Any) -> str:
    try:
        return _digest(Path(inspect.getsourcefile(thing) or "").read_text())
    except (OSError, TypeError) as error:
        raise ValueError(f"{thing.__module__}.{thing.__qualname__} has no source") from error


@functools.cache
def _versions() -> str:
    """What prepares, besides the transforms."""
    own = "".join(f"{file.name}\n{file.read_text()}" for file in sorted(Path(__file__).parent.glob("*.py")))
    versions = [m.__version__ for m in (monai, torch, np, nibabel)]
    return repr([*versions, platform.python_version(), _digest(own)])


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:20]


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


# --- the format: MAGIC, length and crc32 of the header, the header as JSON, the arrays one after the other


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
