"""The file format of a prepared case: checked against damage, free of pickled objects, fast to read.

One header line, an outline of the values in JSON, then the bytes of the arrays. Tensors keep their dtype and their
strides, which decide the order of sums in a network.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

HEADER = b"brats3d case 2 %08x %08x\n"
"""The CRC-32 of the entry's name and content (4 GB/s, where BLAKE2 has 0.9), and the size of the outline."""


def pack_case(name: str, prepared: Mapping[str, Any]) -> list[bytes | memoryview]:
    """Return the content of a prepared case's file, in parts.

    Args:
        name: name of the file; part of the checksum, so that a renamed file is refused.
        prepared: values, tensors and arrays on the CPU, and lists and dicts of them.

    Raises:
        ValueError: if a value cannot be stored exactly.
    """
    arrays: list[bytes | memoryview] = []
    outline = json.dumps(_encode(dict(prepared), arrays)).encode()
    return [_header(name, outline, arrays), outline, *arrays]


def unpack_case(path: Path) -> dict[str, Any]:
    """Read the file of a prepared case.

    Raises:
        ValueError, RuntimeError: if the file is damaged, or was packed under another name.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(len(HEADER % (0, 0)))
        outline = file.read(int(header[-9:], 16))
        arrays = torch.empty(path.stat().st_size - file.tell(), dtype=torch.uint8)
        file.readinto(arrays.numpy().data)
    if header != _header(path.name, outline, [arrays.numpy().data]):
        raise ValueError("wrong checksum")
    return _decode(json.loads(outline), arrays)


def _header(name: str, outline: bytes, arrays: Iterable[bytes | memoryview]) -> bytes:
    checksum = zlib.crc32(f"{name} {len(outline)}".encode())
    for part in (outline, *arrays):
        checksum = zlib.crc32(part, checksum)
    return HEADER % (checksum, len(outline))


def _encode(value: Any, arrays: list[memoryview | bytes]) -> Any:
    """Return the value in terms of JSON, and append the bytes of its arrays to ``arrays``, aligned to 16 bytes.

    Raises:
        ValueError: if the value cannot be stored exactly.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):  # MONAI's keys are enums that equal their text
        return str.__str__(value)
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encode(item, arrays) for item in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {_encode(key, arrays): _encode(item, arrays) for key, item in value.items()}}
    if type(value) is MetaTensor and not value.pending_operations:
        meta = _encode(dict(value.meta), arrays)
        return {"meta_tensor": _encode(value.detach().as_tensor(), arrays), "meta": meta}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: _append(value.tobytes(), arrays), "dtype": value.dtype.str, "shape": value.shape}
    if type(value) is torch.Tensor and value.device.type == "cpu" and not value.requires_grad:
        order = sorted(range(value.ndim), key=value.stride, reverse=True)
        stored = value.permute(order).contiguous()  # as it lies in memory
        place = _append(stored.reshape(-1).view(torch.uint8).numpy().data, arrays)
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": place, "dtype": dtype, "shape": stored.shape, "order": order}
    raise ValueError(f"a {type(value).__name__} cannot be stored")


def _append(content: bytes | memoryview, arrays: list[memoryview | bytes]) -> tuple[int, int]:
    """Append an array's bytes, padded to a multiple of 16; return where they start and end."""
    start = sum(map(len, arrays))
    arrays += [content, bytes(-len(content) % 16)]
    return start, start + len(content)


def _decode(node: Any, arrays: torch.Tensor) -> Any:
    """Undo :func:`_encode`; tensors are views of ``arrays``."""
    if not isinstance(node, dict):
        return node
    kind, content = next(iter(node.items()))
    if kind in ("list", "tuple"):
        values = [_decode(item, arrays) for item in content]
        return values if kind == "list" else tuple(values)
    if kind == "dict":
        return {key: _decode(item, arrays) for key, item in content.items()}
    if kind == "meta_tensor":
        return MetaTensor(_decode(content, arrays), meta=_decode(node["meta"], arrays))
    stored = arrays[slice(*content)]
    if kind == "tensor":
        tensor = stored.view(getattr(torch, node["dtype"])).reshape(node["shape"])
        return tensor.permute([node["order"].index(axis) for axis in range(tensor.ndim)])
    array = stored.numpy().view(np.dtype(node["dtype"])).reshape(node["shape"])
    return array.copy() if kind == "array" else array[()]
