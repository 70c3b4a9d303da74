"""Lock the folder of a run while it is trained, so that no other training writes into it."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from brats3d.errors import UsageError
from brats3d.files import read_bounded

LOCK_NAME = ".training.lock"
"""The locked file. It stays in the folder, since removing it could let two processes lock two files of that name."""

logger = logging.getLogger("brats3d")


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder in the block. The system releases it if the process dies.

    On a file system without locks, a warning is logged instead.

    Raises:
        UsageError: if another process holds the lock.
    """
    path = folder / LOCK_NAME
    # A soft lock, filelock's substitute on file systems without locks, would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            "output_dir",
            f"{folder} is being trained by another process{_owner(path)}",
            advice="choose another --output_dir, or wait until that run has ended",
        ) from None
    except (OSError, NotImplementedError) as error:
        logger.warning("%s cannot be locked (%s): do not start a second training in this folder", folder, error)
    with suppress(OSError):
        path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            lock.release()


def _owner(path: Path) -> str:
    """Return the process that holds the lock, in brackets, if it can be read."""
    try:
        text = read_bounded(path).decode(errors="replace").strip()
    except (OSError, ValueError):
        return ""
    return f" ({text:.200})" if text else ""
