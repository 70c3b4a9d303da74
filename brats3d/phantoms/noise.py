"""Randomness of a phantom: numbers that are the same on every device, noise that is made on the device."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

Range = tuple[float, float]


class Draw:
    """Everything random of one case: numbers from NumPy, the same on every device; noise from torch, on the device.

    Args:
        seed: any integer from 0, or several of them.
        device: where noise is made.
    """

    def __init__(self, seed: int | Sequence[int], device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self._numbers = np.random.default_rng(seed)
        self._noise = torch.Generator(device).manual_seed(int(self._numbers.integers(2**62)))

    def of(self, step: str) -> Draw:
        """A stream of its own for a step, or for a few: what is drawn from it moves no draw of another stream."""
        seeds = [self.seed] if isinstance(self.seed, int) else list(self.seed)
        return Draw([*seeds, zlib.crc32(step.encode())], self.device)

    def uniform(self, low: float, high: float) -> float:
        """A number between low and high."""
        return float(self._numbers.uniform(low, high))

    def ratio(self, low: float, high: float) -> float:
        """A number between low and high, both above 0, even on a logarithmic scale."""
        return float(np.exp(self.uniform(*np.log((low, high)))))

    def normal(self, sigma: float) -> float:
        """A normal number of mean 0."""
        return float(self._numbers.normal(0, sigma))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self._numbers.random() < probability)

    def integer(self, below: int) -> int:
        """An integer from 0, below the bound."""
        return int(self._numbers.integers(below))

    def vector(self, low: float, high: float) -> torch.Tensor:
        """Three numbers between low and high, as a (3,) float32 tensor."""
        return torch.tensor(self._numbers.uniform(low, high, 3), dtype=torch.float32, device=self.device)

    def white(self, shape: Sequence[int]) -> torch.Tensor:
        """White noise of unit deviation."""
        return torch.randn(*shape, generator=self._noise, device=self.device)

    def field(self, shape: Sequence[int], length_voxels: float) -> torch.Tensor:
        """Smooth noise: unit normal values at nodes ``length_voxels`` apart, linear between them."""
        return resize(self.white(nodes(shape, length_voxels)), shape)

    def fractal(self, shape: Sequence[int], lengths_mm: Sequence[float], step_mm: int) -> torch.Tensor:
        """Noise of several lengths, coarse first, each 0.6 as strong as the one before.

        Of unit deviation at its nodes together; interpolation between them leaves 0.7 to 0.8 of it ("unit noise").
        Each scale is added on its own nodes, so that only the last is brought to full resolution.
        """
        layers = (self.white(nodes(shape, length / step_mm)) * 0.6**i for i, length in enumerate(lengths_mm))
        total = next(layers)
        for layer in layers:
            total = resize(total, layer.shape) + layer
        return resize(total / total.std(), shape)


def resize(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Bring (X, Y, Z) to another shape over the same extent, linearly, corner to corner."""
    return F.interpolate(volume[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def blur(volume: torch.Tensor, sigma_voxels: Sequence[float]) -> torch.Tensor:
    """Gaussian blur of the last three axes, by a product with a matrix each: on a CPU many times faster than conv3d."""
    for axis, sigma in enumerate(sigma_voxels, start=volume.ndim - 3):
        if sigma < 0.1:  # a neighbour would weigh 2e-22
            continue
        i = torch.arange(volume.shape[axis], device=volume.device)
        weights = torch.exp(-0.5 * ((i[:, None] - i) / max(sigma, 1e-3)) ** 2)
        volume = torch.tensordot(volume, weights / weights.sum(0), dims=([axis], [0])).movedim(-1, axis)
    return volume


def nodes(shape: Sequence[int], length_voxels: float) -> list[int]:
    """How many nodes about ``length_voxels`` apart reach across a volume, with one to spare."""
    return [round(n / max(length_voxels, 1)) + 2 for n in shape]
