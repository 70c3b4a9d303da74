"""The report of a run: one HTML page with scores, curves, pictures and a slice viewer; its figures as PNG beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from brats3d.cases import check_folder
from brats3d.files import save_preview, writable_folder, write_whole
from brats3d.report.case_volumes import (
    CaseFiles,
    CaseVolumes,
    Trouble,
    compare_volumes,
    find_files,
    load_volumes,
    shown_slice,
)
from brats3d.report.figures import (
    as_jpeg,
    as_png,
    as_svg,
    border_sequences,
    case_panels,
    draw_boxes,
    draw_curves,
    thumbnail,
)
from brats3d.report.gallery import Shown, Thumbnail, case_sections
from brats3d.report.page import GENERATOR, page
from brats3d.report.run_folder import Run, read_run
from brats3d.report.sections import (
    Charts,
    case_table,
    charts_section,
    failure_section,
    header,
    run_section,
    score_section,
)
from brats3d.report.viewer import make_viewer

logger = logging.getLogger("brats3d")

MAX_THUMBNAILS = 70
"""Of more cases, the worst are shown: half a second and some twenty kilobytes each."""


def make_report(
    run_dir: str | Path,
    output: str | Path | None = None,
    dataset_dir: str | Path | Sequence[str | Path] | None = None,
    progress: bool = True,
) -> Path:
    """Write the report of a run.

    A file that is missing or damaged costs its case the picture, and is named; the rest of the report is written.

    Args:
        run_dir: the output_dir of a training, with the metrics.json and the segmentations of ``brats3d evaluate``.
        output: the page; None is ``report.html`` in the run's folder. Its figures go, as PNG, into the folder of the
            same name without the suffix.
        dataset_dir: where the cases are now; None takes what the run's settings say.
        progress: show a progress bar.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: if there is no such folder, or it holds no metrics.json.
        ValueError: if metrics.json or settings.json is damaged, the output cannot be written, or something else is
            there.
    """
    run = read_run(run_dir)
    for each in [dataset_dir] if isinstance(dataset_dir, str | Path) else dataset_dir or ():
        check_folder(each)
    target = _check_output(run.folder / "report.html" if output is None else Path(output).expanduser())
    folder = writable_folder(target.with_suffix(""), "output")
    before = set(folder.iterdir())
    curves = _draw(draw_curves(run.curves), folder)
    boxes = _draw(draw_boxes(run.rows), folder)
    files, troubles = find_files(run, dataset_dir)
    thumbnails = list(_thumbnails(run, files, troubles, progress))
    shown = _show(run, files, troubles, folder)
    sections = [
        ("run", "What was run", run_section(run)),
        ("scores", "Scores", score_section(run)),
        ("table", "Case by case", case_table(run, [each.case_id for each in thumbnails])),
        ("boxes", "Spread over the cases", charts_section(boxes, "")),
        ("failures", "Failures", failure_section(run, troubles)),
        *case_sections(run, shown, thumbnails, troubles),
        ("curves", "Training", charts_section(curves, "The run has left no curves of its training.")),
    ]
    text = page(f"Report of {run.folder.resolve().name}", sections, header(run))
    write_whole(target, partial(_write, content=text.encode(errors="replace")))
    made = {*(f"{name}.png" for name in (*curves, *boxes)), *(f"{each.rank}.png" for each in shown)}
    for old in before:
        if old.name not in made:
            old.unlink()  # a figure of an earlier report that this one has not
    for trouble in troubles:
        logger.warning("%s%s", f"{trouble.case_id}: " if trouble.case_id else "", trouble.text)
    return target


FIGURES = frozenset(
    f"{name}.png"
    for name in (
        *("best", "median", "worst"),
        *("train_loss", "learning_rate", "dice_curve"),
        *("dice", "hd95_mm", "lesion_dice"),
    )
)
"""What a report leaves beside its page. A folder with anything else in it is not touched."""


def _check_output(path: Path) -> Path:
    """Where the page goes: never over another page, nor its figures into somebody's folder."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise ValueError(f"output: expected a file whose name ends in .html, got {path}")
    if path.exists() and GENERATOR.encode() not in path.read_bytes()[:4000]:
        raise ValueError(f"output: {path} is there and is no report of brats3d; give another file")
    folder = path.with_suffix("")
    foreign = sorted({each.name for each in folder.iterdir()} - FIGURES) if folder.is_dir() else []
    if foreign:
        raise ValueError(f"output: {folder}, where the figures go, holds {foreign[0]}; give another file")
    return path


def _draw(figures: Mapping[str, tuple], folder: Path) -> Charts:
    """Each figure as SVG for the page, and as PNG in the folder."""
    charts = {}
    for name, (figure, alt) in figures.items():
        write_whole(folder / f"{name}.png", partial(_write, content=as_png(figure)))
        charts[name] = as_svg(figure), alt
    return charts


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)


def _thumbnails(
    run: Run, files: Mapping[str, CaseFiles], troubles: list[Trouble], progress: bool
) -> Iterator[Thumbnail]:
    """The worst cases first; what is wrong with a case is added to the troubles."""
    from tqdm import tqdm

    base = "flair" if "flair" in run.modalities else run.modalities[0]
    chosen = [case_id for case_id in run.ranked if case_id in files][:MAX_THUMBNAILS]
    for case_id in tqdm(chosen, desc="cases", unit="case", disable=None if progress else True):
        volumes = _load(run, files[case_id], [base], troubles)
        if volumes is None:
            continue
        z = shown_slice(volumes)
        plane, ref, pred = (part[..., z] for part in (volumes.image[0], volumes.ref, volumes.pred))
        pixels = thumbnail(plane, ref, pred, volumes.spacing_mm)
        yield Thumbnail(case_id, as_jpeg(pixels), (pixels.shape[1], pixels.shape[0]))


def _show(run: Run, files: Mapping[str, CaseFiles], troubles: list[Trouble], folder: Path) -> list[Shown]:
    """The worst, the median and the best of the cases that can be read; the worst and the best with a viewer."""
    ranked = [case_id for case_id in run.ranked if case_id in files]
    middle = len(ranked) // 2
    orders = {
        "worst": ranked,
        "best": ranked[::-1],
        "median": sorted(ranked, key=lambda case_id: abs(ranked.index(case_id) - middle)),
    }
    shown: dict[str, Shown] = {}
    for rank, order in orders.items():
        seen = {each.case_id for each in shown.values()}
        volumes = _first(run, files, (case_id for case_id in order if case_id not in seen), troubles)
        if volumes is None:
            continue
        shown[rank] = _show_case(rank, volumes, folder, viewer=rank != "median")
    return [shown[rank] for rank in ("best", "median", "worst") if rank in shown]


def _first(
    run: Run, files: Mapping[str, CaseFiles], order: Iterable[str], troubles: list[Trouble]
) -> CaseVolumes | None:
    """The first case that can be read."""
    loaded = (_load(run, files[case_id], run.modalities, troubles) for case_id in order)
    return next((volumes for volumes in loaded if volumes is not None), None)


def _load(run: Run, files: CaseFiles, modalities: Sequence[str], troubles: list[Trouble]) -> CaseVolumes | None:
    """A case; None where it cannot be read. What is wrong with it is noted once."""
    case_id, text, volumes = files.case.case_id, "", None
    try:
        volumes = load_volumes(files, modalities)
        text = compare_volumes(volumes, run.by_case[case_id])
    except (ValueError, OSError) as error:
        text = str(error)
    if text and case_id not in {trouble.case_id for trouble in troubles}:
        troubles.append(Trouble(case_id, text))
    return volumes


def _show_case(rank: str, volumes: CaseVolumes, folder: Path, viewer: bool) -> Shown:
    """The case's pictures, which also become a PNG, and its viewers."""
    z = shown_slice(volumes)
    image, names, ref, pred = volumes.image, volumes.modalities, volumes.ref, volumes.pred
    title = f"{rank}: {volumes.case_id}".encode(errors="replace").decode()
    title = title.replace("$", r"\$")  # to matplotlib it begins a formula
    save_preview(folder / f"{rank}.png", image, names, pred, ref, title, volumes.spacing_mm)
    panels = case_panels(image, names, ref, pred, z, volumes.spacing_mm, volumes.case_id, volumes.start[2])
    sequences = border_sequences(names) if viewer else []
    viewers = {name: make_viewer(image[names.index(name)], ref, pred, volumes.spacing_mm, z) for name in sequences}
    return Shown(rank, volumes.case_id, panels, viewers)
