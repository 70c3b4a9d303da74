"""A whole brain in one pass of the network, normalised as its windows would have been.

Sliding windows of 128³ over a brain of 140 x 175 x 140 voxels are eight, which overlap: 4.6 times the work of one
pass. But InstanceNorm takes its mean and variance over a window, and a network that has learnt with those of patches
loses Dice where they are a whole brain's. So in one pass each voxel is normalised by the statistics of the windows that
it would have been in, blended as MONAI blends windows. The network still sees beyond the borders of each window, and
each voxel is predicted once rather than up to eight times: the scores differ a little, see benchmarks/RESULTS.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from torch import nn

__all__ = ["OnePassInferer", "WindowNorm3d", "choose_inferer", "with_window_norms"]

MAX_VOXELS = 8 * 128**3
"""Of one pass, which takes eight times the memory of a window then. A volume with more of them goes through windows."""

MULTIPLE = 16
"""Of voxels, on each axis: the network halves a volume four times."""

SIGMA = 0.125
"""Of the Gaussian by which windows are blended, as a share of the window: MONAI's ``sigma_scale``."""

Axis = tuple[int, list[tuple[int, int]]]
"""An axis of a volume: its voxels, and the (start, end) of its windows."""


class WindowNorm3d(nn.InstanceNorm3d):
    """InstanceNorm that, within :class:`OnePassInferer`, takes its statistics over windows; elsewhere it is as ever."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W, D) -> the same shape and dtype."""
        axes = _windows.get()
        if axes is None:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):  # which would sum in bfloat16
            return self._over_windows(x, axes)

    def _over_windows(self, x: torch.Tensor, axes: list[Axis]) -> torch.Tensor:
        inside, blend = zip(*map(_weights, axes, x.shape[2:]), strict=True)
        # Two buffers of the map's size: to allocate costs more than to compute. Rows of voxels are what is summed.
        values = torch.empty(x.shape, device=x.device).copy_(x)
        values -= values.mean((2, 3, 4), keepdim=True)  # or the squares would cancel
        buffer = values.square()
        mean = _of_windows(values, inside)
        scale = (_of_windows(buffer, inside) - mean.square() + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight[:, None, None, None]
        values *= _of_voxels(scale, blend, buffer)
        values += _of_voxels(-mean * scale, blend, buffer)
        if self.bias is not None:
            values += self.bias[:, None, None, None]
        return values.to(x.dtype)


def with_window_norms(network: nn.Module) -> nn.Module:
    """The network, each of its InstanceNorms made a :class:`WindowNorm3d`; weights and names stay as they are."""
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d:
            module.__class__ = WindowNorm3d  # which has no more than another forward
    return network


def choose_inferer(windows: SlidingWindowInferer, network: nn.Module, one_pass: bool) -> SlidingWindowInferer:
    """The inferer as it is or, with ``one_pass``, one that has its options; the network's norms are made ready for it.

    Raises:
        ValueError: if ``one_pass`` is no bool.
    """
    if not isinstance(one_pass, bool):  # "--one_pass false" reaches a config as the string 'false', which is true
        raise ValueError(f"one_pass: expected True or False, got {one_pass!r}")
    if not one_pass:
        return windows
    with_window_norms(network)
    return OnePassInferer(windows)


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
        # Who has the volume stitched elsewhere has no room for it where the network is.
        if size == roi or device != inputs.device:
            return super().__call__(inputs, network, *args, **kwargs)
        before = [(n - own) // 2 for n, own in zip(size, shape, strict=True)]
        after = [n - own - b for n, own, b in zip(size, shape, before, strict=True)]
        pads = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
        overlap = (self.overlap,) * 3 if isinstance(self.overlap, float | int) else self.overlap
        axes = [_axis(*each) for each in zip(shape, size, before, roi, overlap, strict=True)]
        with _statistics_of(axes):
            logits = network(nn.functional.pad(inputs, pads), *args)
        return logits[(..., *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))]

    def _roi(self, shape: Sequence[int]) -> tuple[int, ...]:
        roi = (self.roi_size,) * 3 if isinstance(self.roi_size, int) else self.roi_size
        return tuple(r if r > 0 else _multiple(n) for r, n in zip(roi, shape, strict=True))


_windows: ContextVar[list[Axis] | None] = ContextVar("windows", default=None)


@contextmanager
def _statistics_of(axes: list[Axis]) -> Iterator[None]:
    token = _windows.set(axes)
    try:
        yield
    finally:
        _windows.reset(token)


def _axis(own: int, padded: int, before: int, window: int, overlap: float) -> Axis:
    """Of a volume with ``own`` voxels, in front of which there are ``before`` of the padding."""
    if own <= window:  # padded to the window
        return padded, [(0, padded)]
    parts = dense_patch_slices((own,), (window,), (max(1, int(window * (1 - overlap))),))
    return padded, [(before + part.start, before + part.stop) for (part,) in parts]


def _weights(axis: Axis, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For an axis of a feature map: which voxels are in a window, and how much of each window is in a voxel.

    Returns:
        (windows, size) whose rows sum to 1, and (windows, size) whose columns do.
    """
    full, windows = axis
    places = [(round(a * size / full), max(round(b * size / full), round(a * size / full) + 1)) for a, b in windows]
    inside, blend = torch.zeros(len(places), size), torch.zeros(len(places), size)
    for row, (start, end) in enumerate(places):
        inside[row, start:end] = 1 / (end - start)
        at = torch.arange(start, end) - (start + end - 1) / 2
        blend[row, start:end] = torch.exp(-0.5 * (at / (SIGMA * (end - start))) ** 2).clamp(min=1e-3)
    outside = blend.sum(0) == 0  # the padding: as the nearest window
    blend[0, : size // 2] += outside[: size // 2]
    blend[-1, size // 2 :] += outside[size // 2 :]
    return inside, blend / blend.sum(0)


def _of_windows(values: torch.Tensor, inside: Sequence[torch.Tensor]) -> torch.Tensor:
    """Means (B, C, windows on each axis) of values (B, C, H, W, D)."""
    h, w, d = (each.to(values.device) for each in inside)
    return torch.einsum("bchwk,ih,jw->bcijk", values @ d.T, h, w)


def _of_voxels(windows: torch.Tensor, blend: Sequence[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    """Values (B, C, H, W, D), put into ``out``, from those of the windows (B, C, windows on each axis)."""
    h, w, d = (each.to(windows.device) for each in blend)
    return torch.matmul(torch.einsum("bcijk,ih,jw->bchwk", windows, h, w), d, out=out)


def _multiple(n: int) -> int:
    return -(-n // MULTIPLE) * MULTIPLE
