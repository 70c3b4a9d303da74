"""The subcommand plan: settings that fit the machine."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click

from brats3d.bundle import find_configs
from brats3d.cli.options import silence_libraries
from brats3d.cli.workflow_commands import CONFIG, read_overrides
from brats3d.errors import UsageError
from brats3d.files import check_replaceable, writable_folder


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="DATASET_DIR [--KNOB VALUE]...")
@click.option("--output", "-o", metavar="FILE", default="plan.yaml", show_default=True, help="YAML file to write.")
@CONFIG
@click.option("--hours", type=float, help="Time that the run of one fold may take; default: as long as it needs.")
def plan(arguments: Sequence[str], output: str, config: Sequence[str], hours: float | None) -> None:
    """Propose settings for train that fit the data and this machine, and estimate the time.

    Reads some cases and times some steps. Writes an overlay that you can edit, for train --config. Knobs that you pass
    (see train --help) are kept, and the others are planned around them.
    """
    begun = time.perf_counter()
    file = Path(output)
    if file.suffix.lower() not in (".yaml", ".yml") or file.is_dir():
        raise UsageError("output", expected="a file name that ends in .yaml", found=output)
    overlays = find_configs(config)
    overrides = read_overrides("train", arguments, None, overlays)
    writable_folder(file.parent, "output")
    check_replaceable(file, "output")
    silence_libraries()

    from brats3d.plan import make_plan, plan_text, write_plan

    made = make_plan(overrides, overlays, hours, begun=begun)
    configs = [word for name in (*config, output) for word in ("--config", name)]
    command = shlex.join(["brats3d", "train", str(overrides["dataset_dir"]), *configs])
    write_plan(file, made, command)
    click.echo(plan_text(made))
    if hours is None:
        click.echo("--hours H plans a run that takes H hours at most.")
    click.echo(f"\n{click.format_filename(output)}: edit it if you like, then run\n  {command}")
