"""Steps to a given Dice, from the weights that ship and from random ones, on the phantoms of another scanner.

    python benchmarks/finetuning.py [--cases 15] [--epochs 16] [--seed 11] [--modalities t1 t2 flair]

Both trainings are ``train.yaml``'s, on the same cases, in the same order, one after the other; only ``checkpoint``
differs. A fifth of the cases validates, every other epoch. ``--record`` appends the table to RESULTS.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import rows, show

from brats3d.bundle import installed_bundle
from brats3d.labels import MODALITIES
from brats3d.phantom_sets import write_phantoms
from brats3d.pictures import read_curves

GOALS = (0.5, 0.6, 0.7, 0.8)
TAGS = {"WT": "val_dice_wt", "TC": "val_dice_tc", "ET": "val_dice_et", "mean": "val_mean_dice"}
INTERVAL = 2
"""Epochs from one validation to the next."""


def train(
    cases: Path, output: Path, options: argparse.Namespace, checkpoint: str | None
) -> dict[str, dict[int, float]]:
    """One training; region -> step -> Dice."""
    bundle = installed_bundle()
    command = [sys.executable, "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", str(bundle / "configs" / "train.yaml"), "--bundle_root", str(bundle)]
    command += ["--dataset_dir", str(cases), "--output_dir", str(output), "--modalities", str(options.modalities)]
    command += ["--epochs", str(options.epochs), "--val_interval", str(INTERVAL), "--batch_size", "1"]
    if checkpoint:
        command += ["--checkpoint", checkpoint]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    curves = read_curves(output)
    return {name: dict(curves[tag]) for name, tag in TAGS.items()}


def first_step(curve: dict[int, float], goal: float) -> str:
    """The first validated step at which the goal is reached."""
    steps = [step for step, dice in sorted(curve.items()) if dice >= goal]
    return str(steps[0]) if steps else f"more than {max(curve)}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--setting", default="new-scanner")
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=list(MODALITIES))
    parser.add_argument("--checkpoint", default=str(installed_bundle() / "models" / "model.pt"))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_phantoms(root / "cases", options.cases, seed=options.seed, setting=options.setting)
        tuned = train(root / "cases", root / "tuned", options, options.checkpoint)
        fresh = train(root / "cases", root / "fresh", options, None)
    what = f"{options.cases} {options.setting} phantoms of seed {options.seed}, {' '.join(options.modalities)}"
    steps = [
        [name, goal, first_step(tuned[name], goal), first_step(fresh[name], goal)] for name in TAGS for goal in GOALS
    ]
    curve = [
        [step, *(f"{curves[name][step]:.3f}" for curves in (tuned, fresh) for name in TAGS)]
        for step in sorted(tuned["mean"])
    ]
    tables = {
        "Fine-tuning, steps to a Dice": rows(["region", "Dice", "from the weights", "from random"], steps),
        "Fine-tuning, Dice by step": rows(
            ["step", *(f"{name}, {start}" for start in ("weights", "random") for name in TAGS)], curve
        ),
    }
    for title, table in tables.items():
        show(f"{title}: {what}", table, options.record)


if __name__ == "__main__":
    main()
