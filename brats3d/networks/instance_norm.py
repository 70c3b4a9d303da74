"""InstanceNorm without copies of maps whose channels lie last in memory; in one pass, with the statistics of windows.

oneDNN's convolutions give, and are quickest with, maps in channels-last order. PyTorch's InstanceNorm copies each into
the other order, and the convolution after it copies it back. Here, on a CPU, a map is read and written row by row, each
of which fits into a core's cache, in the order in which it lies there; and where nobody else has the map, in its place,
since fresh memory for a map of a whole brain costs more than to normalise it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from torch import nn

SIGMA = 0.125
"""Of the Gaussian by which windows are blended, as a share of the window: MONAI's ``sigma_scale``."""

Axis = tuple[int, list[tuple[int, int]]]
"""An axis of a volume: its voxels, and the (start, end) of its windows."""


class WindowNorm3d(nn.InstanceNorm3d):
    """InstanceNorm with the statistics of windows within :func:`statistics_of`, and of the whole map elsewhere."""

    in_place: bool = False
    """Whether a map that comes in may be overwritten, where no gradients are wanted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W, D) -> the same shape and dtype; by rows, the same layout too."""
        axes, by_rows = _windows.get(), _lies_in_rows(x)
        if axes is None:
            if not by_rows:
                return super().forward(x)
            axes = [(size, [(0, size)]) for size in x.shape[2:]]
        with torch.autocast(x.device.type, enabled=False):  # which would sum in bfloat16
            return self._by_rows(x, axes) if by_rows else self._by_maps(x, axes)

    def _by_maps(self, x: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
        inside, blend = zip(*map(_weights, axes, x.shape[2:]), strict=True)
        # Two buffers of the map's size: to allocate costs more than to compute. Rows of voxels are what is summed.
        values = torch.empty(x.shape, device=x.device).copy_(x)
        values -= values.mean((2, 3, 4), keepdim=True)  # or the squares would cancel
        buffer = values.square()
        mean = _of_windows(values, inside)
        scale = self._scale(mean, _of_windows(buffer, inside))
        if self.weight is not None:
            scale = scale * self.weight[:, None, None, None]
        values *= _of_voxels(scale, blend, buffer)
        values += _of_voxels(-mean * scale, blend, buffer)
        if self.bias is not None:
            values += self.bias[:, None, None, None]
        return values.to(x.dtype)

    def _scale(self, mean: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """One by the standard deviation; where all of a window is the same, far from 0, rounding leaves less than 0."""
        return (square - mean.square()).clamp_(min=0).add_(self.eps).rsqrt()

    def _by_rows(self, x: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
        out = x if self.in_place else torch.empty_like(x)
        # A subclass, such as MetaTensor, would dispatch the operations on each row in Python.
        for map_, into in zip(x.as_subclass(torch.Tensor), out.as_subclass(torch.Tensor), strict=True):
            self._rows_of(map_.permute(1, 2, 3, 0), into.permute(1, 2, 3, 0), axes)
        return out

    def _rows_of(self, map_: torch.Tensor, out: torch.Tensor, axes: Sequence[Axis]) -> None:
        """Of a map (H, W, D, C), into ``out``."""
        height, width, depth, channels = map_.shape
        rows, targets = map_.reshape(height, -1), out.view(height, -1)
        first, second, third = (_weights(axis, size) for axis, size in zip(axes, map_.shape[:3], strict=True))
        centre = map_[:: max(1, height // 4)].float().mean((0, 1, 2))  # near the mean, or the squares would cancel
        mean, square = (
            torch.einsum("iwdc,jw,kd->ijkc", each.view(-1, width, depth, channels), second[0], third[0])
            for each in _sums(rows, centre.repeat(width * depth), first[0])
        )
        scale = self._scale(mean, square)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -(mean + centre) * scale
        if self.bias is not None:
            shift = shift + self.bias
        scale, shift = (
            torch.einsum("ijkc,jw,kd->iwdc", each, second[1], third[1]).reshape(len(each), -1)
            for each in (scale, shift)
        )
        scale_buffer, shift_buffer = torch.empty(2, rows.shape[1])
        for row, target, blend in zip(rows, targets, first[1].T.tolist(), strict=True):
            torch.addcmul(_mix(shift, blend, shift_buffer), row, _mix(scale, blend, scale_buffer), out=target)


def with_window_norms(network: nn.Module) -> nn.Module:
    """The network, each of its InstanceNorms made a :class:`WindowNorm3d`; weights and names stay as they are.

    Those that keep running statistics, which they use in the place of a window's, are left alone.
    What MONAI's ``Convolution`` does with the output of its convolution, which nobody else has, it does in its place.
    """
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d and not module.track_running_stats:
            module.__class__ = WindowNorm3d  # which has no more than another forward
    for module in network.modules():
        if isinstance(module, Convolution):
            for part in getattr(module, "adn", nn.Sequential()):
                if isinstance(part, WindowNorm3d):
                    part.in_place = True
                elif isinstance(part, nn.LeakyReLU | nn.ReLU):
                    part.inplace = True
    return network


_windows: ContextVar[list[Axis] | None] = ContextVar("windows", default=None)


@contextmanager
def statistics_of(axes: list[Axis]) -> Iterator[None]:
    """Within it, each :class:`WindowNorm3d` takes its statistics over these windows of the volume."""
    token = _windows.set(axes)
    try:
        yield
    finally:
        _windows.reset(token)


def _lies_in_rows(x: torch.Tensor) -> bool:
    """Whether to go by rows, in float32: on a CPU, of a map with its channels last, not where gradients are wanted."""
    if x.device.type != "cpu" or x.dtype == torch.float64 or torch.is_grad_enabled():
        return False
    return x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


def _sums(rows: torch.Tensor, centre: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over the windows of an axis, of rows (H, N) less the centre (N) and of their squares: (windows, N) each.

    Args:
        inside: how much of each window a row is, (windows, H).
    """
    borders = [0, *(1 + (inside[:, 1:] != inside[:, :-1]).any(0).nonzero().flatten()).tolist(), len(rows)]
    sums, squares = (torch.zeros(len(borders) - 1, rows.shape[1]) for _ in range(2))
    difference = torch.empty_like(centre)
    for (start, end), total, square in zip(pairwise(borders), sums, squares, strict=True):
        for row in rows[start:end]:
            torch.sub(row, centre, out=difference)
            total += difference
            square.addcmul_(difference, difference)
    share = inside[:, borders[:-1]]
    return share @ sums, share @ squares


def _mix(windows: torch.Tensor, weights: Sequence[float], out: torch.Tensor) -> torch.Tensor:
    """The mean of windows (windows, N) by weights that sum to 1: (N), put into ``out`` unless it is one of them."""
    (mixed, total), *others = [pair for pair in zip(windows, weights, strict=True) if pair[1]]
    for each, weight in others:
        total += weight
        mixed = torch.lerp(mixed, each, weight / total, out=out)
    return mixed


def _weights(axis: Axis, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    full, windows = axis
    return _weights_of(full, tuple(windows), size)


@lru_cache(maxsize=1000)  # a few for each shape of a map: the maps of many cases have few shapes
@torch.inference_mode(False)
def _weights_of(full: int, windows: tuple[tuple[int, int], ...], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For an axis of a feature map: which voxels are in a window, and how much of each window is in a voxel.

    Returns:
        (windows, size) whose rows sum to 1, and (windows, size) whose columns do.
    """
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
