"""Dice and time of the shipped weights without and with test-time augmentation, for several sets of flips.

    python benchmarks/tta.py [WEIGHTS.pt] [--cases 10] [--sets second varied new-scanner] [--record]

Cases are those of ``selection.py``. Each is segmented once for each of the eight flips; a choice is the mean of the
probabilities of some of them. Dice is the mean over cases, without post-processing; the gain is the mean over cases of
the mean Dice of the regions, minus that without flips, ± its standard error. Seconds are those of the network.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import rows, show
from selection import SETS, load_case, logits_of, score_prediction

from brats3d.bundle import installed_bundle
from brats3d.labels import REGIONS_TO_READ

AXES = (1, 2, 3)
"""Left-right, front-back and up-down of an image (4, X, Y, Z) in LPS."""
ALL = [flip for count in range(4) for flip in itertools.combinations(AXES, count)]
CHOICES: dict[str, Sequence[tuple[int, ...]]] = {
    "none": ALL[:1],
    "left-right": [(), (1,)],
    "the three axes": ALL[:4],
    "all": ALL,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    shipped = installed_bundle() / "models" / "model.pt"
    parser.add_argument("weights", nargs="?", type=Path, default=shipped, metavar="WEIGHTS.pt")
    parser.add_argument("--cases", type=int, default=10, help="of each set")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    logits, seconds = logits_of(options.weights), []
    dice: dict[str, dict[str, list[list[float]]]] = {name: {s: [] for s in options.sets} for name in CHOICES}
    for set_name, number in itertools.product(options.sets, range(options.cases)):
        image, label = load_case(set_name, number)
        passes = {}
        for flip in ALL:
            start = time.perf_counter()
            passes[flip] = logits(image.flip(flip)).sigmoid().flip(flip)
            seconds.append(time.perf_counter() - start)
        for name, flips in CHOICES.items():
            mean = torch.stack([passes[flip] for flip in flips]).mean(0)
            scored = score_prediction(lambda _, mean=mean: mean > 0.5, image, label, set_name)
            by_region = {row.region: row.dice for row in scored}
            dice[name][set_name].append([by_region[region] for region in REGIONS_TO_READ])
    cells: list[list[object]] = []
    for set_name in [*options.sets, "all sets"]:
        sets = options.sets if set_name == "all sets" else [set_name]
        before = [case for s in sets for case in dice["none"][s]]
        for name, flips in CHOICES.items():
            cases = [case for s in sets for case in dice[name][s]]
            gains = [statistics.fmean(b) - statistics.fmean(a) for a, b in zip(before, cases, strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            means = [f"{statistics.fmean(values):.3f}" for values in zip(*cases, strict=True)]
            gain = "" if name == "none" else f"{statistics.fmean(gains):+.4f} ± {error:.4f}"
            cells.append([set_name, name, *means, gain, len(flips) * statistics.median(seconds)])
    title = f"Test-time augmentation: {options.cases} cases of each set, {options.weights.name}"
    show("inference", title, rows(["set", "flips", *REGIONS_TO_READ, "gain", "seconds"], cells), options.record, "cpu")


if __name__ == "__main__":
    main()
