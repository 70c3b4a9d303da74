"""Seconds to score one full-size case: Dice, HD95 and lesion-wise scores of all three regions.

    python benchmarks/scoring.py [--cases 4]

Each phantom is scored against itself moved by 3 voxels with specks added, which is about what a network leaves: large
surfaces, several components.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from machine import record, rows

from brats3d.data import labels_to_regions
from brats3d.evaluation import score_case
from brats3d.labels import BRATS2020
from brats3d.phantoms import make_phantom


def seconds_to_score(seed: int, full: bool) -> float:
    """Of one case, with or without what takes surfaces and components."""
    ref = labels_to_regions(torch.from_numpy(make_phantom(seed).label)[None], BRATS2020)
    pred = ref.roll((3, 2, 1), (1, 2, 3))
    specks = torch.rand(ref.shape[1:], generator=torch.Generator().manual_seed(seed)) > 0.999998
    pred |= specks
    start = time.perf_counter()
    if full:
        score_case(pred, ref, "case", (1, 1, 1))
    else:
        score_case(pred, ref, "case", (1, 1, 1), rules=None)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=4)
    options = parser.parse_args()
    seconds_to_score(0, full=True)  # imports
    cells: list[list[object]] = []
    for title, full in (("Dice, sensitivity, specificity, volumes", False), ("with HD95 and lesions", True)):
        seconds = [seconds_to_score(seed, full) for seed in range(options.cases)]
        cells.append([title, statistics.median(seconds), max(seconds)])
    record("Scoring, seconds a full-size case", rows(["", "median", "slowest"], cells))


if __name__ == "__main__":
    main()
