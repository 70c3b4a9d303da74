"""InstanceNorm that is fast on channels-last feature maps on a CPU and can use the statistics of sliding windows.

oneDNN's convolutions return channels-last maps, and are fastest with them. PyTorch's InstanceNorm copies each map to
the other memory format, and the next convolution copies it back. On a CPU, this module reads and writes the map row by
row in its own memory format, and each row fits into the cache of a core. If no other module uses the map, it is
normalised in place: allocating a map of a whole brain takes longer than normalising it. In training, PyTorch's
BatchNorm of each sample takes its place: a step of one patch of 128³ in bfloat16 takes 0.78 times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import lru_cache
from itertools import pairwise
from typing import TypeGuard

import torch
from monai.networks.blocks import Convolution
from torch import nn

SIGMA = 0.125
"""Standard deviation of the Gaussian that blends windows, as a fraction of the window: MONAI's ``sigma_scale``."""

Axis = tuple[int, list[tuple[int, int]]]
"""An axis of a volume: its number of voxels and the (start, end) of each window."""


class WindowNorm3d(nn.InstanceNorm3d):
    """InstanceNorm over the whole map or, inside :func:`statistics_of`, with the statistics of windows."""

    in_place: bool = False
    """If True, the input may be overwritten when gradients are disabled."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a map (B, C, H, W, D). The output has its shape and dtype, and row by row also its layout."""
        axes, by_rows = _windows.get(), _lies_in_rows(x)
        if axes is None:
            if not by_rows:
                return self._by_samples(x) if _is_channels_last(x) else super().forward(x)
            axes = [(size, [(0, size)]) for size in x.shape[2:]]
        with torch.autocast(x.device.type, enabled=False):  # which would sum in bfloat16
            return self._by_rows(x, axes) if by_rows else self._by_maps(x, axes)

    def _by_samples(self, x: torch.Tensor) -> torch.Tensor:
        maps = [
            nn.functional.batch_norm(map_, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for map_ in x.split(1)
        ]
        return maps[0] if len(maps) == 1 else torch.cat(maps)

    def _by_maps(self, x: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
        inside, blend = zip(*map(_weights, axes, x.shape[2:]), strict=True)
        # Only two buffers of the map's size: allocating takes longer than computing.
        values = torch.empty(x.shape, device=x.device).copy_(x)
        values -= values.mean((2, 3, 4), keepdim=True)  # avoids cancellation in the variance
        buffer = values.square()
        mean = _window_means(values, inside)
        scale = self._scale(mean, _window_means(buffer, inside))
        if self.weight is not None:
            scale = scale * self.weight[:, None, None, None]
        values *= _blend_to_voxels(scale, blend, buffer)
        values += _blend_to_voxels(-mean * scale, blend, buffer)
        if self.bias is not None:
            values += self.bias[:, None, None, None]
        return values.to(x.dtype)

    def _scale(self, mean: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """Return 1 / standard deviation. Rounding can make the variance of a constant window negative."""
        return (square - mean.square()).clamp_(min=0).add_(self.eps).rsqrt()

    def _by_rows(self, x: torch.Tensor, axes: Sequence[Axis]) -> torch.Tensor:
        out = x if self.in_place else torch.empty_like(x)
        # A subclass such as MetaTensor would dispatch the operations on each row in Python.
        for map_, into in zip(x.as_subclass(torch.Tensor), out.as_subclass(torch.Tensor), strict=True):
            self._rows_of(map_.permute(1, 2, 3, 0), into.permute(1, 2, 3, 0), axes)
        return out

    def _rows_of(self, map_: torch.Tensor, out: torch.Tensor, axes: Sequence[Axis]) -> None:
        """Normalise a map (H, W, D, C) into ``out``."""
        height, width, depth, channels = map_.shape
        rows, targets = map_.reshape(height, -1), out.view(height, -1)
        first, second, third = (_weights(axis, size) for axis, size in zip(axes, map_.shape[:3], strict=True))
        centre = map_[:: max(1, height // 4)].float().mean((0, 1, 2))  # near the mean: avoids cancellation
        mean, square = (
            torch.einsum("iwdc,jw,kd->ijkc", means.view(-1, width, depth, channels), second[0], third[0])
            for means in _centred_means(rows, centre.repeat(width * depth), first[0])
        )
        scale = self._scale(mean, square)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -(mean + centre) * scale
        if self.bias is not None:
            shift = shift + self.bias
        windows = torch.stack([scale, shift], dim=1)  # (windows of H, 2, windows of W, windows of D, C)
        windows = torch.einsum("isjkc,jw,kd->iswdc", windows, second[1], third[1]).reshape(len(windows), 2, -1)
        each, buffer = windows.unbind(), torch.empty(2, rows.shape[1])
        for row, target, blend in zip(rows, targets, first[1].T.tolist(), strict=True):
            scale, shift = _mix(each, blend, buffer)
            torch.addcmul(shift, row, scale, out=target)


def with_window_norms(network: nn.Module) -> nn.Module:
    """Return a copy of a network with :class:`WindowNorm3d` in place of InstanceNorm.

    The copy shares its parameters with the network: weights that are loaded into one are in both. Norms that use
    running statistics are kept. The layers after a convolution in MONAI's ``Convolution`` blocks work in place, because
    no other module uses their input.
    """
    network = deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})
    for parent in list(network.modules()):
        for name, norm in parent.named_children():
            if _is_instance_norm(norm):
                setattr(parent, name, _window_norm_of(norm))
    for block in network.modules():
        if isinstance(block, Convolution):
            for layer in getattr(block, "adn", ()):
                if isinstance(layer, WindowNorm3d):
                    layer.in_place = True
                elif isinstance(layer, nn.LeakyReLU | nn.ReLU):
                    layer.inplace = True
    return network


def _is_instance_norm(module: nn.Module) -> TypeGuard[nn.InstanceNorm3d | nn.GroupNorm]:
    """Return True for InstanceNorm, and for GroupNorm with a group for each channel (MedNeXt), which is the same."""
    if type(module) is nn.GroupNorm:
        return module.num_groups == module.num_channels
    return type(module) is nn.InstanceNorm3d and not module.track_running_stats


def _window_norm_of(norm: nn.InstanceNorm3d | nn.GroupNorm) -> WindowNorm3d:
    channels = norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
    window_norm = WindowNorm3d(channels, norm.eps, affine=norm.affine)
    window_norm.weight, window_norm.bias = norm.weight, norm.bias
    return window_norm.train(norm.training)


_windows: ContextVar[list[Axis] | None] = ContextVar("windows", default=None)


@contextmanager
def statistics_of(axes: list[Axis]) -> Iterator[None]:
    """Inside this context, every :class:`WindowNorm3d` uses the statistics of these windows of the volume."""
    token = _windows.set(axes)
    try:
        yield
    finally:
        _windows.reset(token)


def _lies_in_rows(x: torch.Tensor) -> bool:
    """Return True for a channels-last map on a CPU that can be normalised row by row, in float32, without gradients."""
    return _is_channels_last(x) and not torch.is_grad_enabled()


def _is_channels_last(x: torch.Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype == torch.float64:
        return False
    return x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


def _centred_means(rows: torch.Tensor, centre: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means of rows (H, N) minus the centre (N) over the windows of an axis, and the means of the squares.

    ``inside`` (windows, H) is the weight of each row in the mean of each window. Both results are (windows, N).
    """
    borders = [0, *(1 + (inside[:, 1:] != inside[:, :-1]).any(0).nonzero().flatten()).tolist(), len(rows)]
    sums, squares = (torch.zeros(len(borders) - 1, rows.shape[1]) for _ in range(2))
    difference = torch.empty_like(centre)
    for (start, end), total, square in zip(pairwise(borders), sums, squares, strict=True):
        for row in rows[start:end]:
            torch.sub(row, centre, out=difference)
            total += difference
            square.addcmul_(difference, difference)
    weights = inside[:, borders[:-1]]
    return weights @ sums, weights @ squares


def _mix(windows: Sequence[torch.Tensor], weights: Sequence[float], out: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean of windows, in ``out`` unless a single window has all the weight."""
    (mixed, total), *others = [pair for pair in zip(windows, weights, strict=True) if pair[1]]
    for window, weight in others:
        total += weight
        mixed = torch.lerp(mixed, window, weight / total, out=out)
    return mixed


def _weights(axis: Axis, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    full, windows = axis
    return _weights_of(full, tuple(windows), size)


@lru_cache(maxsize=1000)  # feature maps of many cases have few shapes
@torch.inference_mode(False)
def _weights_of(full: int, windows: tuple[tuple[int, int], ...], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of an axis of a feature map with ``size`` voxels, given the volume's axis and its windows.

    Returns:
        ``inside``, shape (windows, size): the weight of each voxel in the mean of each window; rows sum to 1.
        ``blend``, shape (windows, size): the weight of each window at each voxel; columns sum to 1.
    """
    places = [(round(a * size / full), max(round(b * size / full), round(a * size / full) + 1)) for a, b in windows]
    inside, blend = torch.zeros(len(places), size), torch.zeros(len(places), size)
    for row, (start, end) in enumerate(places):
        inside[row, start:end] = 1 / (end - start)
        offset = torch.arange(start, end) - (start + end - 1) / 2
        blend[row, start:end] = torch.exp(-0.5 * (offset / (SIGMA * (end - start))) ** 2).clamp(min=1e-3)
    outside = blend.sum(0) == 0  # the padding uses the statistics of the nearest window
    blend[0, : size // 2] += outside[: size // 2]
    blend[-1, size // 2 :] += outside[size // 2 :]
    return inside, blend / blend.sum(0)


def _window_means(values: torch.Tensor, inside: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the means of values (B, C, H, W, D) over the windows: (B, C, windows of each axis)."""
    h, w, d = (weights.to(values.device) for weights in inside)
    return torch.einsum("bchwk,ih,jw->bcijk", values @ d.T, h, w)


def _blend_to_voxels(windows: torch.Tensor, blend: Sequence[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
    """Blend values of the windows (B, C, windows of each axis) to voxels (B, C, H, W, D), written to ``out``."""
    h, w, d = (weights.to(windows.device) for weights in blend)
    return torch.matmul(torch.einsum("bcijk,ih,jw->bchwk", windows, h, w), d, out=out)
