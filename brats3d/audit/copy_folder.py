"""The folder of a repaired copy: where it may lie, and how it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from brats3d.cases import check_path_syntax


def check_output(
    roots: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], files: Sequence[Path] = ()
) -> Path:
    """The copy's absolute path.

    Args:
        roots: the folders of the data set.
        out: folder of the copy.
        files: of the data set, where they are known: a folder in it can be a link to one elsewhere.

    Raises:
        ValueError: if it is a file, is not empty, lies in the data set or contains it. An interrupted repair's hidden
            folder, and the ``lost+found`` of an empty disk, do not count.
    """
    target = Path(os.path.abspath(Path(out).expanduser()))  # noqa: PTH100 - links stay as they are
    real = Path(os.path.realpath(target))
    advice = "give a folder that is empty or not there yet"
    for path in (target, real):
        check_path_syntax(path, "repair")
    if real.is_symlink():
        raise ValueError(f"repair: {target} is a link to itself; {advice}")
    if real.exists() and (not real.is_dir() or _content(real)):
        raise ValueError(f"repair: {target} is {'not empty' if real.is_dir() else 'a file'}; {advice}")
    for folder in sorted(_data_folders([Path(root).expanduser() for root in roots], files)):
        if folder in (real, *real.parents) or real in folder.parents:
            raise ValueError(f"repair: {target} lies in {folder}, or contains it; expected one beside it; {advice}")
    return target


def leftovers(target: Path) -> list[Path]:
    """What other runs have left in the target, or are building there."""
    found = sorted(target.glob(_PARTIAL.format("*"))) if target.exists() else []
    return [path for path in found if _NOT_CONTENT.fullmatch(path.name)]


@contextlib.contextmanager
def appearing_whole(target: Path, last: str) -> Iterator[Path]:
    """A hidden folder in which ``target`` is built: what is in it takes its place at the end; nothing stays on failure.

    Where the target is there already, it is kept, since it may be a mount point: the hidden folder lies in it then, and
    what is in it is moved, the file ``last`` after all others.
    """
    target = Path(os.path.realpath(target))
    is_there = target.exists()
    name = _PARTIAL.format(secrets.token_hex(6))
    partial = target / name if is_there else target.with_name(name)
    new_parents = [folder for folder in target.parents if not folder.exists()]
    moving: list[str] = []
    try:
        partial.mkdir(parents=True)
        yield partial
        if not is_there:
            partial.replace(target)
            return
        if others := _content(target):
            raise ValueError(f"repair: {target} was empty; now it holds {others[0]}; give another folder")
        moving = sorted((path.name for path in partial.iterdir()), key=lambda name: (name == last, name))
        for name in moving:
            (partial / name).rename(target / name)
        partial.rmdir()
    except BaseException:
        for name in moving:
            if not os.path.lexists(partial / name):
                _discard(target / name)
        shutil.rmtree(partial, ignore_errors=True)
        for folder in new_parents:
            with contextlib.suppress(OSError):  # not empty, or not made
                folder.rmdir()
        raise


_PARTIAL = ".brats3d-{}.part"

_NOT_CONTENT = re.compile(r"\.brats3d-[0-9a-f]{12}\.part|lost\+found")


def _content(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not _NOT_CONTENT.fullmatch(path.name)]


def _data_folders(roots: Sequence[Path], files: Iterable[Path]) -> set[Path]:
    """Where a data set lies, links followed: its roots, every folder between them and its files, and the files' own."""
    above = {Path(os.path.abspath(root)) for root in roots}  # noqa: PTH100 - links stay as they are
    between = {folder for own in {path.parent for path in files} for folder in (own, *own.parents)}
    folders = {*above, *(each for each in between if above & {each, *each.parents})}
    return {Path(os.path.realpath(each)) for each in folders} | {path.resolve().parent for path in files}


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
