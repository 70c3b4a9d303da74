"""What a measurement was taken on and by which clock, and where it is kept."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from datetime import date
from pathlib import Path

import monai
import torch

import brats3d

RESULTS = Path(__file__).parent / "RESULTS.md"


def now(device: torch.device | str) -> float:
    """Seconds of the clock, when the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_kib() -> int:
    """Most memory that this process has had; its ru_maxrss may be that of the one which started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def describe(device: torch.device | str | None = None, threads: int | None = None) -> str:
    """One line: date, processor, threads, versions.

    Args:
        device: that was measured on; None = CUDA if there is one.
        threads: of each process that was measured; None = this one's.
    """
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    if kind == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
        name = f"{name} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores"
    return (
        f"{date.today()}, {name}, {threads or torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"monai {monai.__version__}, brats3d {brats3d.__version__} ({COMMIT})"
    )


def commit() -> str:
    """Of the code that was measured; "+" if more than RESULTS.md has been changed since."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parents[1])

    if not shutil.which("git"):
        return "no commit"
    head = git("rev-parse", "--short=7", "HEAD").stdout.strip()
    changed = git("diff", "--quiet", "HEAD", "--", ".", f":(exclude)benchmarks/{RESULTS.name}").returncode
    return head + "+" * bool(changed) if head else "no commit"


COMMIT = commit()
"""When the measurement begins: the code may change while it runs."""


def record(title: str, table: list[str], device: torch.device | str | None = None, threads: int | None = None) -> None:
    """Print the table, and append it to RESULTS.md, below what :func:`describe` says."""
    text = "\n".join([f"## {title}", "", describe(device, threads), "", *table, ""])
    print(text)
    with RESULTS.open("a") as file:
        file.write(text + "\n")


def show(
    title: str,
    table: list[str],
    keep: bool,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> None:
    """Print the table, and append it to RESULTS.md if it is to be kept."""
    if keep:
        record(title, table, device, threads)
    else:
        print("\n".join(["", title, "", *table]))


def rows(header: list[str], cells: list[list[object]]) -> list[str]:
    """A Markdown table; numbers with three significant digits."""
    text = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in line] for line in cells]
    return [f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *text]]
