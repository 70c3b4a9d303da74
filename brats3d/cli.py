"""The ``brats3d`` command: a thin front for the bundle and the package. It has no defaults of its own.

Heavy libraries are imported only when a subcommand runs, so that ``brats3d --help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from brats3d import __version__
from brats3d.bundle import (
    MONAI_ARGUMENTS,
    REPLACED,
    command_line,
    config_files,
    installed_bundle,
    misread_paths,
    repeat_command,
    run_workflow,
    unknown_ids,
)
from brats3d.config_reader import Knob, read_knobs
from brats3d.errors import ExplainedError, UsageError
from brats3d.files import cause_of, check_replaceable, writable_folder
from brats3d.knob_checks import WORDS
from brats3d.labels import CONVENTION_ALIASES, CONVENTIONS, get_convention, order_modalities

EITHER_SPELLING = {"token_normalize_func": lambda name: name.replace("_", "-")}
"""Accepts ``--label_convention``, as the config spells it, and ``--label-convention``."""

LABELS_HELP = f"Meaning of the labels: {', '.join(CONVENTIONS)}."

TRACKING = click.option("--tracking", type=click.Choice(["mlflow"]), help="Also log the training to MLflow.")

MAX_LINE = 4000
"""Limit of the characters printed of one line of an error."""


class Commands(click.Group):
    """A group of subcommands, listed in the order in which people use them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the subcommands in the order of this file."""
        return list(self.commands)


class WorkflowCommand(click.Command):
    """A subcommand that runs a workflow of the bundle. Its help lists the knobs of the YAML."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the knobs in their groups."""
        super().format_options(ctx, formatter)
        knobs = read_knobs(config_files(str(self.name)))
        for group in dict.fromkeys(knob.group for knob in knobs):
            rows = [(f"--{knob.name}", _describe_knob(knob)) for knob in knobs if knob.group == group]
            with formatter.section(f"Knobs: {group}" if group else "Knobs"):
                formatter.write_dl(rows)


def workflow(metavar: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function ``(arguments, output)`` into a subcommand that runs the workflow of the same name."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        function = click.option("--output", "-o", metavar="DIR", help="Folder to write to; same as --output_dir.")(
            function
        )
        function = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar=metavar)(function)
        # "--id value" passes through click untouched; _parse_knobs reads it.
        return cli.command(cls=WorkflowCommand, context_settings={"ignore_unknown_options": True})(function)

    return decorate


@click.group(cls=Commands, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="brats3d")
@click.option("--verbose", is_flag=True, help="Show the traceback of an error.")
def cli(verbose: bool) -> None:
    """Brain tumour segmentation on BraTS: check the data, train, evaluate, segment.

    Research only; not a medical device.
    """


@cli.command()
@click.argument("out")
@click.option("--cases", type=int, required=True, help="Number of cases.")
@click.option("--seed", type=int, help="Random seed of the set.")
@click.option("--size", metavar="full|small", help="full: 240x240x155 voxels; small: for tests.")
@click.option(
    "--layout",
    metavar="NAME",
    help="Layout of a release: brats2018|brats2020|brats2021|brats2023|brats2024|msd|h5; or raw, with the skull.",
)
@click.option(
    "--setting", metavar="varied|plain|new-scanner|wide", help="plain is easier; new-scanner is for fine-tuning."
)
@click.option("--device", metavar="NAME", help="cpu or cuda.")
def phantom(out: str, cases: int, **options: Any) -> None:
    """Write synthetic BraTS cases to OUT.

    They are made from an average of healthy brains.
    """
    from brats3d.phantoms import write_phantoms

    folders = write_phantoms(out, cases, **_without_none(options))
    click.echo(f"{len(folders)} cases in {out}")


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("src")
@click.argument("out")
@click.option("--workers", type=click.IntRange(min=1), help="Number of processes; default: one per core.")
@click.option("--to", type=click.Choice(["nnunet"]), help="Write nnU-Net's raw form instead, from BraTS cases in SRC.")
@click.option(
    "--datalist", metavar="FILE", help="With --to: datalist.json with the folds; default: that in SRC, if any."
)
@click.option("--label-convention", metavar="NAME", help=f"With --to: {LABELS_HELP}")
@click.option("--modalities", metavar="NAMES", help="With --to: sequences to write, such as t1,flair.")
def convert(src: str, out: str, workers: int | None, to: str | None, **options: Any) -> int:
    """Convert SRC to BraTS 2020's NIfTI layout in OUT.

    SRC holds Kaggle's HDF5 slices or the Decathlon's Task01_BrainTumour. The original integer intensities of the HDF5
    form are recovered; conversion.json lists the slices where that is ambiguous. Run the same command again to resume.

    With --to nnunet, SRC holds BraTS cases, and OUT is a new folder such as nnUNet_raw/Dataset137_BraTS.
    """
    from brats3d.convert import convert_dataset, convert_to_nnunet

    chosen = _dataset_options(options)
    if to == "nnunet":
        if workers is not None:
            raise UsageError("workers", "not used with --to nnunet")
        _silence_libraries()
        click.echo("\n".join(convert_to_nnunet(src, out, **chosen).summary()))
        return 0
    if chosen:
        raise UsageError(next(iter(chosen)), "used only with --to nnunet")
    done = convert_dataset(src, out, workers)
    click.echo("\n".join(done.summary()))
    return 1 if done.failed else 0


@cli.command()
@click.argument("src")
@click.argument("out")
def prepare(src: str, out: str) -> int:
    """Prepare the raw scans in SRC for segmentation: OUT/<case_id>, in BraTS's form.

    SRC holds DICOM series or image files, with skull, each on its own grid. The sequences are registered to each other
    and to an atlas, skull-stripped and resampled to 1 mm. A case that has some of that already gets only what it lacks.
    Run the same command again to resume.
    """
    from brats3d.scans import prepare_scans

    _silence_libraries()
    done = prepare_scans(src, out)
    click.echo("\n".join(done.summary()))
    return 1 if done.failed else 0


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("dataset_dir", metavar="DIR")
@click.option("--json", "json_file", metavar="FILE", help="Also write all findings to FILE.")
@click.option("--repair", metavar="OUT", help="Write a clean copy to OUT: links, and repaired files.")
@click.option("--label-convention", metavar="NAME", help=LABELS_HELP)
@click.option("--modalities", metavar="NAMES", help="Sequences that every case has, such as t1,flair.")
@click.option("--all", "everything", is_flag=True, help="List every finding.")
def audit(dataset_dir: str, json_file: str | None, repair: str | None, everything: bool, **options: Any) -> int:
    """Check the data in DIR and report what is wrong with it.

    Every file is read once; nothing in DIR is changed. Exit code 1: training would fail or learn something wrong.
    """
    from brats3d.audit import audit_dataset, check_copy_folder, format_audit, write_audit_json, write_repaired_copy

    chosen = _dataset_options(options)
    if json_file is not None:
        json_file = str(_check_json(json_file, "json"))
    if repair is not None:
        check_copy_folder([dataset_dir], repair)
    _silence_libraries()
    done = audit_dataset(dataset_dir, **chosen)
    click.echo("\n".join(format_audit(done, everything)))
    if json_file is not None:
        write_audit_json(done, json_file)
    if repair is None:
        return 0 if done.ok else 1
    copy = write_repaired_copy(done, repair)
    click.echo("\n".join(copy.summary()))
    return 0 if copy.complete else 1


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("dataset_dir", metavar="DIR")
@click.option("--output", "-o", metavar="FILE", required=True, help="File to write, such as DIR/datalist.json.")
@click.option("--folds", type=int, help="Number of folds, at most one per patient.")
@click.option("--seed", type=int, help="Random seed of the split.")
@click.option("--label-convention", metavar="NAME", help=LABELS_HELP)
@click.option("--modalities", metavar="NAMES", help="Sequences that every case has, such as t1,flair.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace another split in FILE.")
def split(dataset_dir: str, output: str, **options: Any) -> None:
    """Split the cases in DIR into balanced folds.

    Writes a datalist.json. Every segmentation is read once. Folds are stratified by grade, enhancing tumour and tumour
    volume; all cases of a patient are in one fold.
    """
    from brats3d.cases import describe_split, split_dataset

    done = split_dataset(dataset_dir, output, **_dataset_options(options))
    click.echo("\n".join(describe_split(done, dataset_dir, output)))


@workflow("[--KNOB VALUE]...")
@TRACKING
def pretrain(arguments: Sequence[str], output: str | None, tracking: str | None) -> None:
    """Train on synthetic cases, generated during training. No data is needed."""
    _run("pretrain", arguments, output, tracking)


@workflow("DATASET_DIR [--KNOB VALUE]...")
@TRACKING
def train(arguments: Sequence[str], output: str | None, tracking: str | None) -> None:
    """Train on a folder of BraTS cases.

    Run the same command again to resume.
    """
    _run("train", arguments, output, tracking)


@workflow("DATASET_DIR [--KNOB VALUE]...")
def evaluate(arguments: Sequence[str], output: str | None) -> None:
    """Score the best weights of a run on its validation cases.

    Pass the same knobs as for the training.
    """
    _run("evaluate", arguments, output)


@workflow("CASE_OR_DIR... [--KNOB VALUE]...")
def predict(arguments: Sequence[str], output: str | None) -> None:
    """Segment cases or raw scans in their own space: OUT/<case_id>.nii.gz.

    A case that fails does not stop the others; failures are listed in OUT/failures.json, and the exit code is 1. Run
    the same command again to resume.
    """
    _run("predict", arguments, output)


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("pred_dir")
@click.argument("ref_dir")
@click.option("--output", "-o", metavar="FILE", required=True, help="JSON file to write, with a CSV beside it.")
@click.option("--convention", metavar="NAME", help="Scoring rules: brats2023, brats2023-men, brats2023-met, brats2020.")
@click.option("--pred-labels", metavar="NAME", help=LABELS_HELP)
@click.option("--ref-labels", metavar="NAME", help="The same, for the reference.")
@click.option("--missing", metavar="list|zero", help="Cases without a prediction: list them, or score them 0.")
@click.option("--workers", type=click.IntRange(min=1), help="Number of cases scored at the same time.")
def score(pred_dir: str, ref_dir: str, output: str, **options: Any) -> int:
    """Score the segmentations in PRED_DIR against those in REF_DIR.

    Computes Dice, HD95, lesion-wise scores as in the BraTS challenges, sensitivity, specificity and volumes. Files are
    paired by case: <case_id>.nii.gz, or with words such as <case_id>_pred.nii.gz; REF_DIR may be a data set as
    downloaded. Exit code 1: cases lack a prediction.
    """
    from brats3d.evaluation import score_folders

    file = _check_json(output, "output")
    check_replaceable(file.with_suffix(".csv"), "output")
    for name in ("pred_labels", "ref_labels"):
        if options[name] is not None and options[name] not in (*CONVENTIONS, *CONVENTION_ALIASES):
            raise UsageError(name, expected=f"one of {', '.join(CONVENTIONS)}", found=options[name])
    _silence_libraries()
    done = score_folders(pred_dir, ref_dir, **_without_none(options))
    click.echo(str(done))
    table = done.write(file)
    click.echo(f"\n{file} and {table.name}: one row per case and region")
    return 1 if done.missing and not done.counts_missing else 0


@cli.command()
@click.argument("first", metavar="A.json")
@click.argument("second", metavar="B.json")
@click.option("--measure", metavar="NAME", help="dice, hd95_mm, lesion_dice, lesion_hd95_mm, ...")
@click.option("--plot", metavar="FILE", help="Also plot the change of each case to this PNG.")
def compare(first: str, second: str, measure: str | None, plot: str | None) -> None:
    """Compare two scorings of the same cases: is B better than A?

    A.json and B.json are written by score or evaluate. Prints the paired differences and Wilcoxon's signed-rank test.
    """
    from brats3d.evaluation import compare_scores, format_comparison, read_scores, save_comparison

    if plot is not None and Path(plot).suffix.lower() != ".png":
        raise UsageError("plot", expected="a file name that ends in .png", found=plot)
    compared = compare_scores(read_scores(first), read_scores(second), **_without_none({"measure": measure}))
    click.echo(format_comparison(compared, (first, second)))
    if plot is not None:
        names = (Path(first).stem, Path(second).stem) if Path(first).stem != Path(second).stem else ("A", "B")
        click.echo(f"\n{save_comparison(plot, compared, names)}")


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("run_dir", metavar="RUN")
@click.option("--output", "-o", metavar="FILE", help="HTML file to write; default: RUN/report.html.")
@click.option(
    "--dataset-dir", multiple=True, metavar="DIR", help="Where the cases are, if they have moved; repeatable."
)
def report(run_dir: str, output: str | None, dataset_dir: Sequence[str]) -> None:
    """Write an HTML report about the run in RUN.

    It shows scores, curves, pictures and a viewer. Run evaluate first; it scores the best weights and writes their
    segmentations.
    """
    from brats3d.report import make_report

    _silence_libraries()
    folders = list(dataset_dir) if len(dataset_dir) > 1 else next(iter(dataset_dir), None)
    path = make_report(run_dir, output, folders, repeat_command)
    click.echo(click.format_filename(path))


@cli.command()
def where() -> None:
    """Print the folder of the bundle."""
    click.echo(installed_bundle())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 bad data, 2 usage error, 130 or 143 stopped by a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in arguments  # accepted at any position
    try:
        return cli([argument for argument in arguments if argument != "--verbose"], standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("brats3d: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stopped:  # a signal has stopped a training after saving it
        return stopped.code if isinstance(stopped.code, int) else 1
    except Exception as error:
        if verbose:
            traceback.print_exc()
        cause = cause_of(error)
        print(f"brats3d: error: {_printable(_explain(cause))}", file=sys.stderr)
        return cause.exit_code if isinstance(cause, ExplainedError) else 1
    finally:
        _flush_output()


def _flush_output() -> None:
    """Write the rest of the output. Discard it if nobody reads it, as after ``brats3d audit DIR | head -1``."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _dataset_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that describe a data set, checked before anything is read."""
    given = _without_none(options)
    if "modalities" in given:  # "t1,flair", or "['t1','flair']" as in the config
        given["modalities"] = order_modalities(re.findall(r"\w+", given["modalities"]))
    if "label_convention" in given:
        get_convention(given["label_convention"])
    return given


def _check_json(path: str, name: str) -> Path:
    """Return the absolute path of a JSON file to write; refuse to replace one that brats3d did not write."""
    file = Path(path).expanduser().absolute()
    if file.suffix.lower() != ".json" or file.is_dir():
        raise UsageError(name, expected="a file name that ends in .json", found=path)
    writable_folder(file.parent, name)
    check_replaceable(file, name)
    return file


def _run(workflow: str, arguments: Sequence[str], output: str | None, tracking: str | None = None) -> None:
    """Print the equivalent ``python -m monai.bundle run`` line, then run the workflow."""
    files = config_files(workflow)
    paths, overrides = _parse_knobs(arguments, read_knobs(files))
    overrides = {**_dataset_override(workflow, paths), **overrides}
    if output is not None:
        overrides["output_dir"] = output
    for name in overrides:
        if name in (*MONAI_ARGUMENTS, "bundle_root"):
            raise UsageError(
                f"--{name}", "brats3d runs its own bundle", advice="use python -m monai.bundle run to run another"
            )
    if tracking is not None:
        from brats3d.training import import_mlflow

        import_mlflow()  # before the data are read
        overrides["tracking"] = str(installed_bundle() / "configs" / f"{tracking}.yaml")
        files.append(Path(overrides["tracking"]))
    if errors := unknown_ids(overrides, files) + misread_paths(overrides):
        raise errors[0] if len(errors) == 1 else UsageError.of_many("options", list(map(str, errors)))
    click.echo(command_line(workflow, overrides))
    _silence_libraries()
    run_workflow(workflow, overrides)


def _dataset_override(workflow: str, paths: Sequence[str]) -> dict[str, Any]:
    if workflow == "pretrain":
        if paths:
            raise UsageError("DIR", "pretrain reads no cases", found=paths, advice="use brats3d train")
        return {}
    if not paths:
        raise UsageError("DIR", expected="a folder of cases")
    if len(paths) > 1 and workflow != "predict":
        raise UsageError("DIR", expected="one folder of cases", found=paths)
    return {"dataset_dir": paths[0] if len(paths) == 1 else list(paths)}


def _parse_knobs(arguments: Sequence[str], knobs: Sequence[Knob]) -> tuple[list[str], dict[str, Any]]:
    """Return the positional arguments, and the ``--id value`` pairs with their values as MONAI's command reads them.

    A knob that is true or false needs no value: ``--preview`` is ``--preview True``.
    """
    from fire.parser import DefaultParseValue

    flags = {knob.name for knob in knobs if knob.default in ("true", "false")}
    paths, overrides = [], {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith("--"):
            paths.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")  # as MONAI's command does
        if name in REPLACED:  # before the next word is read as its value
            raise UsageError(f"--{name}", "unknown id", advice=REPLACED[name])
        if not equals:
            if name in flags and (not left or left[0].lower() not in ("true", "false")):
                value = "true"
            elif not left or left[0].startswith("--"):
                raise UsageError(f"--{name}", expected="a value")
            else:
                value = left.pop(0)
        overrides[name] = WORDS[value.lower()] if value.lower() in WORDS else DefaultParseValue(value)
    return paths, overrides


def _describe_knob(knob: Knob) -> str:
    default = knob.default.strip("\"'")
    if default.startswith("$"):  # an expression, which the comment explains
        return knob.comment
    return f"{knob.comment} (default: {default.removeprefix('@')})"


def _explain(error: BaseException) -> str:
    """Return the message of an expected error; for any other error, its type as well."""
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        text = str(error).strip()
        # torch puts the traceback of a worker process into the message; the original message follows the last type.
        return re.split(r"^[\w.]*Error: ", text, flags=re.MULTILINE)[-1] if text.startswith("Caught ") else text
    return f"{type(error).__name__}: {error} (--verbose shows where)"


def _printable(text: str) -> str:
    """Escape control characters and cut very long lines: file names may contain anything."""
    lines = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text).split("\n")
    return "\n".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..." for line in lines)


def _silence_libraries() -> None:
    """Hide warnings about the internals of libraries, and lines of the log that nobody reads."""
    logging.raiseExceptions = False
    warnings.filterwarnings("ignore", module=r"(monai|ignite|torch)\.")
    logging.getLogger("monai").setLevel(logging.WARNING)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # our own errors describe the header
