"""Files that somebody else has made, read within bounds: no pipe that never ends, no JSON without end or bottom."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 64 * 2**20
"""Of a JSON or CSV file. The datalist of 10,000 cases has 5 MB, their scores have 15."""

MAX_DEPTH = 100
"""Of JSON's lists and mappings in each other; what brats3d reads has less than ten. Python gives up near 1,000, and
earlier where such a value is then compared or shown."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 300 characters of it; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def too_long(path: str) -> bool:
    """Whether no file system has such a path: a name of more than 255 characters, or 4,096 in all."""
    return len(path) > 4096 or any(len(name) > 255 for name in re.split(r"[/\\]", path))


def ordinary_size(path: Path) -> int:
    """The size of an ordinary file in bytes. To open a pipe would be to wait for somebody who writes to it.

    Raises:
        ValueError: if it is a folder, a pipe, a socket or a device.
        OSError: if it is not there or cannot be looked at.
    """
    info = path.stat()
    if stat.S_ISDIR(info.st_mode):
        raise ValueError("a folder")
    if not stat.S_ISREG(info.st_mode):
        raise ValueError("no ordinary file, but a pipe, a socket or a device")
    return info.st_size


def read_bounded(path: Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """The content of an ordinary file of no more than ``limit`` bytes.

    Raises:
        ValueError: if it is none, or larger.
        OSError: if it cannot be read.
    """
    if (size := ordinary_size(path)) > limit:
        raise ValueError(f"has {size:,} bytes; at most {limit:,} are read")
    with path.open("rb") as file:
        return file.read(size)


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without its mark, or in UTF-16 or 32.

    Raises:
        ValueError: saying what is wrong with it, without its name: larger than :data:`MAX_TEXT_BYTES`, not JSON, or
            deeper than :data:`MAX_DEPTH`.
        OSError: if it cannot be read.
    """
    try:
        content = json.loads(read_bounded(path))
    except RecursionError:
        raise ValueError(f"lists or mappings in each other, more than {MAX_DEPTH} deep") from None
    level, depth = [content], 0
    while level := [inner for each in level if isinstance(each, (dict, list)) for inner in _inner(each)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"lists or mappings in each other, more than {MAX_DEPTH} deep")
    return content


def _inner(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
