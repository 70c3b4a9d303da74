"""The pictures of a report: panels of the best, median and worst case, and a thumbnail of each case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.files import save_preview, write_owned
from brats3d.report.case_volumes import CaseVolumes, compare_with_scores, load_volumes
from brats3d.report.run_results import Run
from brats3d.report.scored_cases import CaseFiles, CaseProblem
from brats3d.report.slices import Picture, border_sequences, case_panels, thumbnail
from brats3d.report.viewer import Viewer, make_viewer

MAX_THUMBNAILS = 70
"""Limit of thumbnails, the worst cases first; each takes half a second and about 20 kB."""


@dataclass(frozen=True, eq=False)
class ShownCase:
    """A case that is shown with all of its panels.

    Args:
        rank: ``"best"``, ``"median"`` or ``"worst"``.
        case_id: the case.
        panels: pictures of the slice with the most tumour.
        viewer: None for the median case.
    """

    rank: str
    case_id: str
    panels: Sequence[Picture]
    viewer: Viewer | None


class Gallery:
    """Reads cases and draws their pictures; collects the problems of cases that cannot be read.

    Args:
        run: the run that was scored.
        files: case_id -> files of the cases that have all of them.
    """

    def __init__(self, run: Run, files: Mapping[str, CaseFiles]) -> None:
        self.run = run
        self.files = files
        self.ranked = [case_id for case_id in run.ranked if case_id in files]
        self.problems: dict[str, CaseProblem] = {}

    def thumbnails(self, progress: bool = True) -> dict[str, Picture]:
        """Draw reference and prediction of each case side by side, the worst first, at most :data:`MAX_THUMBNAILS`."""
        from tqdm import tqdm

        base = "flair" if "flair" in self.run.modalities else self.run.modalities[0]
        pictures = {}
        worst = self.ranked[:MAX_THUMBNAILS]
        for case_id in tqdm(worst, desc="cases", unit="case", disable=None if progress else True):
            if (volumes := self._load(case_id, [base])) is not None:
                z = volumes.shown_slice
                plane, ref, pred = (array[..., z] for array in (volumes.image[0], volumes.ref, volumes.pred))
                pixels = thumbnail(plane, ref, pred, volumes.spacing_mm)
                pictures[case_id] = Picture(pixels, f"{case_id}: reference and prediction in one slice")
        return pictures

    def shown_cases(self, folder: Path) -> list[ShownCase]:
        """Draw the best, the median and the worst of the readable cases, also as PNG in the folder."""
        middle = len(self.ranked) // 2
        orders = {
            "worst": self.ranked,
            "best": self.ranked[::-1],
            "median": sorted(self.ranked, key=lambda case_id: abs(self.ranked.index(case_id) - middle)),
        }
        shown: dict[str, ShownCase] = {}
        for rank, order in orders.items():
            taken = {case.case_id for case in shown.values()}
            volumes = self._first_readable(case_id for case_id in order if case_id not in taken)
            if volumes is not None:
                shown[rank] = _show_case(rank, volumes, folder)
        return [shown[rank] for rank in ("best", "median", "worst") if rank in shown]

    def _first_readable(self, case_ids: Iterable[str]) -> CaseVolumes | None:
        loaded = (self._load(case_id, self.run.modalities) for case_id in case_ids)
        return next((volumes for volumes in loaded if volumes is not None), None)

    def _load(self, case_id: str, modalities: Sequence[str]) -> CaseVolumes | None:
        """Read a case, or return None if that fails. The first problem of each case is kept."""
        volumes = None
        try:
            volumes = load_volumes(self.files[case_id], modalities)
            text = compare_with_scores(volumes, self.run.by_case[case_id])
        except (ValueError, OSError) as error:
            text = str(error)
        if text:
            self.problems.setdefault(case_id, CaseProblem(case_id, text))
        return volumes


def _show_case(rank: str, volumes: CaseVolumes, folder: Path) -> ShownCase:
    title = f"{rank}: {volumes.case_id}".encode(errors="replace").decode()
    title = title.replace("$", r"\$")  # matplotlib reads formulas between dollars
    image, ref, pred = volumes.image, volumes.ref, volumes.pred
    save_preview(folder / f"{rank}.png", image, volumes.modalities, pred, ref, title, volumes.spacing_mm, write_owned)
    z = volumes.shown_slice
    viewer = None if rank == "median" else make_viewer(volumes, border_sequences(volumes.modalities), z)
    return ShownCase(rank, volumes.case_id, case_panels(volumes, z), viewer)
