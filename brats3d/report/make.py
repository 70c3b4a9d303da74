"""The report of a run: one HTML page with scores, curves, pictures and a slice viewer, and its figures as PNG."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from brats3d.cases import check_folder
from brats3d.errors import UsageError
from brats3d.files import WrittenFiles, check_replaceable, writable_folder, write_owned
from brats3d.report.charts import Chart, draw_boxes, draw_curves, draw_predicted_dice
from brats3d.report.crossval_results import read_results
from brats3d.report.failed_regions import find_failed_regions
from brats3d.report.fold_charts import draw_fold_curves
from brats3d.report.gallery import Gallery
from brats3d.report.page import PageContent, render_page
from brats3d.report.predicted_quality import compare_quality
from brats3d.report.repeat_commands import RepeatCommand, evaluate_command, repeat_commands
from brats3d.report.run_facts import describe_run
from brats3d.report.scored_cases import Folders, find_files

logger = logging.getLogger("brats3d")

FIGURES = frozenset(
    [
        *("best", "median", "worst"),
        *("train_loss", "learning_rate", "dice_curve"),
        *("dice", "hd95_mm", "lesion_dice", "predicted_dice"),
    ]
)
"""The PNGs that a report may write beside its page."""


def make_report(
    run_dir: str | Path,
    output: str | Path | None = None,
    dataset_dir: Folders | None = None,
    repeat: RepeatCommand | None = None,
    progress: bool = True,
) -> Path:
    """Write the report of a run, or of a cross-validation.

    A missing or damaged file of a case is listed on the page, and the pictures of that case are skipped.

    Args:
        run_dir: the output_dir of a training, with the metrics.json and the segmentations of ``brats3d evaluate``; or
            of a cross-validation.
        output: the page; None writes ``report.html`` into the run's folder. The figures are written as PNG into the
            folder of the same name without the suffix.
        dataset_dir: where the cases are now; None uses the folder in the run's settings.
        repeat: writes the commands that repeat the run; :func:`brats3d.bundle.repeat_command`. The page has no such
            commands without it.
        progress: show a progress bar.

    Returns:
        The page's path.

    Raises:
        UsageError: if run_dir or dataset_dir does not exist, or the output cannot be written or is another file.
        DataError: if metrics.json is missing, or metrics.json or settings.json is damaged; or if folds of a
            cross-validation are not finished.
    """
    run = read_results(run_dir, repeat)
    for each in [dataset_dir] if isinstance(dataset_dir, str | Path) else dataset_dir or ():
        check_folder(each)
    target = _check_output(run.folder / "report.html" if output is None else Path(output).expanduser())
    folder = writable_folder(target.with_suffix(""), "output")
    evaluate = evaluate_command(run, repeat) if repeat else "brats3d evaluate"
    files, problems = find_files(run, dataset_dir, evaluate)
    gallery = Gallery(run, files)
    thumbnails = gallery.thumbnails(progress)
    shown = gallery.shown_cases(folder)
    problems += gallery.problems.values()
    curves = draw_fold_curves(run.folds) if run.folds else draw_curves(run.curves)
    boxes, quality = draw_boxes(run.rows), draw_predicted_dice(compare_quality(run))
    _save_charts(curves | boxes | quality, folder)
    content = PageContent(
        run=run,
        facts=describe_run(run),
        commands=repeat_commands(run, repeat) if repeat else [],
        failures=find_failed_regions(run.rows),
        problems=problems,
        shown=shown,
        thumbnails=thumbnails,
        boxes=boxes,
        curves=curves,
        quality_charts=quality,
    )
    page = render_page(content).encode(errors="replace")  # file names need not be valid text
    write_owned(target, lambda file: file.write(page))
    for name in FIGURES.difference(curves, boxes, quality, (case.rank for case in shown)):
        (folder / f"{name}.png").unlink(missing_ok=True)  # figures of an earlier report
    for problem in problems:
        logger.warning("%s%s", f"{problem.case_id}: " if problem.case_id else "", problem.text)
    return target


def _check_output(path: Path) -> Path:
    """Return the page's path, after checking that only an earlier report and its figures would be replaced."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UsageError("output", expected="a file whose name ends in .html", found=str(path))
    check_replaceable(path, "output")
    folder = path.with_suffix("")
    if folder.is_dir():
        # Hidden files are the record, and those that another report is writing or that a killed one has left.
        names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
        WrittenFiles(folder, argument="output").check_replaceable(sorted(names))
    return path


def _save_charts(charts: Mapping[str, Chart], folder: Path) -> None:
    for name, chart in charts.items():
        write_owned(folder / f"{name}.png", chart.save_png)
