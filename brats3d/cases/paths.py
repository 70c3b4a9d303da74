"""Checks of paths that a user gives."""

from __future__ import annotations

import os
from pathlib import Path

from brats3d.cases.other_formats import other_format_of
from brats3d.errors import NotFoundError, UsageError
from brats3d.files import is_image_name


def check_folder(folder: str | os.PathLike[str] | None, name: str = "dataset_dir") -> Path:
    """Return the absolute path of a folder; links are not resolved.

    Raises:
        NotFoundError: if it does not exist.
        UsageError: if it is not a folder, or MONAI would misread its path.
    """
    expected = "a folder with BraTS cases"
    text = str(folder or "")
    if not text.strip():
        raise UsageError(name, expected=expected, found=folder)
    check_path_syntax(text, name)
    path = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - links stay as they are
    if not path.exists():
        raise NotFoundError(name, f"there is no {path}", expected=expected, advice="check the path")
    if not path.is_dir():
        other = other_format_of(path.name)
        advice = other.advice if other else "pass the folder of the file" if is_image_name(path.name) else ""
        raise UsageError(name, f"{path} is a file", expected=expected, advice=advice)
    return path


def check_path_syntax(path: str | Path, name: str) -> None:
    """Refuse a path that MONAI's config parser would misread.

    Raises:
        UsageError: if the path contains ``#`` or ``::``, or starts with ``$``, ``@`` or ``%``.
    """
    text = str(path)
    if "#" in text or "::" in text:
        why = "contains '#' or '::', with which MONAI separates config ids"
    elif text.startswith(("$", "@", "%")):
        why = f"starts with {text[0]!r}, which MONAI reads as an expression, a reference or a macro"
    else:
        return
    raise UsageError(name, f"the path {text!r} {why}", advice="rename the folder, or link to it under another name")
