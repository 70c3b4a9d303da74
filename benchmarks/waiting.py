"""Time that the training waits for data after its first epoch: train.yaml as shipped, on full-size phantoms.

    python benchmarks/waiting.py [--cases 6] [--rounds 3] [--threads 2] [--record]

Prepared cases are in memory or on disk. Batches are prepared in advance by a thread or, with MONAI's plain loader,
after the step. Both loaders alternate every four epochs in one run, so that other load affects both; the first epoch of
each turn is not counted. If every core computes the step, preparing batches at the same time slows the step down:
compare the patches per second. With ``--threads 1`` on two cores, one core is free for the data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import rows, show
from workflows import workflow_of

from brats3d.phantoms import write_phantoms

LOADERS = ("prepared in advance", "plain loader")
PLACES = ("memory", "disk")
TURN = 4
"""Epochs of one loader before the other takes over."""


class Turns:
    """A data loader that alternates between the two loaders."""

    def __init__(self, loader: Any) -> None:
        from monai.data import DataLoader

        self.dataset, self.sampler, self.batch_size = loader.dataset, loader.sampler, loader.batch_size
        self.loaders = [loader, DataLoader(self.dataset, sampler=self.sampler, batch_size=self.batch_size)]

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loaders[turn_of(self.sampler.epoch)])


def turn_of(epoch: int) -> int:
    """Return the index of the loader of an epoch, counted from 1."""
    return (epoch - 1) // TURN % len(LOADERS)


def measure(folder: Path, place: str, rounds: int, threads: int) -> dict[str, list[tuple[float, float, int]]]:
    """Return, for each loader, (seconds of waiting, seconds of the step, patches) of each counted iteration."""
    import torch
    from ignite.engine import Events

    from brats3d.data import dataset as datasets

    torch.set_num_threads(threads)
    if place == "disk":
        datasets.RESERVED_BYTES = 10**15
    epochs = rounds * TURN * len(LOADERS)
    out: dict[str, list[tuple[float, float, int]]] = {name: [] for name in LOADERS}
    with tempfile.TemporaryDirectory() as output:
        workflow = workflow_of(
            "train",
            dataset_dir=str(folder),
            output_dir=output,
            epochs=epochs + 1,  # stopped before the last one, which would validate
            val_interval=epochs + 1,
        )
        workflow.initialize()
        trainer, times = workflow.trainer, [0.0, 0.0]
        trainer.data_loader = Turns(trainer.data_loader)

        def finished(engine) -> None:
            epoch, now = engine.state.epoch, time.perf_counter()
            if (epoch - 1) % TURN:
                line = times[1] - times[0], now - times[1], len(engine.state.output["image"])
                out[LOADERS[turn_of(epoch)]].append(line)
            if engine.state.iteration == epochs * engine.state.epoch_length:
                engine.terminate()

        for i, event in enumerate((Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED)):
            trainer.add_event_handler(event, lambda _, i=i: times.__setitem__(i, time.perf_counter()))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, finished)
        workflow.run()
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--place", choices=PLACES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.place:
        print(json.dumps(measure(options.folder, options.place, options.rounds, options.threads)))
        return
    cells: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder, options.cases, seed=7, setting="plain", progress=False)
        for place in PLACES:
            command = [sys.executable, __file__, *sys.argv[1:], "--place", place, "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for loader, lines in json.loads(done.stdout.splitlines()[-1]).items():
                waited, step, patches = zip(*lines)
                seconds = [a + b for a, b in zip(waited, step)]
                rate = statistics.median(n / s for n, s in zip(patches, seconds))
                fraction = 100 * sum(waited) / sum(seconds)
                cells.append([place, loader, fraction, statistics.median(step), max(waited), rate])
    header = [
        "cases in",
        "batches",
        "waiting, %",
        "step, s, median",
        "longest wait, s",
        "patches of 128³ per second, median",
    ]
    title = f"Waiting for data, {options.threads} threads for the step"
    show("training", title, rows(header, cells), options.record)


if __name__ == "__main__":
    main()
