"""Checks of the sizes of inference windows and training patches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.errors import NotFoundError, UsageError
from brats3d.networks.checkpoint_card import read_card

logger = logging.getLogger("brats3d")

BRAIN = "brain"
"""Value of the knob ``window`` for one pass over the whole brain."""


def check_window(name: str, size: Any, or_brain: bool = False) -> None:
    """Check a window's or a patch's size: the network halves it four times, and InstanceNorm then needs two voxels.

    Args:
        name: the knob, for the error message.
        size: its value.
        or_brain: if True, :data:`BRAIN` is valid, too.

    Raises:
        UsageError: if the size is not three multiples of 16 of at least 32.
    """
    if or_brain and size == BRAIN:
        return
    good = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) for n in size)
    if not good or any(n % 16 or n < 32 for n in size):
        expected = "three multiples of 16, each at least 32, such as [96, 96, 96]"
        raise UsageError(name, expected=f"{BRAIN}, or {expected}" if or_brain else expected, found=size)


def trained_patch_size(checkpoint: str | Path) -> list[int] | None:
    """Return the size of the patches that weights were trained on, from their card; None if it is not known.

    A missing file is reported when the weights are loaded.

    Raises:
        DataError: if the card is damaged.
    """
    try:
        return read_card(checkpoint).get("patch_size")
    except NotFoundError:
        return None


def compare_windows(checkpoint: str | Path, card: Mapping[str, Any], window: str | Sequence[int]) -> None:
    """Warn if the windows differ in size from the training patches: InstanceNorm's statistics then change Dice."""
    patch_size = card.get("patch_size")
    if patch_size is not None and window != BRAIN and list(window) != patch_size:
        text = '%s was trained on patches of %s, but the windows are %s; --window brain or --window "%s" fits better'
        logger.warning(text, checkpoint, patch_size, list(window), patch_size)
