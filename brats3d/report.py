"""The report of a run: one HTML page with scores, curves, pictures and a slice viewer; its figures as PNG beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from brats3d.files import writable_folder, write_whole
from brats3d.pictures import save_preview
from brats3d.report_cases import CaseFiles, CaseVolumes, Trouble, compare_volumes, find_files, load_volumes, shown_slice
from brats3d.report_figures import (
    as_jpeg,
    as_png,
    as_svg,
    border_sequences,
    case_panels,
    draw_boxes,
    draw_curves,
    thumbnail,
)
from brats3d.report_gallery import Shown, Thumbnail, case_sections
from brats3d.report_page import page
from brats3d.report_run import Run, read_run
from brats3d.report_sections import (
    Charts,
    case_table,
    charts_section,
    failure_section,
    header,
    run_section,
    score_section,
)
from brats3d.report_viewer import make_viewer

__all__ = ["MAX_THUMBNAILS", "make_report"]

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
        ValueError: if metrics.json or settings.json is damaged, or the output cannot be written.
    """
    run = read_run(run_dir)
    target = _check_output(run.folder / "report.html" if output is None else Path(output).expanduser())
    folder = writable_folder(target.with_suffix(""), "output")
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
    return write_whole(target, partial(_write, content=text.encode(errors="replace")))


def _check_output(path: Path) -> Path:
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise ValueError(f"output: expected a file whose name ends in .html, got {path}")
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
    for case_id in tqdm(chosen, desc="cases", unit="case", disable=not progress):
        volumes = _load(files[case_id], [base], troubles)
        if volumes is None:
            continue
        if doubt := compare_volumes(volumes, run.by_case[case_id]):
            troubles.append(Trouble(case_id, doubt))
        z = shown_slice(volumes)
        pixels = thumbnail(volumes.image[0][..., z], volumes.ref[..., z], volumes.pred[..., z])
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
    loaded = (_load(files[case_id], run.modalities, troubles) for case_id in order)
    return next((volumes for volumes in loaded if volumes is not None), None)


def _load(files: CaseFiles, modalities: Sequence[str], troubles: list[Trouble]) -> CaseVolumes | None:
    """A case; None where it cannot be read, which is noted once."""
    case_id = files.case.case_id
    try:
        return load_volumes(files, modalities)
    except (ValueError, OSError) as error:
        trouble = Trouble(case_id, str(error))
        if trouble not in troubles:
            troubles.append(trouble)
        return None


def _show_case(rank: str, volumes: CaseVolumes, folder: Path, viewer: bool) -> Shown:
    """The case's pictures, which also become a PNG, and its viewers."""
    z = shown_slice(volumes)
    image, names, ref, pred = volumes.image, volumes.modalities, volumes.ref, volumes.pred
    title = f"{rank}: {volumes.case_id}".replace("$", r"\$")  # to matplotlib it begins a formula
    save_preview(folder / f"{rank}.png", image, names, pred, ref, title=title)
    panels = case_panels(image, names, ref, pred, z, volumes.spacing_mm, volumes.case_id)
    sequences = border_sequences(names) if viewer else []
    viewers = {name: make_viewer(image[names.index(name)], ref, pred, volumes.affine, z) for name in sequences}
    return Shown(rank, volumes.case_id, panels, viewers)
