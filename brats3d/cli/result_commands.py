"""Subcommands about results: score, compare, report, view; and where."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from brats3d.bundle import installed_bundle, repeat_command
from brats3d.cli.options import EITHER_SPELLING, LABELS_HELP, check_json, silence_libraries, without_none
from brats3d.errors import UsageError
from brats3d.files import check_replaceable
from brats3d.labels import CONVENTION_ALIASES, CONVENTIONS


@click.command(context_settings=EITHER_SPELLING)
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

    file = check_json(output, "output")
    check_replaceable(file.with_suffix(".csv"), "output")
    for name in ("pred_labels", "ref_labels"):
        if options[name] is not None and options[name] not in (*CONVENTIONS, *CONVENTION_ALIASES):
            raise UsageError(name, expected=f"one of {', '.join(CONVENTIONS)}", found=options[name])
    silence_libraries()
    done = score_folders(pred_dir, ref_dir, **without_none(options))
    click.echo(str(done))
    table = done.write(file)
    click.echo(f"\n{file} and {table.name}: one row per case and region")
    return 1 if done.missing and not done.counts_missing else 0


@click.command()
@click.argument("first", metavar="A.json")
@click.argument("second", metavar="B.json")
@click.option("--measure", metavar="NAME", help="dice, hd95_mm, lesion_dice, lesion_hd95_mm, ...")
@click.option("--plot", metavar="FILE", help="Also plot the change of each case to this PNG.")
def compare(first: str, second: str, measure: str | None, plot: str | None) -> None:
    """Compare two scorings of the same cases: is B better than A?

    A.json and B.json are written by score or evaluate; the folder of a run or a cross-validation stands for the
    metrics.json in it. Prints the paired differences and Wilcoxon's signed-rank test.
    """
    from brats3d.evaluation import compare_scores, format_comparison, read_scores, save_comparison

    if plot is not None and Path(plot).suffix.lower() != ".png":
        raise UsageError("plot", expected="a file name that ends in .png", found=plot)
    a, b = (read_scores(path / "metrics.json" if path.is_dir() else path) for path in map(Path, (first, second)))
    compared = compare_scores(a, b, **without_none({"measure": measure}))
    click.echo(format_comparison(compared, (first, second)))
    if plot is not None:
        names = (Path(first).stem, Path(second).stem) if Path(first).stem != Path(second).stem else ("A", "B")
        click.echo(f"\n{save_comparison(plot, compared, names)}")


@click.command(context_settings=EITHER_SPELLING)
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

    silence_libraries()
    folders = list(dataset_dir) if len(dataset_dir) > 1 else next(iter(dataset_dir), None)
    path = make_report(run_dir, output, folders, repeat_command)
    click.echo(click.format_filename(path))


@click.command(context_settings=EITHER_SPELLING)
@click.argument("folder")
@click.option("--dataset-dir", multiple=True, metavar="DIR", help="Where the images are, if they moved; repeatable.")
@click.option("--label-convention", metavar="NAME", help=f"{LABELS_HELP} For names that do not state it.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this computer; default: a free one.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser; print the address only.")
def view(folder: str, dataset_dir: Sequence[str], label_convention: str | None, port: int, no_browser: bool) -> None:
    """Look through the segmentations in FOLDER in a browser.

    FOLDER is the output of predict, a run or a cross-validation after evaluate, or a folder of cases. The page is
    served to this computer only. It shows four sequences, three planes and 3-D, the regions, and the reference beside
    the prediction. Ctrl-C ends it.
    """
    from brats3d.view import find_viewed_cases, make_server

    silence_libraries()
    cases = find_viewed_cases(folder, dataset_dir, label_convention)
    with make_server(cases, Path(folder).expanduser().resolve().name, port) as server:
        click.echo(f"{len(cases)} cases at {server.url} (Ctrl-C to end)")
        if not no_browser:
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


@click.command()
def where() -> None:
    """Print the folder of the bundle."""
    click.echo(installed_bundle())
