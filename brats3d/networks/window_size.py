"""Sizes of inference windows and training patches that a network can process."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from brats3d.errors import NotFoundError, UsageError
from brats3d.networks.checkpoint_card import read_card
from brats3d.networks.memory_estimate import window_need

logger = logging.getLogger("brats3d")

BRAIN = "brain"
"""Value of the knob ``window`` for one pass over the whole brain."""

MULTIPLE = 16
"""The default network halves each axis four times, so that the number of voxels must be a multiple of this."""


def size_multiple(network: nn.Module, channels: int) -> int:
    """Return 16, 32 or 64: the sides of the network's input must be multiples of it, such as 32 for five halvings.

    The network is tried on the meta device, where nothing is computed.

    Args:
        network: any network; it is not changed. One that does not run on the meta device is expected to need 16.
        channels: channels of its input.
    """
    for multiple in (MULTIPLE, 2 * MULTIPLE, 4 * MULTIPLE):
        with suppress(Exception):  # each network raises its own for a size that it cannot process
            window_need(network, (1, channels, *(3 * multiple,) * 3))
            return multiple
    return MULTIPLE


def check_window(name: str, size: Any, or_brain: bool = False, multiple: int = MULTIPLE) -> None:
    """Check a window's or a patch's size: after the network's halvings, InstanceNorm needs two voxels a side.

    Args:
        name: the knob, for the error message.
        size: its value.
        or_brain: if True, :data:`BRAIN` is valid, too.
        multiple: of the network, see :func:`size_multiple`.

    Raises:
        UsageError: if the size is not three multiples of ``multiple`` of at least twice that.
    """
    if or_brain and size == BRAIN:
        return
    good = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) for n in size)
    if not good or any(n % multiple or n < 2 * multiple for n in size):
        expected = f"three multiples of {multiple}, each at least {2 * multiple}, such as [128, 128, 128]"
        raise UsageError(name, expected=f"{BRAIN}, or {expected}" if or_brain else expected, found=size)


def trained_patch_size(checkpoint: str | Path | None) -> list[int] | None:
    """Return the size of the patches that weights were trained on, from their card; None if it is not known.

    Random weights (None) have none.

    A missing file is reported when the weights are loaded.

    Raises:
        DataError: if the card is damaged.
    """
    try:
        return None if checkpoint is None else read_card(checkpoint).get("patch_size")
    except NotFoundError:
        return None


def compare_windows(checkpoint: str | Path, card: Mapping[str, Any], window: str | Sequence[int]) -> None:
    """Warn if the windows differ in size from the training patches: InstanceNorm's statistics then change Dice."""
    patch_size = card.get("patch_size")
    if patch_size is not None and window != BRAIN and list(window) != patch_size:
        text = '%s was trained on patches of %s, but the windows are %s; --window brain or --window "%s" fits better'
        logger.warning(text, checkpoint, patch_size, list(window), patch_size)
