"""Memory of the machine: how much is free, on the CPU and on a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def use_huge_pages() -> None:
    """Called by the configs first: on Linux, PyTorch asks for pages of 2 MiB for the tensors of the CPU.

    A feature map of a patch of 128³ takes 134 MB, which the C library maps anew each time: 33,000 pages of 4 KiB for
    the kernel to clear one by one. A training step on two cores took 1.1 times as long without
    (benchmarks/RESULTS.md). A ``THP_MEM_ALLOC_ENABLE`` that is set, also to 0, stays as it is. It takes effect before
    the first tensor alone.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def free_memory() -> int:
    """Bytes of main memory, within a container's limit: its host may have far more."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such files, or "max": no limit
        return free
    return min(free, max(0, limit - used + int(counts.get("inactive_file", 0))))


def total_memory() -> int:
    """Bytes of main memory and swap, within a container's limit."""
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    try:
        return min(total, int((CGROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        return total


def free_gpu_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU or that PyTorch holds there unused; None of any other device."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def gib(count: float) -> str:
    """Bytes as GiB with one decimal."""
    return f"{count / 2**30:.1f}"
