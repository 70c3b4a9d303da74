"""Trainings killed with SIGKILL and resumed, compared with an uninterrupted one.

    python benchmarks/killing.py [--runs 100] [--seed 0] [--record]

Each run is the bundle's training on tiny phantoms in a separate process. It is killed at a random moment, while it
saves its state, or twice at random moments, and then resumed to the end. Its outcome must be that of an uninterrupted
run: last.pt (weights, optimizer and the rest), best.pt and its card, and metrics.json must be bit-identical, and every
scalar must occur once in TensorBoard (for times and memory only the steps are compared).

Exit code: 0 if all are identical.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

WAYS = ("at a random moment", "while saving", "twice at random moments")
NOT_REPRODUCIBLE = ("patches_per_second", "memory_gib")
MODULES = [
    "torch",
    "monai.bundle",
    "monai.engines",
    "brats3d.training.run",
    "brats3d.training.tensorboard",
    "brats3d.phantoms.phantom_datasets",
]
SETTINGS: dict[str, Any] = {
    "patch_size": [32, 32, 32],
    "window": [48, 48, 48],
    "network_def#channels": [4, 8, 8, 8, 8],
    "network_def#dropout": 0.1,
    "amp": False,
    "device": "cpu",
    "epochs": 4,
    "batch_size": 1,
    "val_interval": 1,
    "checkpoint_minutes": 0.0005,  # after every step or two
}


def train(cases: str, output_dir: str) -> None:
    """Run the training; called in a separate process."""
    import torch

    from brats3d.bundle import run_workflow

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        run_workflow("train", {**SETTINGS, "dataset_dir": cases, "output_dir": output_dir})


class Trainings:
    """Starts trainings on the same cases, from a process that has imported their modules.

    Args:
        cases: folder of the cases.
    """

    def __init__(self, cases: Path) -> None:
        self.cases = cases
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(MODULES)

    def start(self, output_dir: Path) -> multiprocessing.context.ForkServerProcess:
        """Start a training process."""
        process = self.context.Process(target=train, args=(str(self.cases), str(output_dir)))
        process.start()
        return process

    def finish(self, output_dir: Path) -> float:
        """Train to the end and return the seconds.

        Raises:
            RuntimeError: if the training fails.
        """
        started = time.monotonic()
        process = self.start(output_dir)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{output_dir}: the training ended with {process.exitcode}")
        return time.monotonic() - started

    def kill(self, output_dir: Path, due: Callable[[float], bool]) -> bool:
        """Start a training and kill it when ``due(seconds)`` is true. Return False if it ended before."""
        process, started = self.start(output_dir), time.monotonic()
        while process.is_alive() and not due(time.monotonic() - started):
            time.sleep(0.0005)
        process.kill()
        process.join()
        return process.exitcode != 0


def is_saving(output_dir: Path, least: float) -> bool:
    """Return True if ``least`` bytes of a state have been written and not yet renamed into place."""
    try:
        return any(f.stat().st_size >= least for f in (output_dir / "checkpoints").glob(".last.pt.*.tmp"))
    except FileNotFoundError:  # renamed meanwhile
        return False


def kill_once(trainings: Trainings, run: Path, way: str, draw: random.Random, seconds: float, size: int) -> bool:
    """Start the training and kill it. Return False if it ended before.

    Args:
        trainings: starts the training.
        run: its output folder.
        way: one of :data:`WAYS`.
        draw: draws the moment.
        seconds: duration of the whole training.
        size: bytes of the saved state.
    """
    moment, least = draw.uniform(0, seconds), draw.uniform(0, size)

    def due(passed: float) -> bool:
        return passed > moment / 2 and is_saving(run, least) if way == WAYS[1] else passed > moment

    return trainings.kill(run, due)


def outcome(output_dir: Path) -> dict[str, Any]:
    """Read everything that a run leaves, as values that can be compared."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {
        tag: [point.step if tag in NOT_REPRODUCIBLE else (point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    states = {}
    for name in ("last", "best"):
        content = torch.load(output_dir / "checkpoints" / f"{name}.pt", weights_only=True)
        content.pop("settings", None)  # contain the folder
        states[name] = comparable(content)
    return {
        **states,
        "card": json.loads((output_dir / "checkpoints" / "best.json").read_text()),
        "metrics": json.loads((output_dir / "metrics.json").read_text()),
        "scalars": scalars,
    }


def comparable(value: Any) -> Any:
    """Replace tensors by their bytes."""
    if isinstance(value, dict):
        return {key: comparable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    if hasattr(value, "numpy"):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    return value


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Name what differs. A step of a non-reproducible scalar may be missing if its epoch was interrupted."""
    names = [name for name in a if name != "scalars" and a[name] != b[name]]
    for tag in a["scalars"].keys() | b["scalars"].keys():
        first, second = a["scalars"].get(tag, []), b["scalars"].get(tag, [])
        same = (
            set(second) <= set(first) and len(second) == len(set(second))
            if tag in NOT_REPRODUCIBLE
            else first == second
        )
        if not same:
            names.append(tag)
    return names


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    from machine import rows, show

    from brats3d.phantoms import write_phantoms

    draw = random.Random(options.seed)
    good, kills, broken = Counter[str](), Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "cases"
        write_phantoms(cases, cases=5, seed=3, size="small", progress=False)
        trainings = Trainings(cases)
        trainings.finish(Path(folder) / "warm-up")
        whole = Path(folder) / "whole"
        seconds = trainings.finish(whole)
        expected = outcome(whole)
        size = (whole / "checkpoints" / "last.pt").stat().st_size
        print(f"an uninterrupted run takes {seconds:.1f} s, its state {size / 1e6:.2f} MB", flush=True)
        for number in range(options.runs):
            way, run = WAYS[number % len(WAYS)], Path(folder) / f"run{number}"
            while not kill_once(trainings, run, way, draw, seconds, size):
                shutil.rmtree(run, ignore_errors=True)  # it ended before it was killed
            kills[way] += 1
            if way == WAYS[2]:
                kills[way] += kill_once(trainings, run, WAYS[0], draw, seconds, size)
            trainings.finish(run)
            wrong = differences(expected, outcome(run))
            good[way] += not wrong
            if wrong:
                broken.append(f"run {number}, killed {way}: {', '.join(wrong)}")
                print(broken[-1], flush=True)
            shutil.rmtree(run)
            print(f"{number + 1} runs, {sum(good.values())} identical, {sum(kills.values())} kills", flush=True)
    counts = Counter(WAYS[number % len(WAYS)] for number in range(options.runs))
    cells = [[way, counts[way], kills[way], good[way]] for way in WAYS if counts[way]]
    cells.append(["in all", options.runs, sum(kills.values()), sum(good.values())])
    show(
        "robustness",
        f"Trainings killed and resumed, seed {options.seed}",
        rows(["killed", "runs", "kills of a running training", "bit-identical at the end"], cells) + broken,
        options.record,
    )
    return 0 if sum(good.values()) == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
