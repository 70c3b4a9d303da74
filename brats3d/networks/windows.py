"""The size of windows and patches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger("brats3d")


def check_window(name: str, size: Sequence[int]) -> None:
    """Called by the configs first: the network halves a window four times, and InstanceNorm needs two voxels then.

    Raises:
        ValueError: if it is not three multiples of 16 of at least 32.
    """
    good = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) for n in size)
    if not good or any(n % 16 or n < 32 for n in size):
        raise ValueError(
            f"{name}: expected three multiples of 16, each at least 32, such as [96, 96, 96], got {size!r}"
        )


def compare_windows(checkpoint: str | Path, card: Mapping[str, Any], roi_size: Sequence[int]) -> None:
    """InstanceNorm takes its statistics over a window, so windows of another size than the patches cost Dice."""
    patch_size = card.get("patch_size", list(roi_size))
    if patch_size != list(roi_size):
        text = '%s was trained on patches of %s, the windows are %s; --roi_size "%s" fits it better'
        logger.warning(text, checkpoint, patch_size, list(roi_size), patch_size)
