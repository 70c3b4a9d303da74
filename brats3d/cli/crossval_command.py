"""The subcommand ``crossval``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from brats3d.bundle import find_configs
from brats3d.cli.options import silence_libraries
from brats3d.cli.workflow_commands import read_overrides, workflow
from brats3d.errors import UsageError


@workflow("DATASET_DIR [--KNOB VALUE]...")
@click.option("--fold", type=int, metavar="K", help="Train only this fold, as in a job array; default: all.")
@click.option("--devices", metavar="NAMES", help="Train folds side by side, one per device: cuda:0,cuda:1.")
@click.option("--side-by-side", is_flag=True, hidden=True)  # this process was started for one of several devices
def crossval(
    arguments: Sequence[str],
    output: str | None,
    config: Sequence[str],
    fold: int | None,
    devices: str | None,
    side_by_side: bool,
) -> None:
    """Train and evaluate every fold; make one table, one report and one ensemble of them.

    Folds are trained one after the other. Run the same command again to resume. OUT/fold<k> are ordinary runs.
    OUT/metrics.json scores each case with the network that was not trained on it; predict --checkpoint OUT averages the
    networks.
    """
    from brats3d.crossval import OUTPUT_DIR, CrossValidation, SideBySide, cross_validate, stop_with_parent

    overlays = find_configs(config)
    knobs = read_overrides("crossval", arguments, output, overlays)
    call: dict[str, Any] = {"fold": fold, "minutes": knobs.pop("minutes", None)}
    folder = Path(knobs.pop("output_dir", None) or OUTPUT_DIR).expanduser()
    if devices is not None:
        if "device" in knobs:
            raise UsageError("devices", "both --device and --devices are given", advice="use one of them")
        options = ["--output", str(folder), *(f"--config={path}" for path in overlays), "--side-by-side"]
        command = [sys.executable, "-m", "brats3d", "crossval", *arguments, *options]
        call["side_by_side"] = SideBySide(command, devices.split(","))
        knobs["device"] = "cpu"  # for the check before the start, which should not take memory of a GPU
    if side_by_side:
        stop_with_parent()
    silence_libraries()
    cross_validate(CrossValidation(folder, knobs, tuple(overlays)), combine=not side_by_side, echo=click.echo, **call)
