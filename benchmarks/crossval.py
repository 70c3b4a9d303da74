"""Cross-validation of small phantoms, killed twice and finished: the ensemble and the chosen post-processing.

    python benchmarks/crossval.py [--folder DIR] [--record]

Five folds of 20 phantoms are trained. The process is killed in the second fold, and stopped with SIGTERM in the fourth;
the same command then finishes them. On phantoms of another seed, the ensemble is compared with the network of each
fold, without post-processing; and the chosen post-processing with none, with the default, and with the chosen volumes
alone, since the thresholds were chosen for single networks. The scores on the 20 phantoms themselves are nested: those
of a fold were post-processed with values that were chosen on the other folds. Run the same command with the same folder
again to resume.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import rows, show
from scipy import stats

from brats3d.evaluation import FolderScores, score_folders
from brats3d.labels import REGIONS_TO_READ
from brats3d.phantoms import write_phantoms
from brats3d.postprocessing import COMPARED, read_choice

NETWORK = ["--network_def#channels", "[8,16,32,64,128]", "--amp", "false", "--device", "cpu"]
TRAINING = [*NETWORK, "--patch_size", "[32,32,32]", "--epochs", "90", "--learning_rate", "0.002"]
TRAINING += ["--val_interval", "15", "--checkpoint_minutes", "0.5"]
CASES, SEED = 20, 31
HELD_OUT, HELD_OUT_SEED = 40, 32
INTERRUPTIONS = {1: signal.SIGKILL, 3: signal.SIGTERM}
"""Fold in which the process is interrupted -> signal."""


OPTIONS = {
    "none": ["--postprocess", "false", "--threshold", "0.5"],
    "default": [
        *("--threshold", "0.5", "--region_rules#min_wt_ml", "0.1", "--region_rules#min_tc_ml", "0.1"),
        *("--region_rules#min_et_ml", "0.1", "--region_rules#min_et_total_ml", "0", "--region_rules#max_hole_ml", "0"),
    ],
    "volumes": ["--threshold", "0.5"],  # the chosen ones
    "chosen": [],
}
"""Post-processing -> options of ``brats3d predict``."""


def brats3d(*arguments: object) -> list[str]:
    """Return the command line of a subcommand."""
    return [sys.executable, "-m", "brats3d", *map(str, arguments)]


def cross_validate(cases: Path, output: Path) -> None:
    """Train and evaluate every fold, with the interruptions.

    Raises:
        RuntimeError: if the last call fails.
    """
    command = brats3d("crossval", cases, "--output", output, *TRAINING)
    for fold, signum in INTERRUPTIONS.items():
        state, mark = output / f"fold{fold}" / "checkpoints" / "last.pt", output / f"{signum.name}.txt"
        if mark.is_file():
            continue
        process = subprocess.Popen(command)
        while not state.is_file() and process.poll() is None:
            time.sleep(0.5)
        time.sleep(5)
        process.send_signal(signum)
        mark.write_text(f"exit code {process.wait()} in fold {fold}\n")
        print(mark.read_text(), flush=True)
    if code := subprocess.run(command).returncode:
        raise RuntimeError(f"brats3d crossval has ended with {code}")


def predict_and_score(cases: Path, output: Path, checkpoint: Path, *options: str) -> FolderScores:
    """Segment cases and score them."""
    command = brats3d("predict", cases, "--output", output, "--checkpoint", checkpoint, *NETWORK, *options)
    subprocess.run(command, check=True)
    return score_folders(output, cases)


def means(scores: FolderScores, measure: str = "dice") -> list[float]:
    """Return the mean of a measure over cases: of WT, TC and ET."""
    return by_case(scores, measure).mean(axis=1).tolist()


def by_case(scores: FolderScores, measure: str) -> np.ndarray:
    """Return a measure, float (regions in the order WT, TC, ET, cases)."""
    of_region = [[row.value(measure) for row in scores.rows if row.region == region] for region in REGIONS_TO_READ]
    return np.array(of_region, float)


def gains(scores: FolderScores, others: FolderScores) -> list[str]:
    """Return the mean difference of the same cases and its standard error: of Dice, then of lesion-wise Dice."""
    differences = [by_case(scores, each) - by_case(others, each) for each in ("dice", "lesion_dice")]
    return [f"{values.mean():+.3f} ± {stats.sem(values):.3f}" for values in np.concatenate(differences)]


def ensemble_table(held_out: Path, run: Path, folder: Path) -> list[str]:
    """Return the table of the networks of the folds and of their ensemble."""
    checkpoints = {f"fold {k}": run / f"fold{k}" / "checkpoints" / "best.pt" for k in range(5)} | {"ensemble": run}
    cells: list[list[object]] = []
    for name, checkpoint in checkpoints.items():
        scores = predict_and_score(held_out, folder / name.replace(" ", ""), checkpoint, *OPTIONS["none"])
        dice = means(scores)
        cells.append([name, *(f"{value:.4f}" for value in (statistics.fmean(dice), *dice))])
    return rows(["network", "mean Dice", *REGIONS_TO_READ], cells)


def postprocessing_table(held_out: Path, run: Path, folder: Path) -> list[str]:
    """Return the table of the post-processing: nested on the cases of the folds, and on others with the ensemble."""
    choice = read_choice(run / "postprocessing.json")
    cells: list[list[object]] = []
    for name in COMPARED:
        of_region = [choice.scores[name][region] for region in REGIONS_TO_READ]
        values = [*(each.dice for each in of_region), *(each.lesion_dice for each in of_region)]
        cells.append([name, f"{choice.cases}, out of fold", *(f"{value:.4f}" for value in values)])
    scores_of = {
        name: predict_and_score(held_out, folder / f"ensemble_{name}", run, *options)
        for name, options in OPTIONS.items()
    }
    for name, scores in scores_of.items():
        values = [*means(scores), *means(scores, "lesion_dice")]
        cells.append([name, f"{scores.cases}, held out", *(f"{value:.4f}" for value in values)])
    chosen = scores_of["chosen"]
    cells += [[f"chosen - {name}", "held out", *gains(chosen, scores_of[name])] for name in ("default", "volumes")]
    header = [*REGIONS_TO_READ, *(f"lesion-wise {region}" for region in REGIONS_TO_READ)]
    return [*rows(["post-processing", "cases", *header], cells), "", f"Chosen: {choice.values.to_json()}."]


def measure(folder: Path, record: bool) -> None:
    """Run everything in a folder and show the tables."""
    for name, count, seed in (("cases", CASES, SEED), ("held_out", HELD_OUT, HELD_OUT_SEED)):
        if not (folder / name).is_dir():
            write_phantoms(folder / name, count, seed=seed, size="small", progress=False)
    cross_validate(folder / "cases", folder / "run")
    table = ensemble_table(folder / "held_out", folder / "run", folder)
    ends = "; ".join(sorted(mark.read_text().strip() for mark in (folder / "run").glob("SIG*.txt")))
    note = ["", f"The interrupted calls: {ends}. Knobs: {' '.join(TRAINING)}"]
    show("crossval", f"Ensemble of five folds of {CASES} phantoms, on {HELD_OUT} others", table + note, record)
    table = postprocessing_table(folder / "held_out", folder / "run", folder)
    show("crossval", f"Post-processing chosen on {CASES} phantoms", table, record)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="keep everything in this folder; default: a temporary one")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options.folder, options.record)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), options.record)


if __name__ == "__main__":
    main()
