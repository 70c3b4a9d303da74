"""Checks of the size of sliding windows and training patches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.errors import UsageError

logger = logging.getLogger("brats3d")


def check_window(name: str, size: Sequence[int]) -> None:
    """Check a window's or a patch's size: the network halves it four times, and InstanceNorm then needs two voxels.

    Args:
        name: the knob, for the error message.
        size: its value.

    Raises:
        UsageError: if the size is not three multiples of 16 of at least 32.
    """
    good = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) for n in size)
    if not good or any(n % 16 or n < 32 for n in size):
        raise UsageError(name, expected="three multiples of 16, each at least 32, such as [96, 96, 96]", found=size)


def compare_windows(checkpoint: str | Path, card: Mapping[str, Any], roi_size: Sequence[int]) -> None:
    """Warn if the windows differ in size from the training patches: InstanceNorm's statistics then change Dice."""
    patch_size = card.get("patch_size", list(roi_size))
    if patch_size != list(roi_size):
        text = '%s was trained on patches of %s, but the windows are %s; --roi_size "%s" fits better'
        logger.warning(text, checkpoint, patch_size, list(roi_size), patch_size)
