"""Time to score one full-size case: Dice, HD95 and lesion-wise scores of all three regions.

    python benchmarks/scoring.py [--cases 4] [--record]

Each phantom is scored against itself, shifted by 3 voxels and with specks added. That resembles the output of a
network: large surfaces and several components.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from machine import rows, show

from brats3d.data import labels_to_regions
from brats3d.evaluation import score_case
from brats3d.labels import BRATS2020
from brats3d.phantoms import make_phantom


def seconds_to_score(seed: int, full: bool) -> float:
    """Score one case, with or without distances and lesion-wise scores."""
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
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    seconds_to_score(0, full=True)  # warm-up
    cells: list[list[object]] = []
    for title, full in (("Dice, sensitivity, specificity, volumes", False), ("with HD95 and lesions", True)):
        seconds = [seconds_to_score(seed, full) for seed in range(options.cases)]
        cells.append([title, statistics.median(seconds), max(seconds)])
    title = "Scoring, seconds per full-size case"
    show("scores", title, rows(["", "median", "slowest"], cells), options.record)


if __name__ == "__main__":
    main()
