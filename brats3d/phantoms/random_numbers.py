"""Random numbers that are the same on every device, and noise made on the device."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from brats3d.phantoms.volume_ops import resize


class RandomStream:
    """A stream of random numbers (NumPy, the same on every device) and noise (torch, made on the device).

    Args:
        seed: an integer from 0, or several of them.
        device: where noise is made.
    """

    def __init__(self, seed: int | Sequence[int], device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self._numbers = np.random.default_rng(seed)
        self._noise = torch.Generator(device).manual_seed(int(self._numbers.integers(2**62)))

    def substream(self, name: str) -> RandomStream:
        """Return an independent stream for a step: drawing from it does not change what other streams return."""
        seeds = [self.seed] if isinstance(self.seed, int) else list(self.seed)
        return RandomStream([*seeds, zlib.crc32(name.encode())], self.device)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number between low and high."""
        return float(self._numbers.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        """Draw a number between low and high, both above 0, uniform on a logarithmic scale."""
        return float(np.exp(self.uniform(*np.log((low, high)))))

    def normal(self, sigma: float) -> float:
        """Draw from a normal distribution of mean 0."""
        return float(self._numbers.normal(0, sigma))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self._numbers.random() < probability)

    def integer(self, below: int) -> int:
        """Draw an integer from 0 to ``below - 1``."""
        return int(self._numbers.integers(below))

    def vector(self, low: float, high: float) -> torch.Tensor:
        """Draw three numbers between low and high, as a (3,) float32 tensor."""
        return torch.tensor(self._numbers.uniform(low, high, 3), dtype=torch.float32, device=self.device)

    def white_noise(self, shape: Sequence[int]) -> torch.Tensor:
        """Make white noise of unit standard deviation."""
        return torch.randn(*shape, generator=self._noise, device=self.device)

    def smooth_noise(self, shape: Sequence[int], length_voxels: float) -> torch.Tensor:
        """Make smooth noise: unit normal values at nodes ``length_voxels`` apart, linearly interpolated."""
        return resize(self.white_noise(node_counts(shape, length_voxels)), shape)

    def fractal_noise(self, shape: Sequence[int], lengths_mm: Sequence[float], voxel_mm: int) -> torch.Tensor:
        """Make noise on several length scales, coarse first, each 0.6 times as strong as the one before.

        The sum has unit standard deviation at its nodes; interpolation between them leaves 0.7 to 0.8 of that. This is
        the "unit noise" of :class:`brats3d.phantoms.Setting`. Each scale is added on the nodes of the next finer one,
        so that only the last sum is interpolated to full resolution.
        """
        total = self.white_noise(node_counts(shape, lengths_mm[0] / voxel_mm))
        for i, length in enumerate(lengths_mm[1:], 1):
            nodes = node_counts(shape, length / voxel_mm)
            total = resize(total, nodes) + self.white_noise(nodes) * 0.6**i
        return resize(total / total.std(), shape)


def node_counts(shape: Sequence[int], length_voxels: float) -> list[int]:
    """Return how many nodes, about ``length_voxels`` apart, span each axis of a volume, with one to spare."""
    return [round(n / max(length_voxels, 1)) + 2 for n in shape]
