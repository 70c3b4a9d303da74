"""Seconds until the command line answers, beside what its libraries take to be imported.

    python benchmarks/startup.py [--turns 5] [--record]

Every line is a process of its own; in turns, so that a machine that slows down slows all of them. Of ``predict`` on one
full-size phantom these are the seconds until its first line, until its first line of progress (what it computes in, or
how much memory it needs), and until the first segmentation. The median of all turns but the first, which warms up.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from machine import rows, show

from brats3d.phantoms import write_phantoms

PROGRESS = re.compile(rb"^\d\d:\d\d:\d\d  ")
"""How the lines of a run begin, unlike those of the bundle's start."""


def seconds_of(*command: str) -> float:
    """Until it has ended."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def lines_of(*command: str) -> list[tuple[float, bytes]]:
    """Seconds after which each line was there."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        found = [(time.perf_counter() - start, line) for line in process.stdout]
    if process.returncode:
        sys.exit(b"".join(line for _, line in found).decode())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    program = str(Path(sys.executable).with_name("brats3d"))
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder, "cases"), 1, seed=7, setting="plain", progress=False)
        for turn in range(options.turns + 1):
            output = str(Path(folder, f"out{turn}"))
            seconds["brats3d --help"].append(seconds_of(program, "--help"))
            seconds["import torch, monai"].append(seconds_of(sys.executable, "-c", "import torch, monai"))
            lines = lines_of(program, "predict", str(Path(folder, "cases")), "--output", output)
            seconds["predict: first line"].append(lines[0][0])
            seconds["predict: first line of progress"].append(next(s for s, line in lines if PROGRESS.match(line)))
            seconds["predict: first segmentation"].append(next(s for s, line in lines if b".nii.gz" in line))
    imported = statistics.median(seconds["import torch, monai"][1:])
    cells: list[list[object]] = []
    for name, each in seconds.items():
        median, spread = statistics.median(each[1:]), f"{min(each[1:]):.3g}-{max(each[1:]):.3g}"
        cells.append([name, median, spread, median - imported if name.startswith("predict") else ""])
    header = ["", "seconds, median", "range", "beyond the import"]
    show(f"Start-up, {options.turns} turns", rows(header, cells), options.record)


if __name__ == "__main__":
    main()
