"""The machine, the clock and the tables of a measurement."""

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

RESULTS = Path(__file__).parent / "results"


def now(device: torch.device | str) -> float:
    """Return the clock's seconds after the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_kib() -> int:
    """Return the peak memory of this process. Its ru_maxrss may be that of the parent process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def describe(device: torch.device | str | None = None, threads: int | None = None) -> str:
    """Describe date, processor, threads and versions in one line.

    Args:
        device: the device that was measured; None = CUDA if available.
        threads: threads of each measured process; None = those of this one.
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
    """Return the commit of the measured code, with "+" if anything but the results has been changed since."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parents[1])

    if not shutil.which("git"):
        return "no commit"
    head = git("rev-parse", "--short=7", "HEAD").stdout.strip()
    changed = git("diff", "--quiet", "HEAD", "--", ".", f":(exclude)benchmarks/{RESULTS.name}").returncode
    return head + "+" * bool(changed) if head else "no commit"


COMMIT = commit()
"""Read when the measurement begins, because the code may change while it runs."""


def show(
    page: str,
    title: str,
    table: list[str],
    record: bool,
    device: torch.device | str | None = None,
    threads: int | None = None,
) -> None:
    """Print a table; with ``record``, also append it to ``results/<page>.md`` with a description of the machine."""
    text = "\n".join([f"## {title}", "", describe(device, threads), "", *table])
    print(f"\n{text}")
    if record:
        with (RESULTS / f"{page}.md").open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")


def rows(header: list[str], cells: list[list[object]]) -> list[str]:
    """Format a Markdown table; floats have three significant digits."""
    text = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in line] for line in cells]
    return [f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *text]]
