"""Steps to reach a given Dice from the shipped weights and from random weights, on phantoms of another scanner.

    python benchmarks/finetuning.py [--cases 15] [--epochs 24] [--patch 96] [--seed 11] [--modalities t1 t2 flair]
        [--record]

Both trainings run ``train.yaml`` on the same cases in the same order; only ``checkpoint`` differs. A fifth of the cases
is for validation every few epochs; step 0 is ``evaluate.yaml`` with the initial weights.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import rows, show

from brats3d.bundle import command_line, installed_bundle
from brats3d.labels import MODALITIES
from brats3d.phantoms import write_phantoms
from brats3d.report import read_curves

GOALS = (0.3, 0.4, 0.5, 0.6, 0.7)
TAGS = {"WT": "val_dice_wt", "TC": "val_dice_tc", "ET": "val_dice_et", "mean": "val_mean_dice"}
INTERVAL = 4
"""Epochs between validations."""


def run(workflow: str, cases: Path, output: Path, options: argparse.Namespace, checkpoint: str | None) -> None:
    """Run a workflow by MONAI's command."""
    ids = {
        "dataset_dir": cases,
        "output_dir": output,
        "modalities": options.modalities,
        "patch_size": [options.patch] * 3,
        "epochs": options.epochs,
        "val_interval": INTERVAL,
        "batch_size": 1,
    }
    line = command_line(workflow, ids | ({"checkpoint": checkpoint} if checkpoint else {}))
    done = subprocess.run([sys.executable, *shlex.split(line)[1:]], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def train(
    cases: Path, output: Path, options: argparse.Namespace, checkpoint: str | None
) -> dict[str, dict[int, float]]:
    """Train once; return region -> step -> Dice."""
    run("train", cases, output, options, checkpoint)
    curves = read_curves(output)
    dice = {name: dict(curves[tag]) for name, tag in TAGS.items()}
    if checkpoint:
        run("evaluate", cases, output / "before", options, checkpoint)
        before = json.loads((output / "before" / "metrics.json").read_text())
        for name in TAGS:
            dice[name][0] = before["mean_dice"] if name == "mean" else before["summary"][name]["dice"]
    return dice


def first_step(curve: dict[int, float], goal: float) -> str:
    """Return the first validated step that reaches the goal."""
    steps = [step for step, dice in sorted(curve.items()) if dice >= goal]
    return str(steps[0]) if steps else f"more than {max(curve)}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--patch", type=int, default=96)
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
    what = (
        f"{options.cases} {options.setting} phantoms of seed {options.seed}, {' '.join(options.modalities)}, "
        f"patches of {options.patch}³"
    )
    steps = [
        [name, goal, first_step(tuned[name], goal), first_step(fresh[name], goal)] for name in TAGS for goal in GOALS
    ]
    curve = [
        [
            step,
            *(
                f"{curves[name][step]:.3f}" if step in curves[name] else ""
                for curves in (tuned, fresh)
                for name in TAGS
            ),
        ]
        for step in sorted(tuned["mean"])
    ]
    tables = {
        "Fine-tuning, steps to a Dice": rows(["region", "Dice", "from the shipped weights", "from random"], steps),
        "Fine-tuning, Dice by step": rows(
            ["step", *(f"{name}, {start}" for start in ("weights", "random") for name in TAGS)], curve
        ),
    }
    for title, table in tables.items():
        show("weights", f"{title}: {what}", table, options.record)


if __name__ == "__main__":
    main()
