"""Write files and folders atomically: under a hidden name, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from brats3d.errors import UsageError

LEFTOVER_SECONDS = 24 * 3600
"""A hidden folder of another machine that has not changed for this long is assumed to belong to a killed run."""

Writer = Callable[[Path, Callable[[IO[bytes]], Any]], Any]
"""A function with the first two arguments of :func:`write_whole`."""


class DiskFullError(OSError):
    """The disk, or the user's quota, is full. The message is one line that ends with what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.ENOSPC, text)

    def __str__(self) -> str:
        return f"{self.strerror}; free some space and run the same command again"


def write_whole(
    path: str | Path,
    write: Callable[[IO[bytes]], Any],
    before_rename: Callable[[Path], Any] | None = None,
) -> Path:
    """Write a file under a temporary name, flush it to the disk and rename it. Readers see the old file or the new one.

    Args:
        path: the file; missing parent folders are created.
        write: called with a binary file object.
        before_rename: called with the complete temporary file.

    Returns:
        The path.

    Raises:
        DiskFullError: if the disk is full. The old file is kept and nothing else is left behind.
        OSError: if the folder cannot be written.
    """
    path = Path(path)
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        # tempfile would create a file that only its owner can read; undoing that needs the umask, which is per process.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if before_rename is not None:
                before_rename(temporary)
            temporary.replace(path)
            _flush_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


@contextmanager
def explain_full_disk(path: str | Path, more: str = "") -> Iterator[None]:
    """Raise a :class:`DiskFullError` if the block fails because the disk or the user's quota is full.

    Args:
        path: the file or folder that the block writes.
        more: text to add to the error message.

    Raises:
        DiskFullError: naming the path and the space left.
    """
    try:
        yield
    except DiskFullError as error:
        if not more or more in str(error):
            raise
        raise DiskFullError(f"{error.strerror}; {more}") from error
    except Exception as error:
        cause = _full_disk(error)
        if cause is None:
            raise
        folder = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
        left = f"{cause.strerror}, {_megabytes(shutil.disk_usage(folder).free)} are free"
        raise DiskFullError("; ".join(filter(None, [f"{path}: {left}", more]))) from error


def remove_temporary(folder: str | os.PathLike[str], names: Collection[str] | None = None) -> None:
    """Remove the temporary files that killed runs of :func:`write_whole` left. No other run may be writing them.

    Args:
        folder: the folder; subfolders are not searched.
        names: only the temporary files of these files; None = all.
    """
    for file in Path(folder).glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(file.name)
        if match and (names is None or match["name"] in names):
            file.unlink(missing_ok=True)


def write_json(path: Path, content: Any, write: Writer = write_whole) -> None:
    """Write JSON as :func:`write_whole` does; in ASCII, because MONAI opens datalists in the system's encoding."""
    data = json.dumps(content, indent=2).encode("ascii") + b"\n"
    write(path, lambda file: file.write(data))


def writable_folder(path: str | os.PathLike[str], argument: str = "output_dir") -> Path:
    """Create a folder if it is missing, and test that files can be written there.

    Raises:
        UsageError: naming the argument, the folder and the system's reason.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        problem = f"cannot write to {path} ({error.strerror})"
        raise UsageError(argument, problem, advice="choose a folder that you may write to") from error
    return path


@contextmanager
def scratch_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Create a hidden folder beside a path, and remove it at the end of the block unless it was renamed.

    Its name tells :func:`remove_leftovers` which process created it. A random part avoids collisions with the folder of
    a killed run: in a restarted container, processes get the same numbers again.
    """
    path = Path(path)
    hidden = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(6)}.part")
    hidden.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Create a hidden folder to be filled in the block, then rename it. Readers see the whole folder or none.

    Raises:
        FileExistsError: at the end, if a non-empty folder of that name exists by now; it is kept.
    """
    path = Path(path)
    with scratch_folder(path) as hidden:
        yield hidden
        try:
            hidden.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            raise FileExistsError(f"{path}: exists already; remove it, or choose another name") from None


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the hidden folders of :func:`scratch_folder` that killed runs left behind.

    On this machine, folders of processes that have ended are removed, and those with the number of this process, whose
    earlier owner must have ended: call this before creating the first folder. Folders of other machines are removed
    after :data:`LEFTOVER_SECONDS`.
    """
    import psutil

    for hidden in Path(folder).glob(".*.part"):
        match = _SCRATCH.fullmatch(hidden.name)
        if not match or hidden.is_symlink():
            continue
        process = int(match["process"])
        ended = match["host"] == _host() and (process == os.getpid() or not psutil.pid_exists(process))
        if ended or _age_seconds(hidden) > LEFTOVER_SECONDS:
            shutil.rmtree(hidden, ignore_errors=True)


def flush_file(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _full_disk(error: BaseException | None) -> OSError | None:
    """Return the "disk full" or "quota exceeded" error behind an error, if any; torch.save hides it behind its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system supports that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 10e6 else f"{count / 1e6:.1f} MB"


_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.tmp")

_SCRATCH = re.compile(r"\..+\.(?P<host>[A-Za-z0-9]+)-(?P<process>\d{1,18})(-[0-9a-f]+)?\.part")


def _host() -> str:
    """Return this machine's name without special characters."""
    return re.sub(r"[^A-Za-z0-9]", "", platform.node()) or "here"


def _age_seconds(folder: Path) -> float:
    """Return the seconds since the last change in a folder; 0 if it cannot be read."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return 0.0
