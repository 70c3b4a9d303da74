"""Files and folders that appear whole or not at all."""

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
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

LEFTOVER_SECONDS = 24 * 3600
"""A hidden folder of another machine in which nothing has changed for so long belongs to a run that was killed."""


class DiskFullError(OSError):
    """There is no room for a file. Reads as one line, without the error's number, that ends with what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.ENOSPC, text)

    def __str__(self) -> str:
        return f"{self.strerror}; make room, and give the same command again"


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file beside its place, flush it to the disk, then rename it: a reader sees the old file or the new one.

    Args:
        path: where the file is to stand; missing parent folders are made.
        write: called with a binary file object.

    Returns:
        The path.

    Raises:
        DiskFullError: if there is no room; the old file stays, and nothing else is left behind.
        OSError: if the folder cannot be written.
    """
    path = Path(path)
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return _write_beside(path, write)


def require_space(path: str | Path, size: int, more: str = "") -> None:
    """Before a file is written: the disk has room for it beside the old one.

    Args:
        path: of the file.
        size: its bytes.
        more: what else the error is to say.

    Raises:
        DiskFullError: naming the folder, the file, what it needs and what is free.
    """
    path = Path(path)
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if size > free:
        needed = f"{_megabytes(size)} are needed for {path.name}, {_megabytes(free)} are free"
        raise DiskFullError("; ".join(filter(None, [f"{path.parent}: {needed}", more])))


@contextmanager
def explain_full_disk(path: str | Path, more: str = "") -> Iterator[None]:
    """Where something in it fails since the disk, or the user's share of it, is full, raise the error that says so.

    Args:
        path: what is being written.
        more: what else the error is to say.

    Raises:
        DiskFullError: naming the path and what is free.
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


def _write_beside(path: Path, write: Callable[[IO[bytes]], Any]) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    # Not tempfile's, whose permissions are the owner's alone: to undo that, the umask of all threads must be touched.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def remove_temporary(folder: str | os.PathLike[str], names: Collection[str] | None = None) -> None:
    """Remove what :func:`write_whole` was writing in a folder when it was killed. Nothing else may write that now.

    Args:
        folder: where to look, not in its subfolders.
        names: of the files that were to come; None = any.
    """
    for file in Path(folder).glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(file.name)
        if match and (names is None or match["name"] in names):
            file.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all; in ASCII, since MONAI opens datalists in the system's encoding."""
    data = json.dumps(content, indent=2).encode("ascii") + b"\n"
    write_whole(path, lambda file: file.write(data))


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


@contextmanager
def scratch_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A hidden folder beside a path, gone at the end if it has not been renamed.

    Its name tells :func:`remove_leftovers` who made it; a random part of it keeps what a killed run has left from being
    in the way: in a restarted container every process has the number that it had before.
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
    """Fill a hidden folder beside its place, which is then renamed: a reader sees the whole folder, or none.

    Raises:
        FileExistsError: at the end, if a folder with something in it is there by now; that one stays.
    """
    path = Path(path)
    with scratch_folder(path) as hidden:
        yield hidden
        try:
            hidden.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            raise FileExistsError(f"{path}: is there already; remove it, or choose another name") from None


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the hidden folders of :func:`scratch_folder` whose runs were killed.

    Of this machine's, those whose process has ended, and those with this process's own number: whoever had it before
    has ended. So call it before the first folder is made. Another machine's go after :data:`LEFTOVER_SECONDS`.
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
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _full_disk(error: BaseException | None) -> OSError | None:
    """The error behind one, where it is a full disk's or that of a quota; torch.save hides it behind its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def _flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; not every system and file system can."""
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
    """This machine's name, as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]", "", platform.node()) or "here"


def _age_seconds(folder: Path) -> float:
    """Since something last changed in it; 0 where that cannot be seen."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return 0.0
