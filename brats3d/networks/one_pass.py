"""A whole brain in one pass of the network, normalised as its windows would have been.

Sliding windows of 128³ over a brain of 140 x 175 x 140 voxels are eight, which overlap: 4.6 times the work of one
pass. But InstanceNorm takes its mean and variance over a window, and a network that has learnt with those of patches
loses Dice where they are a whole brain's. So in one pass each voxel is normalised by the statistics of the windows that
it would have been in, blended as MONAI blends windows. The network still sees beyond the borders of each window, and
each voxel is predicted once rather than up to eight times: the scores differ a little, see benchmarks/RESULTS.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from torch import nn

from brats3d.networks.instance_norm import Axis, statistics_of, with_window_norms

logger = logging.getLogger("brats3d")

MAX_VOXELS = 8 * 128**3
"""Of one pass, which takes eight times the memory of a window then. A volume with more of them goes through windows."""

MULTIPLE = 16
"""Of voxels, on each axis: the network halves a volume four times."""


def choose_inferer(windows: SlidingWindowInferer, network: nn.Module, one_pass: bool) -> SlidingWindowInferer:
    """The inferer as it is or, with ``one_pass``, one that has its options; the network's norms are made ready.

    Raises:
        ValueError: if ``one_pass`` is no bool.
    """
    if not isinstance(one_pass, bool):  # "--one_pass false" reaches a config as the string 'false', which is true
        raise ValueError(f"one_pass: expected True or False, got {one_pass!r}")
    with_window_norms(network)
    return OnePassInferer(windows) if one_pass else windows


class OnePassInferer(SlidingWindowInferer):
    """One pass of the network over a volume, in the place of windows; what is too large still goes through them.

    The network must be one of :func:`with_window_norms`. A volume that fits into one window gets the same logits either
    way.

    Args:
        windows: gives their size and how they overlap.
    """

    def __init__(self, windows: SlidingWindowInferer) -> None:
        super().__init__(windows.roi_size)
        self.__dict__.update(vars(windows))

    def pass_size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """What the network is given of a volume of this shape (H, W, D): the padded volume, or a window."""
        padded = tuple(max(roi, _multiple(n)) for n, roi in zip(shape, self._roi(shape), strict=True))
        return padded if math.prod(padded) <= MAX_VOXELS else self._roi(shape)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        """Image (B, C, H, W, D) -> logits (B, 3, H, W, D)."""
        shape = tuple(inputs.shape[2:])
        size, roi = self.pass_size(shape), self._roi(shape)
        device = torch.device(kwargs.get("device") or inputs.device)
        elsewhere = device.type != inputs.device.type or device.index not in (None, inputs.device.index)
        if size != roi and elsewhere:  # since there is no room for it where the network is
            logger.warning("a volume of %s voxels is put together on %s: windows instead of one pass", shape, device)
            size = roi
        if size == roi:
            return super().__call__(inputs, network, *args, **kwargs)
        before = [(n - own) // 2 for n, own in zip(size, shape, strict=True)]
        after = [n - own - b for n, own, b in zip(size, shape, before, strict=True)]
        pads = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
        overlap = (self.overlap,) * 3 if isinstance(self.overlap, float | int) else self.overlap
        axes = [_axis(*each) for each in zip(shape, size, before, roi, overlap, strict=True)]
        with statistics_of(axes):
            logits = network(nn.functional.pad(inputs, pads), *args)
        return logits[(..., *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))]

    def _roi(self, shape: Sequence[int]) -> tuple[int, ...]:
        roi = (self.roi_size,) * 3 if isinstance(self.roi_size, int) else self.roi_size
        return tuple(r if r > 0 else _multiple(n) for r, n in zip(roi, shape, strict=True))


def _axis(own: int, padded: int, before: int, window: int, overlap: float) -> Axis:
    """Of a volume with ``own`` voxels, in front of which there are ``before`` of the padding."""
    if own <= window:  # padded to the window
        return padded, [(0, padded)]
    parts = dense_patch_slices((own,), (window,), (max(1, int(window * (1 - overlap))),))
    return padded, [(before + part.start, before + part.stop) for (part,) in parts]


def _multiple(n: int) -> int:
    return -(-n // MULTIPLE) * MULTIPLE
