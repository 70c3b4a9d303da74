"""Seconds to make and to write a full-size phantom.

python benchmarks/phantoms.py [--cases 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch
from machine import record, rows

from brats3d.phantom import make_phantom
from brats3d.phantom_sets import write_phantoms


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    start = time.perf_counter()
    make_phantom(0, device=options.device)
    first = time.perf_counter() - start
    seconds = []
    for seed in range(1, options.cases + 1):
        start = time.perf_counter()
        make_phantom(seed, device=options.device)
        seconds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_phantoms(folder, options.cases, device=options.device, progress=False)
        both = (time.perf_counter() - start) / options.cases
    header = ["first case, with the atlas", "generate, median", "generate, slowest", "generate and write, mean"]
    record(
        "Phantoms, seconds a full-size case", rows(header, [[first, statistics.median(seconds), max(seconds), both]])
    )


if __name__ == "__main__":
    main()
