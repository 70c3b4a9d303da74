"""Fit the quality model of weights on phantoms, and judge it on others: predicted Dice, volume intervals, calibration.

    python benchmarks/quality.py [WEIGHTS.pt] [--cache DIR] [--write-card] [--record]

The model is fitted on four sets, and judged on 200 other phantoms of ``new-scanner``, with the default post-processing.
A case takes about five seconds on one core, and is described once in ``--cache``. ``--write-card`` writes the model
into the card of the weights.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
from machine import rows, show
from selection import FIRST_SEED, logits_of, make_case
from tqdm import tqdm

from brats3d.bundle import default_postprocessing, installed_bundle
from brats3d.data import labels_to_regions
from brats3d.labels import BRATS2020, REGIONS, REGIONS_TO_READ
from brats3d.postprocessing import apply_region_rules
from brats3d.quality import (
    REVIEW_DICE,
    Calibration,
    FittingCase,
    QualityModel,
    calibration_error,
    describe_case,
    fit_quality,
)

FITTED = {"new-scanner": (920_000, 141), "wide": (930_000, 42), "varied": (940_000, 21), "second": (950_000, 21)}
"""Set -> first seed and number of cases of the fit."""
JUDGED = ("new-scanner", 910_000, 200)
CACHE = Path(tempfile.gettempdir()) / "brats3d-quality"


class Describer:
    """Describes phantoms, each once. The weights must be the same as when the cache was made."""

    def __init__(self, weights: Path, cache: Path) -> None:
        self.weights, self.cache = weights, cache
        self._logits = None

    def __call__(self, setting: str, seed: int) -> FittingCase:
        """Return the description of the phantom of a seed."""
        file = self.cache / setting / f"{seed}.npz"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            case = self._describe(setting, seed)
            np.savez(file, **{each.name: getattr(case, each.name) for each in fields(case)})
        with np.load(file) as content:
            return FittingCase(**{name: str(value) if name == "group" else value for name, value in content.items()})

    def _describe(self, setting: str, seed: int) -> FittingCase:
        self._logits = self._logits or logits_of(self.weights)
        case = make_case(setting, seed - FIRST_SEED)
        probabilities = self._logits(case["image"].float()).sigmoid().numpy()
        regions = apply_region_rules(probabilities > 0.5, default_postprocessing().rules)
        reference = labels_to_regions(case["label"], BRATS2020).numpy()
        return describe_case(f"{setting}/{seed}", probabilities, regions, reference, (1, 1, 1))


def judge(model: QualityModel, cases: list[FittingCase], mean_dice: np.ndarray) -> list[list[object]]:
    """Return a line for each region; ``mean_dice`` is that of the fit, in the order of ``labels.REGIONS``."""
    found, lines = [model.predict_features(case.features, case.volume_ml) for case in cases], []
    for region in REGIONS_TO_READ:
        i = REGIONS.index(region)
        dice, volumes, references = (
            np.array([getattr(c, name)[i] for c in cases]) for name in ("dice", "volume_ml", "reference_ml")
        )
        predicted = np.array([each[region].predicted_dice for each in found])
        low, high = np.array([each[region].volume_interval_ml for each in found]).T
        border = np.sum([case.border[i] for case in cases], axis=0)
        lines.append([
            region,
            f"{dice.mean():.3f}",
            f"{np.abs(predicted - dice).mean():.3f}",
            f"{np.abs(mean_dice[i] - dice).mean():.3f}",
            f"{np.corrcoef(predicted, dice)[0, 1]:.2f}",
            f"{np.mean((low <= references) & (references <= high)):.3f}",
            f"{np.median((high - low)[volumes > 0] / volumes[volumes > 0]):.2f}",
            f"{calibration_error(border, Calibration()):.3f}",
            f"{calibration_error(border, model.calibration[region]):.3f}",
        ])  # fmt: skip
    return lines


def write_card(weights: Path, quality: dict) -> None:
    """Write the model into the card, a list of numbers on one line."""
    path = weights.with_suffix(".json")
    text = json.dumps({**json.loads(path.read_text()), "quality": quality}, indent=2)
    path.write_text(re.sub(r"\[[-\d.,e\s]+\]", lambda match: re.sub(r"\s+", " ", match[0]), text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    shipped = installed_bundle() / "models" / "model.pt"
    parser.add_argument("weights", nargs="?", type=Path, default=shipped, metavar="WEIGHTS.pt")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--write-card", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    describe = Describer(options.weights, options.cache)
    seeds = [(name, first + number) for name, (first, count) in FITTED.items() for number in range(count)]
    cases = [describe(*each) for each in tqdm(seeds, disable=None)]
    quality = fit_quality(cases)
    if options.write_card:
        write_card(options.weights, quality)
    setting, first, count = JUDGED
    judged = [describe(setting, first + number) for number in tqdm(range(count), disable=None)]
    model = QualityModel.from_json(quality, "the fit")
    lines = judge(model, judged, np.mean([case.dice for case in cases], axis=0))
    header = [
        *("region", "mean Dice", "mean error of predicted Dice", "of predicting the mean", "correlation"),
        *("intervals with the volume", "median width / predicted volume", "ECE near the border", "calibrated"),
    ]
    wt = [(each.dice[1], model.predict_features(each.features, each.volume_ml)["WT"].predicted_dice) for each in judged]
    poor = [predicted < REVIEW_DICE for dice, predicted in wt if dice < 0.6]
    flagged = sum(predicted < REVIEW_DICE for _, predicted in wt)
    table = rows(header, lines)
    table += ["", f"{flagged} are for review, among them {sum(poor)} of the {len(poor)} with a Dice of WT below 0.6."]
    show(
        "quality",
        f"Quality: fitted on {len(cases)} phantoms, {count} others of {setting}",
        table,
        options.record,
        "cpu",
    )


if __name__ == "__main__":
    main()
