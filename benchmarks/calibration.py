"""Dice of each region if a constant is added to its logits, on the cases of ``selection.py``.

    python benchmarks/calibration.py [WEIGHTS.pt] [--sets second varied] [--cache DIR] [--record]

Adding a constant to the logits of a region moves the threshold of its probability: +2 on the logits is a threshold of
0.12 instead of 0.5. Dice is the mean over the cases that have the region; false ET is the mean volume predicted in the
others, before post-processing. A constant is worth adding if it gains on one set and loses nothing on the other.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from machine import rows, show
from selection import CACHE, SETS, load_case, logits_of

from brats3d.bundle import installed_bundle
from brats3d.data import labels_to_regions
from brats3d.labels import BRATS2020, REGIONS, REGIONS_TO_READ

ADDED = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)


def dice(pred: torch.Tensor, ref: torch.Tensor) -> float:
    """Return the Dice of two masks, bool, of which ``ref`` is not empty."""
    return (2 * (pred & ref).sum() / (pred.sum() + ref.sum())).item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", nargs="?", type=Path, default=installed_bundle() / "models" / "model.pt")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["second", "varied"])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    logits_from = logits_of(options.weights)
    cells: list[list[object]] = []
    for name in options.sets:
        scores: dict[str, list[list[float]]] = {region: [] for region in (*REGIONS_TO_READ, "false ET, ml")}
        for number in range(SETS[name]):
            image, label = load_case(name, number, options.cache)
            logits, refs = logits_from(image), labels_to_regions(label, BRATS2020).bool()
            for region, values, ref in zip(REGIONS, logits, refs, strict=True):
                if ref.any():
                    scores[region].append([dice(values > -added, ref) for added in ADDED])
                elif region == "ET":
                    scores["false ET, ml"].append([(values > -added).sum().item() / 1000 for added in ADDED])
        for what, values in scores.items():
            cells.append([name, what, *(statistics.fmean(each) for each in zip(*values, strict=True))])
    header = ["set", "mean", *(f"{added:+g}" for added in ADDED)]
    show(
        "weights",
        f"Calibration of {options.weights.name}: constants on the logits",
        rows(header, cells),
        options.record,
    )


if __name__ == "__main__":
    main()
