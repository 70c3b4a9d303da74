"""Time to generate and to write a full-size phantom, for each setting.

python benchmarks/phantoms.py [--cases 5] [--record]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch
from machine import rows, show

from brats3d.phantoms import SETTINGS, make_phantom, write_phantoms


def seconds_to_make(seed: int, device: str, setting: str) -> float:
    """Generate a case as arrays in memory."""
    start = time.perf_counter()
    make_phantom(seed, device=device, setting=setting)
    return time.perf_counter() - start


def seconds_to_write(cases: int, device: str, setting: str) -> float:
    """Generate and write a data set; return the mean per case."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_phantoms(folder, cases, device=device, setting=setting, progress=False)
        return (time.perf_counter() - start) / cases


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    first = seconds_to_make(0, options.device, "plain")
    cells: list[list[object]] = [["generate, median"], ["generate, slowest"], ["generate and write, mean"]]
    for setting in SETTINGS:
        seconds = [seconds_to_make(seed, options.device, setting) for seed in range(1, options.cases + 1)]
        both = seconds_to_write(options.cases, options.device, setting)
        for line, value in zip(cells, (statistics.median(seconds), max(seconds), both), strict=True):
            line.append(value)
    table = [*rows(["", *SETTINGS], cells), "", f"First case, including the atlas: {first:.3g} s."]
    title = f"Phantoms, seconds per full-size case on {options.device}"
    show("phantoms", title, table, options.record, options.device)


if __name__ == "__main__":
    main()
