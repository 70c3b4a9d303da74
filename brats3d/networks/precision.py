"""bfloat16 autocast, on the CPU and on CUDA."""

from __future__ import annotations

import logging
from functools import cache

import torch

from brats3d.errors import UsageError

logger = logging.getLogger("brats3d")


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """Return a context of bfloat16 autocast, disabled if ``amp`` is False or the CPU has no bfloat16 instructions.

    A CPU without these instructions emulates them: a step of the default network took 45 times as long.
    """
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=amp and (device.type != "cpu" or _cpu_has_bfloat16())
    )


def compute_dtype(device: torch.device, amp: bool) -> torch.dtype:
    """Return the type of convolutions within :func:`autocast`."""
    with autocast(device, amp):
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


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
