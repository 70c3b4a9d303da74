"""Peak memory and time of predict: one network and an ensemble of five, without and with test-time augmentation.

    python benchmarks/averaging.py [--cases 2] [--device cpu] [--threads 1] [--record]

Each row is a separate process that segments full-size phantoms. The members are copies of the shipped weights. Memory
is the peak of the process, libraries included; seconds are CPU seconds of the process after its start-up, per case.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from machine import peak_kib, rows, show
from workflows import workflow_of

from brats3d.bundle import installed_bundle
from brats3d.networks import write_ensemble
from brats3d.phantoms import write_phantoms

MEMBERS = 5
RUNS = [*itertools.product((1, MEMBERS), (False, True), (False,)), (1, False, True)]
"""Number of networks, test-time augmentation, saved probabilities."""


def copies_of_the_shipped_weights(folder: Path) -> Path:
    """Write an ensemble of :data:`MEMBERS` copies, and return its folder."""
    members = [folder / str(number) / "model.pt" for number in range(MEMBERS)]
    for member in members:
        shutil.copytree(installed_bundle() / "models", member.parent)
    write_ensemble(folder, members)
    return folder


def run_child(data: Path, output: Path, knobs: dict[str, object]) -> None:
    """Segment the cases; print the peak in KiB and the CPU seconds as the last line."""
    workflow = workflow_of("predict", dataset_dir=str(data), output_dir=str(output), **knobs)
    workflow.initialize()
    _ = workflow.evaluator
    start = time.process_time()
    workflow.run()
    print(json.dumps([peak_kib(), time.process_time() - start]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.run:
        data, output, knobs = options.run
        run_child(Path(data), Path(output), json.loads(knobs))
        return
    cells: list[list[object]] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantoms(folder / "cases", options.cases, seed=7, setting="plain", progress=False)
        ensemble = copies_of_the_shipped_weights(folder / "ensemble")
        for number, (members, tta, save) in enumerate(RUNS):
            knobs = {"tta": tta, "save_probabilities": save, "device": f"$torch.device('{options.device}')"}
            knobs |= {"checkpoint": str(ensemble)} if members > 1 else {}
            child = ["--threads", options.threads, "--run", folder / "cases", folder / str(number), json.dumps(knobs)]
            command = [sys.executable, __file__, *map(str, child)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            kib, seconds = json.loads(done.stdout.splitlines()[-1])
            first = cells[0][3] if cells else kib / 2**20
            marks = ["yes" if each else "" for each in (tta, save)]
            cells.append([members, *marks, kib / 2**20, kib / 2**20 / first, seconds / options.cases])
    header = ["networks", "flips", "probabilities saved", "peak GiB", "times the first", "CPU seconds a case"]
    title = f"Ensembles and test-time augmentation: {options.cases} full phantoms, {options.device}"
    show("inference", title, rows(header, cells), options.record, options.device, options.threads)


if __name__ == "__main__":
    main()
