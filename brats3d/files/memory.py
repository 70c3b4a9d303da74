"""Free and total memory of the machine, on the CPU and on a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def use_huge_pages() -> None:
    """Let PyTorch use memory pages of 2 MiB for CPU tensors, on Linux. Call this before the first tensor is created.

    A feature map of a 128³ patch takes 134 MB, which the C library maps anew each time: the kernel clears 33,000 pages
    of 4 KiB one by one. Without huge pages, a training step on two cores took 1.1 times as long
    (benchmarks/RESULTS.md). If ``THP_MEM_ALLOC_ENABLE`` is set, even to 0, it is not changed.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def free_memory() -> int:
    """Return the free bytes of main memory, within the limit of a container."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such files, or "max": no limit
        return free
    return min(free, max(0, limit - used + int(counts.get("inactive_file", 0))))


def total_memory() -> int:
    """Return the bytes of main memory and swap, within the limit of a container."""
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    try:
        return min(total, int((CGROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        return total


def free_gpu_memory(device: torch.device) -> int | None:
    """Return the free bytes of a GPU, including PyTorch's unused cache; None for other devices."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def gib(count: float) -> str:
    """Format bytes as GiB with one decimal."""
    return f"{count / 2**30:.1f}"
