"""Read the settings of a run from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brats3d.errors import DataError
from brats3d.files.bounded_read import read_json


def read_settings(path: Path) -> dict[str, Any]:
    """Return the content of a run's ``settings.json``.

    Raises:
        DataError: if it cannot be read.
    """
    advice = f"choose another --output_dir, or remove {path.parent}"
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", advice=advice) from error
    if not isinstance(content, dict):
        raise DataError(path, expected="a mapping", found=content, advice=advice)
    return content
