"""Predict a whole brain in one pass of the network, with InstanceNorm statistics as in a sliding window.

A brain of 140 x 175 x 140 voxels takes eight overlapping windows of 128³: 4.6 times the work of one pass. A network
that was trained on patches loses Dice if InstanceNorm computes its mean and variance over the whole brain. Therefore
each voxel is normalised with the statistics of the windows that would contain it, blended as MONAI blends windows. The
network still sees across the borders of the windows, and predicts each voxel once rather than up to eight times, so
that scores differ a little; see benchmarks/RESULTS.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, SlidingWindowInferer

from brats3d.networks.instance_norm import Axis, statistics_of
from brats3d.networks.window_size import BRAIN, MULTIPLE, check_window

MAX_VOXELS = 8 * 128**3
"""Largest volume for one pass, which then needs eight times the memory of a window. Larger volumes use windows."""


class BrainInferer(Inferer):
    """Predict a whole brain in one pass or, if ``window`` is a size or the volume is too large, by sliding windows.

    The network must come from :func:`with_window_norms`. A volume that fits into one sliding window gets the same
    logits in both ways.

    Args:
        windows: MONAI's sliding windows. Their size and overlap also determine the statistics of one pass.
        window: ``brain``, or the size of the sliding windows, which replaces that of ``windows``.
        patch_size: size of the patches that the weights were trained on, which replaces the size of ``windows`` if
            ``window`` is ``brain``; None keeps it.
        multiple: the sides of the network's input must be multiples of it (:func:`brats3d.networks.size_multiple`).

    Raises:
        UsageError: if ``window`` is neither ``brain`` nor a size that the network can process, or if the network cannot
            process ``patch_size``.
    """

    def __init__(
        self,
        windows: SlidingWindowInferer,
        window: str | Sequence[int] = BRAIN,
        patch_size: Sequence[int] | None = None,
        multiple: int = MULTIPLE,
    ) -> None:
        super().__init__()
        check_window("window", window, or_brain=True, multiple=multiple)
        self.window = window
        self.multiple = multiple
        self.windows = copy(windows)
        self.windows.roi_size = (patch_size if window == BRAIN else window) or windows.roi_size
        if multiple > MULTIPLE:  # smaller ones are checked with the knobs
            check_window("patch_size", self.windows.roi_size, multiple=multiple)

    def roi_size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the size of a sliding window for a volume (H, W, D)."""
        roi = self.windows.roi_size
        each = (roi,) * 3 if isinstance(roi, int) else roi
        return tuple(r if r > 0 else self._padded(n) for r, n in zip(each, shape, strict=True))

    def pass_size(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Return the size to which a volume (H, W, D) is padded for one pass; None if it goes through windows."""
        padded = tuple(max(roi, self._padded(n)) for n, roi in zip(shape, self.roi_size(shape), strict=True))
        return padded if self.window == BRAIN and math.prod(padded) <= MAX_VOXELS else None

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the logits (B, 3, H, W, D) of an image (B, C, H, W, D)."""
        shape = tuple(inputs.shape[2:])
        size, roi = self.pass_size(shape), self.roi_size(shape)
        if size is None or size == roi:
            return self.windows(inputs, network, *args, **kwargs)
        before = [(padded - n) // 2 for padded, n in zip(size, shape, strict=True)]
        inside = (..., *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))
        overlap = self.windows.overlap
        each = (overlap,) * 3 if isinstance(overlap, float | int) else overlap
        axes = [_axis(*sizes) for sizes in zip(shape, size, before, roi, each, strict=True)]
        with statistics_of(axes):
            logits = network(_padded(inputs, size, inside), *args, **kwargs)
        return logits[inside]

    def _padded(self, n: int) -> int:
        return -(-n // self.multiple) * self.multiple


def _padded(inputs: torch.Tensor, size: Sequence[int], inside: tuple[Any, ...]) -> torch.Tensor:
    """Return an image within zeros, in the dtype of autocast and channels-last, as the first convolutions need it.

    Two convolutions read the image. On a CPU each would convert it to that dtype and that order.
    """
    device, dtype = inputs.device.type, inputs.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    padded = torch.zeros(len(inputs), *size, inputs.shape[1], dtype=dtype, device=inputs.device).movedim(-1, 1)
    padded[inside] = inputs.to(dtype)  # first: converting and reordering at once takes twice as long
    return padded


def _axis(size: int, padded: int, before: int, window: int, overlap: float) -> Axis:
    """Return the windows of an axis of ``size`` voxels that was padded, with ``before`` voxels in front."""
    if size <= window:  # padded to the window
        return padded, [(0, padded)]
    slices = dense_patch_slices((size,), (window,), (max(1, int(window * (1 - overlap))),))
    return padded, [(before + part.start, before + part.stop) for (part,) in slices]
