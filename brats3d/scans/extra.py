"""Libraries of the extra ``brats3d[scans]``, imported when they are first needed."""

from __future__ import annotations

import importlib
from typing import Any

from brats3d.errors import UsageError


class NotInstalledError(UsageError):
    """A library of the extra is needed and not installed."""


def import_extra(name: str) -> Any:
    """Import a module of ``pydicom``, ``highdicom`` or ``deepbet``.

    Args:
        name: the module, such as ``"pydicom"`` or ``"highdicom.seg"``.

    Raises:
        NotInstalledError: if the library is not installed.
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        advice = 'install the extra for raw scans: pip install "brats3d[scans]"'
        raise NotInstalledError(library, "is not installed", advice=advice) from None
