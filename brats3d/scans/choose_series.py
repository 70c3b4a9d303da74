"""Choose the series of a study that show the four sequences, and say why the others are not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats3d.errors import DataError
from brats3d.files import read_header
from brats3d.labels import MODALITIES
from brats3d.scans.dicom_series import DicomSeries, is_one_plane, stack_slices
from brats3d.scans.series_kind import SeriesKind, is_original, kind_of_name, kind_of_series

Source = Path | DicomSeries
"""An image file, or a DICOM series."""

FULL_COVERAGE_MM = 100
"""A scan of the whole brain is at least this large along every axis; a brain is about 130 mm high."""


@dataclass(frozen=True)
class Choice:
    """The scans of one patient.

    Args:
        used: modality -> source, in the order of :data:`brats3d.labels.MODALITIES`.
        skipped: the name of each other series, with the reason.
        errors: modality -> why its only series cannot be used.
    """

    used: Mapping[str, Source]
    skipped: Sequence[str]
    errors: Mapping[str, DataError]


def choose_series(sources: Sequence[Source]) -> Choice:
    """Choose one source for each sequence: of several, one that covers the brain, is original, and has fine voxels.

    Only headers are read. Of equal ones the last is used, since technicians repeat a scan that failed; of T1 the first,
    since a later one may lack the words that it was acquired after the contrast agent.
    """
    candidates: dict[str, list[Source]] = {modality: [] for modality in MODALITIES}
    used: dict[str, Source] = {}
    skipped: list[str] = []
    errors: dict[str, DataError] = {}
    for source in sources:
        kind = _kind_of(source)
        if kind.modality:
            candidates[kind.modality].append(source)
        else:
            skipped.append(f"{source.name} ({kind.reason})")
    for modality, group in candidates.items():
        ranks: dict[int, tuple[bool, bool, float, int]] = {}
        failed: dict[int, DataError] = {}
        for i, source in enumerate(group):
            try:
                ranks[i] = _rank(source)
            except DataError as error:
                failed[i] = error
        if ranks:
            best = max(ranks, key=lambda i: (ranks[i], -i if modality == "t1" else i))
            used[modality] = group[best]
            skipped += [f"{group[i].name} ({group[best].name} is the better {modality})" for i in ranks if i != best]
            skipped += [_unusable(group[i], error) for i, error in failed.items()]
        elif failed:
            errors[modality] = failed[0]
    return Choice(used, skipped, errors)


def _kind_of(source: Source) -> SeriesKind:
    if isinstance(source, Path):
        return kind_of_name(source.name)
    kind = kind_of_series(source.tags)
    return kind if is_one_plane(source) else SeriesKind(None, "localiser: planes of several directions")


def _unusable(source: Source, error: DataError) -> str:
    return error.problem if isinstance(source, DicomSeries) else f"{source.name} ({error.problem})"


def _rank(source: Source) -> tuple[bool, bool, float, int]:
    """Return a sort key that is larger for better scans.

    Raises:
        DataError: if the source is no volume.
    """
    grid = read_header(source) if isinstance(source, Path) else stack_slices(source)
    if min(grid.shape) == 1:
        raise DataError(source.name, "has only one slice", expected="the slices of a volume")
    spacing_mm = np.array(grid.spacing_mm)
    covers = bool((spacing_mm * grid.shape >= FULL_COVERAGE_MM).all())
    original = isinstance(source, Path) or is_original(source.tags)
    return covers, original, -float(spacing_mm.max()), grid.shape[2]
