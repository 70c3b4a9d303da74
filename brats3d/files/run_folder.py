"""What a run's folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brats3d.files.bounded_read import read_json


def read_settings(path: Path) -> dict[str, Any]:
    """A run's ``settings.json``.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"expected a mapping, got {content!r:.60}")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); name another --output_dir, or remove {path.parent}"
        ) from error
    return content
