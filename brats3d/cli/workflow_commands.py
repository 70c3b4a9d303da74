"""Subcommands that run a workflow of the bundle: pretrain, train, evaluate, predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from brats3d.bundle import (
    MONAI_ARGUMENTS,
    add_card_network,
    check_overlays,
    command_line,
    config_files,
    find_configs,
    installed_bundle,
    misread_paths,
    run_workflow,
    unknown_ids,
)
from brats3d.cli.knob_arguments import dataset_override, describe_knob, parse_knobs
from brats3d.cli.options import silence_libraries
from brats3d.config_reader import read_knobs
from brats3d.errors import UsageError

OUTPUT = click.option("--output", "-o", metavar="DIR", help="Folder to write to; same as --output_dir.")
CONFIG = click.option(
    "--config", metavar="FILE", multiple=True, help="Config to add, of your own or of the bundle; repeatable."
)
TRACKING = click.option("--tracking", type=click.Choice(["mlflow"]), help="Also log the training to MLflow.")


class WorkflowCommand(click.Command):
    """A subcommand that runs a workflow of the bundle. Its help lists the knobs of the YAML."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the other knobs in their groups."""
        super().format_options(ctx, formatter)
        options = {option.name for option in self.params}
        knobs = [knob for knob in read_knobs(config_files(str(self.name))) if knob.name not in options]
        for group in dict.fromkeys(knob.group for knob in knobs):
            rows = [(f"--{knob.name}", describe_knob(knob)) for knob in knobs if knob.group == group]
            with formatter.section(f"Knobs: {group}" if group else "Knobs"):
                formatter.write_dl(rows)


def workflow(metavar: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function ``(arguments, output, config)`` into a subcommand that runs the workflow of the same name."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        for option in (CONFIG, OUTPUT):
            function = option(function)
        function = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar=metavar)(function)
        # "--id value" passes through click untouched; parse_knobs reads it.
        return click.command(cls=WorkflowCommand, context_settings={"ignore_unknown_options": True})(function)

    return decorate


@workflow("[--KNOB VALUE]...")
@TRACKING
def pretrain(arguments: Sequence[str], output: str | None, config: Sequence[str], tracking: str | None) -> None:
    """Train on synthetic cases, generated during training. No data is needed."""
    _run("pretrain", arguments, output, config, tracking)


@workflow("DATASET_DIR [--KNOB VALUE]...")
@TRACKING
def train(arguments: Sequence[str], output: str | None, config: Sequence[str], tracking: str | None) -> None:
    """Train on a folder of BraTS cases.

    Run the same command again to resume.
    """
    _run("train", arguments, output, config, tracking)


@workflow("DATASET_DIR [--KNOB VALUE]...")
def evaluate(arguments: Sequence[str], output: str | None, config: Sequence[str]) -> None:
    """Score the best weights of a run on its validation cases.

    Pass the same knobs as for the training.
    """
    _run("evaluate", arguments, output, config)


@workflow("CASE_OR_DIR... [--KNOB VALUE]...")
def predict(arguments: Sequence[str], output: str | None, config: Sequence[str]) -> None:
    """Segment cases or raw scans in their own space: OUT/<case_id>.nii.gz.

    A case that fails does not stop the others; failures are listed in OUT/failures.json, and the exit code is 1. Run
    the same command again to resume.
    """
    _run("predict", arguments, output, config)


def _run(
    workflow: str,
    arguments: Sequence[str],
    output: str | None,
    configs: Sequence[str],
    tracking: str | None = None,
) -> None:
    """Print the equivalent ``python -m monai.bundle run`` line, then run the workflow."""
    if tracking is not None:
        from brats3d.training import import_mlflow

        import_mlflow()  # before the data are read
    overlays = find_configs(configs)
    overrides = read_overrides(workflow, arguments, output, overlays, tracking)
    overrides = add_card_network(workflow, overrides, overlays)
    click.echo(command_line(workflow, overrides, overlays))
    silence_libraries()
    run_workflow(workflow, overrides, overlays)


def read_overrides(
    workflow: str,
    arguments: Sequence[str],
    output: str | None,
    overlays: Sequence[Path] = (),
    tracking: str | None = None,
) -> dict[str, Any]:
    """Return the ids that the arguments of a workflow override, and their values.

    Args:
        workflow: one of ``bundle.WORKFLOWS``.
        arguments: folders of cases and ``--knob value`` pairs.
        output: the ``output_dir``; None leaves it as it is.
        overlays: config files added to those of the workflow.
        tracking: name of the bundle's settings for a tracker of experiments, such as ``mlflow``.

    Raises:
        UsageError: naming every id that no config has, and every path that MONAI would read as syntax.
        DataError: if an overlay is damaged.
    """
    check_overlays(config_files(workflow), overlays)
    files = config_files(workflow, overlays)
    paths, overrides = parse_knobs(arguments, read_knobs(files))
    overrides = {**dataset_override(workflow, paths), **overrides}
    if output is not None:
        overrides["output_dir"] = output
    for name in overrides:
        if name in (*MONAI_ARGUMENTS, "bundle_root"):
            raise UsageError(
                f"--{name}", "brats3d runs its own bundle", advice="use python -m monai.bundle run to run another"
            )
    if tracking is not None:
        overrides["tracking"] = str(installed_bundle() / "configs" / f"{tracking}.yaml")
        files.append(Path(overrides["tracking"]))
    if errors := unknown_ids(overrides, files) + misread_paths(overrides):
        raise errors[0] if len(errors) == 1 else UsageError.of_many("options", list(map(str, errors)))
    return overrides
