"""Cost of saving the state of a training of the default network, at the default interval.

    python benchmarks/saving.py [--saves 20] [--minutes 10] [--folder DIR] [--record]

The state of a real run of ``train.yaml`` (network, optimizer with its moments, schedule) is saved repeatedly by the
run's own handler, which flushes it to the disk each time. The fraction of time is for one save every ``--minutes``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from machine import rows, show
from workflows import workflow_of

from brats3d.phantoms import write_phantoms
from brats3d.training import RunEvents


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--saves", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", help="folder on the disk to measure; default: a temporary folder")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cases, run = Path(folder) / "cases", Path(folder) / "run"
        write_phantoms(cases, cases=3, seed=0, size="small", progress=False)
        workflow = workflow_of(
            "train",
            logging_file=False,
            dataset_dir=str(cases),
            output_dir=str(run),
            epochs=1,
            patch_size=[32, 32, 32],
            window=[48, 48, 48],
        )
        workflow.initialize()
        seconds: list[float] = []

        def save(engine: Engine) -> None:
            for _ in range(options.saves):
                started = time.perf_counter()
                engine.fire_event(RunEvents.SAVE)
                seconds.append(time.perf_counter() - started)

        workflow.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), save)
        workflow.run()
        size = (run / "checkpoints" / "last.pt").stat().st_size
    fraction = 100 * statistics.median(seconds) / (60 * options.minutes)
    worst = 100 * max(seconds) / (60 * options.minutes)
    cells = [[f"{size / 1e6:.1f}", statistics.median(seconds), max(seconds), options.minutes, fraction, worst]]
    header = ["MB", "seconds, median", "slowest", "minutes between saves", "fraction of time, %", "of the slowest, %"]
    show("robustness", "Saving the state of a run", rows(header, cells), options.record)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
