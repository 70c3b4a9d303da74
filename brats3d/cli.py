"""The ``brats3d`` command: a thin front for the bundle and the package. It has no defaults of its own.

Nothing heavy is imported until a subcommand runs, so that ``brats3d --help`` answers at once.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from brats3d import __version__
from brats3d.bundle import MONAI_ARGUMENTS, check_overrides, command_line, config_files, installed_bundle, run_workflow
from brats3d.files import cause_of, read_json, writable_folder
from brats3d.labels import CONVENTIONS, get_convention, order_modalities

# "--id value" pairs of the config pass through click untouched; _split takes them apart.
PASS_THROUGH = {"ignore_unknown_options": True}

# --label_convention as in the config, and --label-convention.
EITHER_SPELLING = {"token_normalize_func": lambda name: name.replace("_", "-")}

output_option = click.option("--output", "-o", metavar="DIR", help="Folder to write to (the config's output_dir).")


class InOrder(click.Group):
    """Lists its commands in the order in which they are used, which is that of this file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="brats3d")
@click.option("--verbose", is_flag=True, help="Show the whole traceback of an error.")
def cli(verbose: bool) -> None:
    """Brain tumour segmentation on BraTS: look at the data, train, evaluate, segment.

    Research only; not a medical device.
    """


@cli.command()
@click.argument("out")
@click.option("--cases", type=int, required=True, help="How many cases.")
@click.option("--seed", type=int, help="Another seed gives other cases.")
@click.option("--size", metavar="full|small", help="full: 240x240x155 voxels; small: for tests.")
@click.option(
    "--layout", metavar="NAME", help="The release's form: brats2018|brats2020|brats2021|brats2023|brats2024|msd|h5."
)
@click.option(
    "--setting", metavar="varied|plain|new-scanner", help="plain is easier; new-scanner is there to fine-tune on."
)
@click.option("--device", metavar="NAME", help="cpu or cuda.")
def phantom(out: str, cases: int, **options: Any) -> None:
    """Write synthetic BraTS cases to OUT.

    They are made from an average of healthy brains.
    """
    from brats3d.phantoms import write_phantoms

    with _wrong_use("cases", *options):
        folders = write_phantoms(out, cases, **_given(options))
    click.echo(f"{len(folders)} cases in {out}")


@cli.command()
@click.argument("src")
@click.argument("out")
@click.option("--workers", type=click.IntRange(min=1), help="How many processes; one a processor unless given.")
def convert(src: str, out: str, workers: int | None) -> int:
    """Write SRC in BraTS 2020's NIfTI layout to OUT.

    SRC: Kaggle's HDF5 slices, whose intensities become whole numbers again (conversion.json says where that is not
    certain), or the Decathlon's Task01_BrainTumour. Run it again to go on after an interruption.
    """
    from brats3d.convert import check_output, convert_dataset

    with _wrong_use("src", "out"):
        check_output(src, out)
    done = convert_dataset(src, out, workers)
    click.echo("\n".join(done.summary()))
    return 1 if done.failed else 0


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("dataset_dir", metavar="DIR")
@click.option("--json", "json_file", metavar="FILE", help="Also write everything to FILE.")
@click.option("--repair", metavar="OUT", help="Write a clean copy to OUT: links, and mended files where that can be.")
@click.option("--label-convention", metavar="NAME", help="What the labels mean, such as brats2020.")
@click.option("--modalities", metavar="NAMES", help="Sequences that every case has, such as t1,flair.")
@click.option("--all", "everything", is_flag=True, help="List every finding.")
def audit(dataset_dir: str, json_file: str | None, repair: str | None, everything: bool, **options: Any) -> int:
    """Say what is wrong with the data in DIR, and what to do.

    Every file is read once; nothing in DIR is changed. Exit code 1: training would fail or learn something wrong.
    """
    from brats3d.audit import audit_dataset, audit_lines, check_output, repair_dataset, write_audit

    with _wrong_use("json", "repair", "label_convention", "modalities"):
        given = _about_data(options)
        if json_file is not None:
            json_file = str(_check_json(json_file, "json", {"findings"}))
        if repair is not None:
            check_output([dataset_dir], repair)
    _quieten()
    done = audit_dataset(dataset_dir, **given)
    click.echo("\n".join(audit_lines(done, everything)))
    if json_file is not None:
        write_audit(done, json_file)
    if repair is None:
        return 0 if done.ok else 1
    mended = repair_dataset(done, repair)
    click.echo("\n".join(mended.summary()))
    return 0 if mended.complete else 1


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("dataset_dir", metavar="DIR")
@click.option("--output", "-o", metavar="FILE", required=True, help="File to write, such as DIR/datalist.json.")
@click.option("--folds", type=int, help="How many folds, at most one a patient.")
@click.option("--seed", type=int, help="Another seed gives another split.")
@click.option("--label-convention", metavar="NAME", help="What the labels mean, such as brats2020.")
@click.option("--modalities", metavar="NAMES", help="Sequences that every case has, such as t1,flair.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace another split in FILE.")
def split(dataset_dir: str, output: str, **options: Any) -> None:
    """Split the cases in DIR into folds that resemble each other.

    Writes a datalist.json. Every segmentation is read once: grades, enhancing tumour and volumes are shared out evenly;
    each patient is in one fold.
    """
    from brats3d.cases import describe_split, split_dataset

    with _wrong_use("output", "folds", "label_convention", "modalities"):
        done = split_dataset(dataset_dir, output, **_about_data(options))
    click.echo("\n".join(describe_split(done, dataset_dir, output)))


@cli.command(context_settings=PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[--minutes N] [--id value]...")
@output_option
def pretrain(arguments: Sequence[str], output: str | None) -> None:
    """Train on synthetic cases, made while training runs.

    It needs no data. Any id of pretrain.yaml can be given, such as --minutes 600.
    """
    _run("pretrain", arguments, output)


@cli.command(context_settings=PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="DATASET_DIR [--id value]...")
@output_option
def train(arguments: Sequence[str], output: str | None) -> None:
    """Train on a folder of BraTS cases.

    Any id of train.yaml can be given, such as --epochs 100 or --patch_size "[96,96,96]".
    """
    _run("train", arguments, output)


@cli.command(context_settings=PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="DATASET_DIR [--id value]...")
@output_option
def evaluate(arguments: Sequence[str], output: str | None) -> None:
    """Score a run's best weights on its validation cases."""
    _run("evaluate", arguments, output)


@cli.command(context_settings=PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="CASE_OR_DIR... [--id value]...")
@output_option
@click.option("--preview", is_flag=True, help="Also write a picture of each case.")
@click.option("--stats", is_flag=True, help="Also write a JSON of each case: volumes, boxes, sequences, weights.")
def predict(arguments: Sequence[str], output: str | None, **flags: bool) -> None:
    """Segment cases in their own space: OUT/<case_id>.nii.gz.

    A case that fails does not stop the others: OUT/failures.json lists it, exit code 1. Run it again to go on after an
    interruption: what is done is left alone.
    """
    _run("predict", arguments, output, **{name: True for name, given in flags.items() if given})


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("pred_dir")
@click.argument("ref_dir")
@click.option("--output", "-o", metavar="FILE", required=True, help="JSON to write; a CSV is written beside it.")
@click.option("--convention", metavar="NAME", help="Rules: brats2023, brats2023-men, brats2023-met, brats2020.")
@click.option("--pred-labels", metavar="NAME", help="What the predictions' labels mean, such as brats2020.")
@click.option("--ref-labels", metavar="NAME", help="What the reference's labels mean.")
@click.option("--missing", metavar="list|zero", help="Cases without a prediction: leave out and list, or count as 0.")
@click.option("--workers", type=click.IntRange(min=1), help="How many cases at the same time.")
def score(pred_dir: str, ref_dir: str, output: str, **options: Any) -> int:
    """Score the segmentations in PRED_DIR against those in REF_DIR.

    Dice, HD95, lesion-wise scores as BraTS counts them, sensitivity, specificity, volumes. Files are paired by case:
    <case_id>.nii.gz or <case_id>_seg.nii.gz; REF_DIR may be a data set as downloaded. Exit code 1: cases are left out.
    """
    from brats3d.evaluation import csv_beside, format_scores, score_folders

    with _wrong_use("output", "convention", "missing"):
        file = _check_json(output, "output", {"rows", "summary"})
        csv_beside(file)
        for name in ("pred_labels", "ref_labels"):
            if options[name] is not None and options[name] not in CONVENTIONS:
                expected = f"expected one of {', '.join(CONVENTIONS)}, got {options[name]!r}"
                raise click.UsageError(f"--{name.replace('_', '-')}: {expected}")
        _quieten()
        done = score_folders(pred_dir, ref_dir, **_given(options))
    click.echo(format_scores(done))
    table = done.write(file)
    click.echo(f"\n{file} and {table.name}: a row a case and region")
    return 1 if done.missing and not done.counts_missing else 0


@cli.command()
@click.argument("first", metavar="A.json")
@click.argument("second", metavar="B.json")
@click.option("--measure", metavar="NAME", help="dice, hd95_mm, lesion_dice, lesion_hd95_mm, ...")
@click.option("--plot", metavar="FILE", help="Also draw each case's change to this PNG.")
def compare(first: str, second: str, measure: str | None, plot: str | None) -> None:
    """Compare two scorings of the same cases: is B better than A?

    A.json and B.json are written by score or evaluate. Each case's difference, and Wilcoxon's signed-rank test of them.
    """
    from brats3d.evaluation import compare_scores, format_comparison, read_scores, save_comparison

    with _wrong_use("measure", "plot"):
        if plot is not None and Path(plot).suffix.lower() != ".png":
            raise ValueError(f"plot: expected a file whose name ends in .png, got {plot}")
        found = compare_scores(read_scores(first), read_scores(second), **_given({"measure": measure}))
    click.echo(format_comparison(found, (first, second)))
    if plot is not None:
        names = (Path(first).stem, Path(second).stem) if Path(first).stem != Path(second).stem else ("A", "B")
        click.echo(f"\n{save_comparison(plot, found, names)}")


@cli.command(context_settings=EITHER_SPELLING)
@click.argument("run_dir", metavar="RUN")
@click.option("--output", "-o", metavar="FILE", help="HTML file to write; RUN/report.html unless given.")
@click.option(
    "--dataset-dir",
    multiple=True,
    metavar="DIR",
    help="Where the cases are, if they have moved; may stand several times.",
)
def report(run_dir: str, output: str | None, dataset_dir: Sequence[str]) -> None:
    """Write one HTML page about the training in RUN: scores, curves, pictures, a viewer.

    Run evaluate first: it scores the best weights and leaves their segmentations.
    """
    from brats3d.report import make_report

    _quieten()
    folders = list(dataset_dir) if len(dataset_dir) > 1 else next(iter(dataset_dir), None)
    with _wrong_use("output", "dataset_dir"):
        path = make_report(run_dir, output, folders)
    click.echo(click.format_filename(path))


@cli.command()
def where() -> None:
    """Print the bundle's folder."""
    click.echo(installed_bundle())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 done, 1 bad data, 2 wrong use, 130 or 143 stopped by a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in arguments  # wherever it stands
    try:
        return cli([argument for argument in arguments if argument != "--verbose"], standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("brats3d: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stopped:  # a training that a signal has ended, after saving
        return stopped.code if isinstance(stopped.code, int) else 1
    except Exception as error:
        if verbose:
            traceback.print_exc()
        print(f"brats3d: error: {_printable(_explain(error))}", file=sys.stderr)
        return 1


@contextmanager
def _wrong_use(*names: str) -> Iterator[None]:
    """A ValueError that begins with the name of one of these arguments is wrong use."""
    try:
        yield
    except (ValueError, FileExistsError) as error:
        if str(error).startswith(tuple(f"{name}: " for name in names)):
            raise click.UsageError(str(error)) from None
        raise


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _about_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say what the data are; checked before anything is read."""
    given = _given(options)
    if "modalities" in given:  # "t1,flair", or "['t1','flair']" as in the config
        given["modalities"] = order_modalities(re.findall(r"\w+", given["modalities"]))
    if "label_convention" in given:
        get_convention(given["label_convention"])
    return given


def _check_json(path: str, name: str, keys: set[str]) -> Path:
    """Where a JSON file goes: never over one that is something else, which lacks one of the keys."""
    file = Path(path).expanduser().absolute()
    if file.suffix.lower() != ".json" or file.is_dir():
        raise ValueError(f"{name}: expected a file whose name ends in .json, got {path}")
    writable_folder(file.parent, name)
    if file.exists():
        try:
            ours = keys <= read_json(file).keys()
        except (ValueError, OSError, AttributeError):
            ours = False
        if not ours:
            raise ValueError(f"{name}: {file} is there and is something else; give another file")
    return file


def _run(workflow: str, arguments: Sequence[str], output: str | None, **more: Any) -> None:
    paths, overrides = _split(arguments)
    overrides = {**_cases_of(workflow, paths), **overrides, **more}
    if output is not None:
        overrides["output_dir"] = output
    if foreign := [name for name in overrides if name in (*MONAI_ARGUMENTS, "bundle_root")]:
        raise click.UsageError(
            f"--{foreign[0]}: brats3d runs its own bundle; use python -m monai.bundle run for another"
        )
    if problems := check_overrides(overrides, config_files(workflow)):
        raise click.UsageError("; ".join(problems))
    click.echo(command_line(workflow, overrides))
    _quieten()
    run_workflow(workflow, overrides)


def _cases_of(workflow: str, paths: Sequence[str]) -> dict[str, Any]:
    if workflow == "pretrain":
        if paths:
            raise click.UsageError(f"expected no folder of cases, got {' '.join(paths)}; brats3d train takes one")
        return {}
    if not paths:
        raise click.UsageError("expected a folder of cases")
    if len(paths) > 1 and workflow != "predict":
        raise click.UsageError(f"expected one folder of cases, got {' '.join(paths)}")
    return {"dataset_dir": paths[0] if len(paths) == 1 else list(paths)}


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Positional arguments, and ``--id value`` pairs with their values read as the plain MONAI command reads them."""
    from fire.parser import DefaultParseValue

    paths, overrides = [], {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            paths.append(argument)
            continue
        name, equals, after = argument[2:].partition("=")
        name = name.replace("-", "_")  # as the plain MONAI command takes it
        value = after if equals else next(rest, None)
        if value is None:
            raise click.UsageError(f"--{name}: expected a value after it")
        words = {"true": True, "false": False, "null": None, "none": None}
        overrides[name] = words[value.lower()] if value.lower() in words else DefaultParseValue(value)
    return paths, overrides


def _explain(error: BaseException) -> str:
    """What is told of an error: one line for what we foresaw."""
    error = cause_of(error)
    if isinstance(error, (ValueError, OSError, FloatingPointError)):
        text = str(error).strip()
        # torch wraps what a worker process raised in the text of its traceback; the message follows the last name.
        return re.split(r"^\w*Error: ", text, flags=re.MULTILINE)[-1] if text.startswith("Caught ") else text
    return f"{type(error).__name__}: {error} (--verbose shows where)"


def _printable(text: str) -> str:
    """Without what a terminal would obey, no line longer than a person reads: a file may hold any name."""
    lines = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text).split("\n")
    return "\n".join(line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]} ..." for line in lines)


_MAX_LINE = 4000


def _quieten() -> None:
    """Leave warnings about the innards of libraries out of what a user reads; --verbose is not for them."""
    warnings.filterwarnings("ignore", module=r"(monai|ignite|torch)\.")
    logging.getLogger("monai").setLevel(logging.WARNING)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it says of a header, our error says
