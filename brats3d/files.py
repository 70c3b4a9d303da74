"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["writable_folder", "write_whole"]


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file beside its place, flush it to the disk, then rename it: a reader sees the old file or the new one.

    Args:
        path: where the file is to stand; missing parent folders are made.
        write: called with a binary file object.

    Returns:
        The path.

    Raises:
        OSError: if the folder cannot be written or the disk is full; nothing is left behind then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    # Not tempfile's, whose permissions are the owner's alone: to undo that, the umask of all threads must be touched.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def writable_folder(path: str | os.PathLike[str], argument: str = "output_dir") -> Path:
    """Make the folder if it is missing, and prove that files can be written there.

    Raises:
        ValueError: naming the argument, the folder and the system's reason.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"{argument}: cannot write to {path} ({error.strerror}); expected a folder that you may write to"
        ) from error
    return path
