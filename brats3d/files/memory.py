"""Free and total memory of the machine, on the CPU and on a GPU."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")
CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
SHARED = Path("/dev/shm")

_FILES = (
    ("memory.max", "memory.current", "inactive_file"),  # cgroup v2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # v1
)
"""Files of a control group (limit, usage), and the entry of memory.stat for cached files, which the kernel can free."""


def use_huge_pages() -> None:
    """Let PyTorch use memory pages of 2 MiB for CPU tensors, on Linux. Call this before the first tensor is created.

    A feature map of a 128³ patch takes 134 MB, which the C library maps anew each time: the kernel clears 33,000 pages
    of 4 KiB one by one. Without huge pages, a training step on two cores took 1.1 times as long
    (benchmarks/RESULTS.md). If ``THP_MEM_ALLOC_ENABLE`` is set, even to 0, it is not changed.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def free_memory() -> int:
    """Return the free bytes of main memory, within the limits of this process's containers and jobs."""
    return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in _limits())])


def total_memory() -> int:
    """Return the bytes of main memory and swap, within the limits of this process's containers and jobs."""
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    return min([total, *(limit for limit, _ in _limits())])


def free_shared_memory() -> int | None:
    """Return the free bytes of shared memory (``/dev/shm``), 0 if it cannot be written; None if not on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    return shutil.disk_usage(SHARED).free if os.access(SHARED, os.W_OK) else 0


def free_gpu_memory(device: torch.device) -> int | None:
    """Return the free bytes of a GPU, including PyTorch's unused cache; None for other devices."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def gib(count: float) -> str:
    """Format bytes as GiB with one decimal."""
    return f"{count / 2**30:.1f}"


def _limits() -> Iterator[tuple[int, int]]:
    """Yield (limit, used) in bytes of every limit of this process: of its control groups, and ``ulimit -v``.

    A group's limit holds for all groups below it, so the group of a job and all groups above it are read.
    """
    for folder in _control_groups():
        for limit_file, used_file, cached in _FILES:
            limit, used, counts = (_text(folder / name) for name in (limit_file, used_file, "memory.stat"))
            if limit.isdecimal():  # "max" or "-1": no limit
                cached_bytes = re.search(rf"^{cached} (\d+)$", counts, re.MULTILINE)
                yield int(limit), int(used or 0) - int(cached_bytes[1] if cached_bytes else 0)
    if hasattr(psutil, "RLIMIT_AS"):  # on Linux
        process = psutil.Process()
        limit_of_addresses, _ = process.rlimit(psutil.RLIMIT_AS)
        if limit_of_addresses >= 0:
            yield limit_of_addresses, process.memory_info().vms


def _control_groups() -> Iterator[Path]:
    """Yield the folders of this process's control groups (cgroups v2 and v1), each with those above it.

    In a container, the path of the group may be that of the host. The container's own group is then the root.
    """
    paths = {CGROUP: "", CGROUP / "memory": ""}  # v2, v1
    for line in _text(CGROUP_OF_PROCESS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths[CGROUP] = path
        elif "memory" in controllers.split(","):
            paths[CGROUP / "memory"] = path
    for root, path in paths.items():
        folder = root / path.lstrip("/")
        yield from (group for group in (folder, *folder.parents) if group == root or root in group.parents)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
