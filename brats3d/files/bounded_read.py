"""Read files of unknown origin within bounds: no pipes, no oversized files, no deeply nested JSON."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 64 * 2**20
"""Largest JSON or CSV file to read. A datalist of 10,000 cases takes 5 MB, their scores 15 MB."""

MAX_DEPTH = 100
"""Deepest nesting of JSON to accept. The files of brats3d have fewer than ten levels. Python fails near 1,000, or
earlier when such a value is compared or printed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 300 characters, or its type if there is no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def too_long(path: str) -> bool:
    """Return True if a path is too long for any file system: a name over 255 characters, or over 4,096 in total."""
    return len(path) > 4096 or any(len(name) > 255 for name in re.split(r"[/\\]", path))


def regular_file_size(path: Path) -> int:
    """Return the size of a regular file in bytes. Opening a pipe would wait for a process that writes to it.

    Raises:
        ValueError: if the path is a folder, a pipe, a socket or a device. The message does not name the path.
        OSError: if the path does not exist or cannot be accessed.
    """
    info = path.stat()
    if stat.S_ISDIR(info.st_mode):
        raise ValueError("a folder")
    if not stat.S_ISREG(info.st_mode):
        raise ValueError("a pipe, a socket or a device, not a file")
    return info.st_size


def read_bounded(path: Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        ValueError: if it is not a regular file, or is larger. The message does not name the path.
        OSError: if it cannot be read.
    """
    if (size := regular_file_size(path)) > limit:
        raise ValueError(f"too large: {size:,} bytes; expected at most {limit:,}")
    with path.open("rb") as file:
        return file.read(size)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file in UTF-8 (with or without byte order mark), UTF-16 or UTF-32.

    Raises:
        ValueError: if it is larger than :data:`MAX_TEXT_BYTES`, not JSON, or nested deeper than :data:`MAX_DEPTH`. The
            message does not name the path.
        OSError: if it cannot be read.
    """
    try:
        content = json.loads(read_bounded(path))
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None
    level, depth = [content], 0
    while level := [inner for value in level if isinstance(value, (dict, list)) for inner in _inner(value)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    return content


def _inner(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
