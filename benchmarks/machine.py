"""What a measurement was taken on and by which clock, and where it is kept."""

from __future__ import annotations

import platform
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


def describe() -> str:
    """One line: date, processor, threads, versions."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
        device = f"{device} ({torch.backends.cpu.get_cpu_capability()})"
    return (
        f"{date.today()}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"monai {monai.__version__}, brats3d {brats3d.__version__}"
    )


def record(title: str, table: list[str]) -> None:
    """Print the table, and append it to RESULTS.md."""
    text = "\n".join([f"## {title}", "", describe(), "", *table, ""])
    print(text)
    with RESULTS.open("a") as file:
        file.write(text + "\n")


def show(title: str, table: list[str], keep: bool) -> None:
    """Print the table, and append it to RESULTS.md if it is to be kept."""
    if keep:
        record(title, table)
    else:
        print("\n".join(["", title, "", *table]))


def rows(header: list[str], cells: list[list[object]]) -> list[str]:
    """A Markdown table; numbers with three significant digits."""
    text = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in line] for line in cells]
    return [f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *text]]
