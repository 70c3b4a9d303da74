"""Link files, or copy them where links are not possible."""

from __future__ import annotations

import shutil
from pathlib import Path


def link_or_copy(source: Path, target: Path) -> bool:
    """Make a symbolic link to a file; copy it on a file system, or in a Windows account, without links.

    Returns:
        True for a link, False for a copy.

    Raises:
        FileExistsError: if ``target`` exists. It may be a link to an original, which must not be overwritten.
    """
    try:
        target.symlink_to(source.resolve())
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        return False
    return True
