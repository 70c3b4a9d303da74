"""Scores with various values of ``region_rules``, the post-processing of ``inference.yaml``, and with chosen ones.

    python benchmarks/postprocessing.py [--choose] [--set second] [--cases 24] [--checkpoint FILE] [--cache DIR]
        [--record]

The sets are those of ``selection.py``. With ``--choose``, the cases are dealt to four folds, the values are chosen as
``brats3d crossval`` does, and each fold is scored with those of the other three; no fold was trained on, since the
weights have seen no such case.

Without ``--choose``, each row is one set of values. The first row has no rules. "False" counts the predicted components
that touch no lesion, and "missed" the lesions that no component touches, by the rules of BraTS 2023, summed over the
cases; "ms" is the median CPU time of the rules for a case.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import nibabel as nib
import numpy as np
from machine import rows, show
from selection import CACHE, SETS, load_case, logits_of, predictor_of

from brats3d.bundle import default_postprocessing, installed_bundle
from brats3d.data import labels_to_regions
from brats3d.evaluation import RULES, box_with_margin, score_lesions
from brats3d.labels import BRATS2020, REGIONS, REGIONS_TO_READ
from brats3d.postprocessing import (
    OutOfFoldCase,
    PostprocessingChoice,
    PostprocessingValues,
    RegionRules,
    apply_region_rules,
    choose_postprocessing,
)

NAMES = [field.name for field in fields(RegionRules)]
SIZES = (0.02, 0.05, 0.1, 0.2, 0.5)
HOLES = (0.05, 1.0)
FOLDS = 4


def grid() -> list[RegionRules]:
    """Return no rules, each rule alone, one volume for all components, and the rules of ``inference.yaml``."""
    alone = [RegionRules(**{name: ml}) for name in NAMES for ml in (HOLES if name == "max_hole_ml" else SIZES)]
    together = [RegionRules(ml, ml, ml) for ml in SIZES]
    return list(dict.fromkeys([RegionRules(), *alone, *together, default_postprocessing().rules]))


@dataclass(frozen=True)
class Score:
    """The scores of a region of a case."""

    dice: float
    lesion_dice: float
    spurious: int
    missed: int
    false_ml: float


def score(pred: np.ndarray, ref: np.ndarray) -> Score:
    """Score a region, bool (H, W, D) with voxels of 1 mm³."""
    lesions = score_lesions(pred, ref, (1, 1, 1), RULES["brats2023"], distances=False)
    total = pred.sum() + ref.sum()
    dice = 2 * (pred & ref).sum() / total if total else 1.0
    false_ml = 0.0 if ref.any() else pred.sum() / 1000
    return Score(dice, lesions.dice, lesions.spurious, lesions.missed, false_ml)


def measure(options: argparse.Namespace) -> list[list[object]]:
    """Return one line of the table for each set of rules."""
    predict, every = predictor_of(options.checkpoint), grid()
    scores: dict[tuple[RegionRules, str], list[Score]] = defaultdict(list)
    seconds: dict[RegionRules, list[float]] = defaultdict(list)
    for number in range(options.cases):
        image, label = load_case(options.set, number, options.cache)
        raw = predict(image)
        ref = labels_to_regions(label, BRATS2020).bool()
        box = (slice(None), *box_with_margin((raw | ref).any(0).numpy(), 4))
        known: dict[tuple[str, bytes], Score] = {}  # most rules leave most regions as they are
        for rules in every:
            start = time.process_time()
            pred = apply_region_rules(raw, rules)
            seconds[rules].append(time.process_time() - start)
            for region in REGIONS_TO_READ:
                channel = REGIONS.index(region)
                mask = pred[box][channel].numpy()
                key = region, mask.tobytes()
                if key not in known:
                    known[key] = score(mask, ref[box][channel].numpy())
                scores[rules, region].append(known[key])
    cells = {rules: _cells([scores[rules, region] for region in REGIONS_TO_READ]) for rules in every}
    return [[*astuple(r), *cells[r], round(1000 * statistics.median(seconds[r]))] for r in every]


def _cells(regions: list[list[Score]]) -> list[str]:
    """Return mean Dice, mean lesion-wise Dice, false and missed lesions of each region, and ml of false ET."""
    dice = [f"{statistics.fmean(score.dice for score in each):.3f}" for each in regions]
    lesion_dice = [f"{statistics.fmean(score.lesion_dice for score in each):.3f}" for each in regions]
    false = " ".join(str(sum(score.spurious for score in each)) for each in regions)
    missed = " ".join(str(sum(score.missed for score in each)) for each in regions)
    return [*dice, *lesion_dice, false, missed, f"{sum(score.false_ml for score in regions[-1]):.2f}"]


def choose(options: argparse.Namespace, folder: Path) -> tuple[PostprocessingChoice, float]:
    """Choose values on probabilities that are written to a folder; return the choice and the CPU seconds per case."""
    logits, cases = logits_of(options.checkpoint), []
    for number in range(options.cases):
        image, label = load_case(options.set, number, options.cache)
        files = folder / f"{number}.npz", folder / f"{number}.nii.gz"
        np.savez_compressed(files[0], probabilities=logits(image).sigmoid().half().numpy())
        nib.save(nib.Nifti1Image(label[0].numpy(), np.eye(4)), files[1])
        cases.append(OutOfFoldCase(str(number), number % FOLDS, *files, BRATS2020.name))
    start = time.process_time()
    choice = choose_postprocessing(cases, default_postprocessing(), workers=1)
    return choice, (time.process_time() - start) / len(cases)


def describe_choice(choice: PostprocessingChoice, seconds: float) -> list[str]:
    """Format the scores before and after, and the values that differ from the default."""
    cells: list[list[object]] = []
    for name, scores in choice.scores.items():
        measures = [[f"{getattr(scores[r], m):.3f}" for r in REGIONS_TO_READ] for m in ("dice", "lesion_dice")]
        cells.append([name, *measures[0], *measures[1]])
    header = ["post-processing", *REGIONS_TO_READ, *(f"lesion-wise {region}" for region in REGIONS_TO_READ)]
    lines = [f"- chosen on all cases: {_changes(choice.values, choice.default)}"]
    lines += [
        f"- chosen without fold {fold}: {_changes(values, choice.default)}" for fold, values in choice.by_fold.items()
    ]
    return [*rows(header, cells), "", *lines, f"- {seconds:.1f} s of CPU time for each case"]


def _changes(values: PostprocessingValues, default: PostprocessingValues) -> str:
    before, after = default.by_name(), values.by_name()
    return ", ".join(f"{name} {after[name]:g}" for name in after if after[name] != before[name]) or "the default"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", choices=SETS, default="second")
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--checkpoint", type=Path, default=installed_bundle() / "models" / "model.pt")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.choose:
        with tempfile.TemporaryDirectory() as folder:
            table = describe_choice(*choose(options, Path(folder)))
        title = f"Chosen on {FOLDS} folds: {options.cases} cases of {options.set}"
        show("postprocessing", title, table, options.record)
        return
    cells = measure(options)
    header = [*NAMES, *REGIONS_TO_READ, *(f"lesion-wise {region}" for region in REGIONS_TO_READ)]
    header += ["false WT TC ET", "missed WT TC ET", "false ET, ml", "ms"]
    show("postprocessing", f"Region rules: {options.cases} cases of {options.set}", rows(header, cells), options.record)


if __name__ == "__main__":
    main()
