"""Time until the command line responds, compared with importing its libraries.

    python benchmarks/startup.py [--turns 5] [--record]

Every row is a separate process. They run in alternation, so that other load affects all of them. For ``predict`` on one
full-size phantom these are the seconds until its first line, until its first log message, and until the first
segmentation. The first turn is a warm-up and not counted.
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

LOG_MESSAGE = re.compile(rb"^\d\d:\d\d:\d\d  ")
"""The beginning of a log message."""


def seconds_of(*command: str) -> float:
    """Run a command and return its duration."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def lines_of(*command: str) -> list[tuple[float, bytes]]:
    """Run a command and return each line with the time at which it appeared."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        lines = [(time.perf_counter() - start, line) for line in process.stdout]
    if process.returncode:
        sys.exit(b"".join(line for _, line in lines).decode())
    return lines


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
            seconds["predict: first log message"].append(next(s for s, line in lines if LOG_MESSAGE.match(line)))
            seconds["predict: first segmentation"].append(next(s for s, line in lines if b".nii.gz" in line))
    imported = statistics.median(seconds["import torch, monai"][1:])
    cells: list[list[object]] = []
    for name, each in seconds.items():
        median, spread = statistics.median(each[1:]), f"{min(each[1:]):.3g}-{max(each[1:]):.3g}"
        cells.append([name, median, spread, median - imported if name.startswith("predict") else ""])
    header = ["", "seconds, median", "range", "minus the import"]
    show("start_up", f"Start-up, {options.turns} turns", rows(header, cells), options.record)


if __name__ == "__main__":
    main()
