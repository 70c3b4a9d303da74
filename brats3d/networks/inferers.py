"""Segment a whole brain in one pass of the network, with InstanceNorm statistics as in a sliding window.

A brain of 140 x 175 x 140 voxels takes eight overlapping windows of 128³: 4.6 times the work of one pass. A network
that was trained on patches loses Dice if InstanceNorm computes its mean and variance over the whole brain. Therefore
each voxel is normalised with the statistics of the windows that would contain it, blended as MONAI blends windows. The
network still sees across the borders of the windows, and predicts each voxel once rather than up to eight times, so
that scores differ a little; see benchmarks/RESULTS.md.
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

from brats3d.networks.instance_norm import Axis, statistics_of
from brats3d.networks.precision import check_flag

logger = logging.getLogger("brats3d")

MAX_VOXELS = 8 * 128**3
"""Largest volume for one pass, which then needs eight times the memory of a window. Larger volumes use windows."""

MULTIPLE = 16
"""The network halves each axis four times, so that the number of voxels must be a multiple of this."""


def choose_inferer(windows: SlidingWindowInferer, one_pass: bool) -> SlidingWindowInferer:
    """Return ``windows`` itself or, if ``one_pass``, a :class:`OnePassInferer` with the same options.

    Raises:
        UsageError: if ``one_pass`` is not a bool.
    """
    return OnePassInferer(windows) if check_flag("one_pass", one_pass) else windows


class OnePassInferer(SlidingWindowInferer):
    """Run the network once over a volume instead of over sliding windows. Volumes that are too large use windows.

    The network must come from :func:`with_window_norms`. A volume that fits into one window gets the same logits in
    both ways.

    Args:
        windows: the inferer whose size and overlap of windows determine the statistics.
    """

    def __init__(self, windows: SlidingWindowInferer) -> None:
        super().__init__(windows.roi_size)
        self.__dict__.update(vars(windows))

    def pass_size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the input size of the network for a volume (H, W, D): the padded volume or, if too large, a window."""
        padded = tuple(max(roi, _multiple(n)) for n, roi in zip(shape, self._roi(shape), strict=True))
        return padded if math.prod(padded) <= MAX_VOXELS else self._roi(shape)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        """Return the logits (B, 3, H, W, D) of an image (B, C, H, W, D)."""
        shape = tuple(inputs.shape[2:])
        size, roi = self.pass_size(shape), self._roi(shape)
        device = torch.device(kwargs.get("device") or inputs.device)
        on_other_device = device.type != inputs.device.type or device.index not in (None, inputs.device.index)
        if size != roi and on_other_device:  # chosen because the volume does not fit on the network's device
            logger.warning("a volume of %s voxels is stitched on %s: using windows instead of one pass", shape, device)
            size = roi
        if size == roi:
            return super().__call__(inputs, network, *args, **kwargs)
        before = [(padded - n) // 2 for padded, n in zip(size, shape, strict=True)]
        after = [padded - n - b for padded, n, b in zip(size, shape, before, strict=True)]
        pads = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
        overlap = (self.overlap,) * 3 if isinstance(self.overlap, float | int) else self.overlap
        axes = [_axis(*sizes) for sizes in zip(shape, size, before, roi, overlap, strict=True)]
        with statistics_of(axes):
            logits = network(nn.functional.pad(inputs, pads), *args)
        return logits[(..., *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))]

    def _roi(self, shape: Sequence[int]) -> tuple[int, ...]:
        roi = (self.roi_size,) * 3 if isinstance(self.roi_size, int) else self.roi_size
        return tuple(r if r > 0 else _multiple(n) for r, n in zip(roi, shape, strict=True))


def _axis(size: int, padded: int, before: int, window: int, overlap: float) -> Axis:
    """Return the windows of an axis of ``size`` voxels that was padded, with ``before`` voxels in front."""
    if size <= window:  # padded to the window
        return padded, [(0, padded)]
    slices = dense_patch_slices((size,), (window,), (max(1, int(window * (1 - overlap))),))
    return padded, [(before + part.start, before + part.stop) for (part,) in slices]


def _multiple(n: int) -> int:
    return -(-n // MULTIPLE) * MULTIPLE
