"""The device of a run: a GPU whose convolutions are right, else the CPU."""

from __future__ import annotations

import logging

import torch
from torch.nn import functional

logger = logging.getLogger("brats3d")


def default_device() -> torch.device:
    """Return ``cuda`` if there is one, else ``mps`` (the GPU of a Mac) if its convolutions are right, else ``cpu``."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        if convolutions_are_right(mps := torch.device("mps")):
            return mps
        logger.warning("device: 3D convolutions on this Mac's GPU are wrong; computing on the CPU. Update macOS.")
    return torch.device("cpu")


def convolutions_are_right(device: torch.device) -> bool:
    """Compare two 3D convolutions on the device with the CPU, in float32 and in both memory formats.

    On macOS 26.2, those of MPS were wrong without an error for most numbers of channels
    (https://github.com/pytorch/pytorch/issues/197114).
    """
    generator = torch.Generator().manual_seed(0)
    image, weight = (torch.randn(shape, generator=generator) for shape in ((1, 16, 8, 8, 8), (16, 16, 3, 3, 3)))
    for convolve in (functional.conv3d, functional.conv_transpose3d):
        expected = convolve(image, weight)
        for memory_format in (torch.contiguous_format, torch.channels_last_3d):
            try:
                x, w = (tensor.to(device=device, memory_format=memory_format) for tensor in (image, weight))
                found = convolve(x, w).cpu()
            except (RuntimeError, NotImplementedError):
                return False
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-2):
                return False
    return True
