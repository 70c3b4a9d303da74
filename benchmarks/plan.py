"""The duration that ``brats3d plan`` expects, compared with that of the run.

    python benchmarks/plan.py [--cases 8] [--size full] [--minutes 3] [--only small default ...] [--wall] [--record]

For each network, a run of ``--minutes`` of processor time is planned, and trained. Other load on the machine hardly
changes processor time. With ``--wall``, wall-clock time is estimated, too, by a plan before the run and one after it,
since the load changes. Plans and runs are separate processes with one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

BEGUN = time.perf_counter()  # before PyTorch and MONAI are imported, which a run does, too

from machine import rows, show  # noqa: E402

NETWORKS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "small": ([], {"network_def#channels": [8, 16, 32, 64], "network_def#strides": [2, 2, 2]}),
    "default": ([], {}),
    "large": ([], {"network_def#channels": [32, 64, 128, 256, 320]}),
    "DynUNet": (["networks/dynunet.yaml"], {}),
}
"""Configs and ids of each network."""

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def plan(configs: list[str], ids: dict[str, Any], hours: float | None, clock: str) -> dict[str, Any]:
    """Return the planned knobs and the expected seconds of a run."""
    from brats3d.bundle import find_configs
    from brats3d.plan import make_plan

    made = make_plan(ids, find_configs(configs), hours, CLOCKS[clock], 0.0 if clock == "processor" else BEGUN)
    return {"knobs": {name: choice.value for name, choice in made.knobs.items()}, "seconds": made.seconds.run}


def plan_apart(configs: list[str], ids: dict[str, Any], hours: float | None, clock: str) -> dict[str, Any]:
    """Plan in a process of its own, as the command does."""
    arguments = json.dumps([configs, ids, hours, clock])
    command = [sys.executable, __file__, "--plan", arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def train(folder: str, configs: list[str], ids: dict[str, Any]) -> tuple[float, float]:
    """Train as the command does; return the wall-clock and the processor seconds."""
    command = [sys.executable, "-m", "brats3d", "train", folder]
    for config in configs:
        command += ["--config", config]
    for name, value in ids.items():
        command += [f"--{name}", json.dumps(value)]
    with tempfile.TemporaryDirectory() as output:
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--output", output], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, processor


def measure(folder: str, name: str, minutes: float, wall: bool) -> list[object]:
    """Return a line of the table."""
    configs, ids = NETWORKS[name]
    ids = {"device": "cpu", **ids}
    data = {"dataset_dir": folder}
    planned = plan_apart(configs, {**ids, **data}, minutes / 60, "processor")
    knobs = {**ids, **planned["knobs"]}

    def expected() -> list[float]:
        return [plan_apart(configs, {**knobs, **data}, None, "wall")["seconds"]] if wall else []

    before = expected()
    seconds, processor = train(folder, configs, knobs)
    around = before + expected()
    patch = " x ".join(map(str, knobs["patch_size"]))
    cells = [name, f"{knobs['batch_size']} of {patch}", knobs["epochs"]]
    cells += [round(planned["seconds"]), round(processor), planned["seconds"] / processor, round(seconds)]
    return [*cells, ", ".join(f"{each:.0f}" for each in around), sum(around) / 2 / seconds] if wall else cells


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--size", default="full")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.plan:
        print(json.dumps(plan(*json.loads(options.plan))))
        return
    from brats3d.phantoms import write_phantoms

    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder, options.cases, seed=7, size=options.size, progress=False)
        cells = [measure(folder, name, options.minutes, options.wall) for name in options.only]
    header = [
        "network",
        "patches",
        "epochs",
        "expected processor seconds",
        "run",
        "ratio",
        "wall-clock seconds of the run",
    ]
    header += ["expected before and after", "ratio of the mean"] if options.wall else []
    title = (
        f"Expected and actual duration: {options.cases} {options.size} phantoms, {options.minutes:g} processor minutes"
    )
    show("plan", title, rows(header, cells), options.record, threads=1)


if __name__ == "__main__":
    main()
