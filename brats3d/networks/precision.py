"""bfloat16 autocast, on the CPU and on CUDA."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from brats3d.errors import UsageError

logger = logging.getLogger("brats3d")


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """Return a context of bfloat16 autocast, disabled if ``amp`` is False, on MPS, or on a CPU without bfloat16.

    A CPU without these instructions emulates them: a step of the default network took 45 times as long. MPS has no
    transposed 3D convolution in bfloat16 (https://github.com/pytorch/pytorch/issues/160739).
    """
    supported = _cpu_has_bfloat16() if device.type == "cpu" else device.type != "mps"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp and supported)


def compute_dtype(device: torch.device, amp: bool) -> torch.dtype:
    """Return the type of convolutions within :func:`autocast`."""
    with autocast(device, amp):
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


class SafeBackward:
    """A context for the backward pass of a network that has computed within :func:`autocast`.

    On a CPU, oneDNN's bfloat16 gradient of the weights of a 3D convolution is wrong if the first side of its input is
    smaller than the kernel: it reads and writes outside its buffers, so that the gradient is random, often finite, and
    up to 10^35 times too large (oneDNN 3.12, AVX-512). The bottleneck of the default network has two voxels there if
    the first side of a patch is 32. Within this context such gradients are computed in float32; others are unchanged.
    """

    def __init__(self) -> None:
        self._unaffected: set[torch.Size] = set()

    @contextmanager
    def __call__(self, image: torch.Tensor, amp: bool) -> Iterator[None]:
        """Enter the context for an input of the network: (B, C, H, W, D), autocast if ``amp``."""
        is_bfloat16 = image.device.type == "cpu" and compute_dtype(image.device, amp) == torch.bfloat16
        if not is_bfloat16 or image.shape in self._unaffected:
            yield
            return
        with _Float32SmallConvolutions() as mode:
            yield
        if not mode.found:  # next time save the 6 ms that the search takes
            self._unaffected.add(image.shape)


class _Float32SmallConvolutions(TorchDispatchMode):
    """Compute the gradients of convolutions in float32 if their input is smaller than the kernel."""

    found = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.ops.aten.convolution_backward.default or not _is_wrong_in_bfloat16(*args):
            return func(*args, **(kwargs or {}))
        self.found = True
        _log_float32()
        gradients = func(*(tensor.float() for tensor in args[:3]), *args[3:])
        return tuple(gradient if gradient is None else gradient.to(torch.bfloat16) for gradient in gradients)


def _is_wrong_in_bfloat16(output: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, *options: Any) -> bool:
    """Check the arguments of ``convolution_backward``; ``output`` is the gradient (B, C, H, W, D)."""
    transposed = options[4]
    convolved = output if transposed else image  # oneDNN reverses a transposed convolution
    return weight.dtype == torch.bfloat16 and weight.ndim == 5 and convolved.shape[2] < weight.shape[2]


@cache
def _log_float32() -> None:
    logger.info(
        "amp: for such small patches, the gradients of the smallest feature maps are computed in float32, because "
        "bfloat16 gradients are wrong there on a CPU"
    )


@cache
def _cpu_has_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # older than torch 2.13
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    has = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))
    if not has:
        logger.info("amp: this CPU has no bfloat16 instructions; computing in float32")
    return has


def check_flag(name: str, value: bool) -> bool:
    """Check that a knob is a bool, and return it.

    Raises:
        UsageError: if it is not a bool: ``--amp false`` reaches a config as the string 'false', which is truthy.
    """
    if not isinstance(value, bool):
        raise UsageError(name, expected="True or False", found=value)
    return value
