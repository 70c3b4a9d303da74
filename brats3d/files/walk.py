"""Walk through the folders of a data set, up to a maximum depth and number of folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from brats3d.errors import DataError
from brats3d.files.image_names import has_nifti_name, is_image_name

MAX_FOLDER_DEPTH = 6
"""Folders below the root that are searched by default. Kaggle's archive has its cases at depth 3."""

MAX_FOLDERS = 100_000


def walk_folders(
    root: str | Path, seen: set[str] | None = None, max_depth: int = MAX_FOLDER_DEPTH, skip_unreadable: bool = False
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield each folder at and below ``root`` once, with its files.

    Links are followed. Hidden files and folders, ``__MACOSX`` and ``lost+found`` are skipped. A folder named like a
    NIfTI file stands for the images in it, as in some of Kaggle's archives, and so does each folder of BraTS 2015.

    Args:
        root: the folder to start from.
        seen: the real paths of folders to skip; visited folders are added.
        max_depth: how many levels below ``root`` are visited.
        skip_unreadable: skip folders that cannot be listed.

    Yields:
        The path of a folder, and name -> paths for its files in the order of their names.

    Raises:
        DataError: if a folder cannot be listed, or if there are more than :data:`MAX_FOLDERS`.
    """
    seen = set() if seen is None else seen
    stack = [(str(root), os.path.realpath(root), 0)]
    while stack:
        folder, real, depth = stack.pop()
        if real in seen:
            continue
        seen.add(real)
        if len(seen) > MAX_FOLDERS:
            raise DataError(root, f"holds more than {MAX_FOLDERS:,} folders", advice="pass one of its subfolders")
        files: dict[str, list[str]] = {}
        subfolders = []
        for entry in _list(folder, skip_unreadable):
            if not _is_folder(entry):
                files[entry.name] = [entry.path]
            elif has_nifti_name(Path(entry.name)) or _FOLDER_OF_2015.fullmatch(entry.name):
                inside = _list(entry.path, skip_unreadable)
                name = f"{entry.name}.mha" if _FOLDER_OF_2015.fullmatch(entry.name) else entry.name
                files[name] = [inner.path for inner in inside if is_image_name(inner.name)]
            elif entry.name not in _SKIPPED and depth < max_depth:
                target = os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/{entry.name}"
                subfolders.append((entry.is_symlink(), entry.path, target))
        yield folder, files
        # A stack pops in reverse: real folders come before links to them, both in the order of their names.
        stack += [(path, target, depth + 1) for _, path, target in sorted(subfolders, reverse=True)]


_FOLDER_OF_2015 = re.compile(r"VSD\.Brain.*\.\d+")
"""BraTS 2015 has a folder for each file: ``VSD.Brain.XX.O.MR_T1c.54514/VSD.Brain.XX.O.MR_T1c.54514.mha``."""

_SKIPPED = ("__MACOSX", "lost+found")


def _list(folder: str, skip_unreadable: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        if skip_unreadable:
            return []
        reason = error.strerror or type(error).__name__
        raise DataError(folder, f"cannot be listed: {reason}", advice="check its permissions") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
