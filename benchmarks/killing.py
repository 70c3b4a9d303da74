"""Trainings killed with SIGKILL and started again: do they end as the one that was not?

    python benchmarks/killing.py [--runs 100] [--seed 0] [--record]

Each run is the bundle's training on tiny phantoms, in a process of its own: killed at a random moment, or while it
writes its state, or twice at random moments, then started again and left to end. What it has then is compared with an
uninterrupted run's: the weights, the optimizer and the rest of last.pt, best.pt and its card, metrics.json (all bit by
bit), and TensorBoard's scalars, each once (of those that a clock gives, the steps alone).

Exit code: 0 if all are the same.
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
CLOCKED = ("patches_per_second", "memory_gib")
MODULES = [
    "torch",
    "monai.bundle",
    "monai.engines",
    "brats3d.training.run",
    "brats3d.training.tensorboard",
    "brats3d.phantoms.stream",
]
SETTINGS: dict[str, Any] = {
    "patch_size": [32, 32, 32],
    "roi_size": [48, 48, 48],
    "network_def#channels": [4, 8, 8, 8, 8],
    "network_def#dropout": 0.1,
    "amp": False,
    "device": "cpu",
    "epochs": 4,
    "batch_size": 1,
    "val_interval": 1,
    "checkpoint_minutes": 0.0005,  # that is after every step or two
}


def train(cases: str, output_dir: str) -> None:
    """The training; runs in a process of its own."""
    import torch

    from brats3d.bundle import run_workflow

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        run_workflow("train", {**SETTINGS, "dataset_dir": cases, "output_dir": output_dir})


class Trainings:
    """Starts trainings of the same cases, from a process that has imported what they need.

    Args:
        cases: folder of them.
    """

    def __init__(self, cases: Path) -> None:
        self.cases = cases
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(MODULES)

    def start(self, output_dir: Path) -> multiprocessing.context.ForkServerProcess:
        """A process that trains."""
        process = self.context.Process(target=train, args=(str(self.cases), str(output_dir)))
        process.start()
        return process

    def finish(self, output_dir: Path) -> float:
        """Train to the end; returns the seconds that it took.

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
        """Start a training and kill it when ``due(seconds)`` says so; False if it came to its end before."""
        process, started = self.start(output_dir), time.monotonic()
        while process.is_alive() and not due(time.monotonic() - started):
            time.sleep(0.0005)
        process.kill()
        process.join()
        return process.exitcode != 0


def is_saving(output_dir: Path, least: float) -> bool:
    """Whether ``least`` bytes of a state are written and it does not stand in its place yet."""
    try:
        return any(f.stat().st_size >= least for f in (output_dir / "checkpoints").glob(".last.pt.*.tmp"))
    except FileNotFoundError:  # it does now
        return False


def kill_once(trainings: Trainings, run: Path, way: str, draw: random.Random, seconds: float, size: int) -> bool:
    """Start the training and kill it; whether it was met alive.

    Args:
        trainings: start it.
        run: its output folder.
        way: one of :data:`WAYS`.
        draw: the moment comes from it.
        seconds: that the whole training takes.
        size: of its saved state, in bytes.
    """
    moment, least = draw.uniform(0, seconds), draw.uniform(0, size)

    def due(passed: float) -> bool:
        return passed > moment / 2 and is_saving(run, least) if way == WAYS[1] else passed > moment

    return trainings.kill(run, due)


def outcome(output_dir: Path) -> dict[str, Any]:
    """All that a run has to show, as values that can be compared."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {
        tag: [point.step if tag in CLOCKED else (point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    states = {}
    for name in ("last", "best"):
        content = torch.load(output_dir / "checkpoints" / f"{name}.pt", weights_only=True)
        content.pop("settings", None)  # they name the folder
        states[name] = flat(content)
    return {
        **states,
        "card": json.loads((output_dir / "checkpoints" / "best.json").read_text()),
        "metrics": json.loads((output_dir / "metrics.json").read_text()),
        "scalars": scalars,
    }


def flat(value: Any) -> Any:
    """Tensors as their bytes."""
    if isinstance(value, dict):
        return {key: flat(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [flat(part) for part in value]
    if hasattr(value, "numpy"):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    return value


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of what is not the same; of clocked scalars a step may lack where its epoch was cut before it ended."""
    names = [name for name in a if name != "scalars" and a[name] != b[name]]
    for tag in a["scalars"].keys() | b["scalars"].keys():
        first, second = a["scalars"].get(tag, []), b["scalars"].get(tag, [])
        same = set(second) <= set(first) and len(second) == len(set(second)) if tag in CLOCKED else first == second
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
                shutil.rmtree(run, ignore_errors=True)  # it had come to its end before
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
            print(f"{number + 1} runs, {sum(good.values())} the same, {sum(kills.values())} kills", flush=True)
    counts = Counter(WAYS[number % len(WAYS)] for number in range(options.runs))
    cells = [[way, counts[way], kills[way], good[way]] for way in WAYS if counts[way]]
    cells.append(["in all", options.runs, sum(kills.values()), sum(good.values())])
    show(
        f"Trainings killed and started again, seed {options.seed}",
        rows(["killed", "runs", "kills that met a running training", "ended bit by bit the same"], cells) + broken,
        options.record,
    )
    return 0 if sum(good.values()) == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
