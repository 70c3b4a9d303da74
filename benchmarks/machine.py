"""What a measurement was taken on, and where it is kept."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path

import monai
import torch

import brats3d

RESULTS = Path(__file__).parent / "RESULTS.md"


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
