"""Find the cases of BraTS and the raw scans in folders that may hold both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brats3d.cases import Case, FoundCases, scan_cases, spacing_warning
from brats3d.errors import DataError
from brats3d.files import read_header, read_volume
from brats3d.scans.choose_series import FULL_COVERAGE_MM
from brats3d.scans.condition import is_head
from brats3d.scans.extra import NotInstalledError
from brats3d.scans.find_scans import RawCase, find_series

logger = logging.getLogger("brats3d")


def find_cases_and_series(
    roots: Sequence[str | Path], modalities: Sequence[str], absent_sequences: bool
) -> tuple[FoundCases, dict[str, RawCase]]:
    """Return the cases that ``scan_cases`` finds in folders, and those that :func:`find_series` finds.

    If both find a case in the same files, that of ``find_series`` is returned.

    Raises:
        NotFoundError, UsageError, DataError: as of ``scan_cases``, if a folder contains no series either.
        UsageError: if a folder contains only DICOM files, and pydicom is not installed.
    """
    series: dict[str, RawCase] = {}
    named = []
    for root in roots:
        try:
            here, not_installed = find_series(root), None
        except NotInstalledError as error:
            here, not_installed = [], error
        try:
            scan_cases(root, modalities, absent_sequences)
        except DataError as error:
            if not here:
                raise not_installed or error from None
        else:
            named.append(root)
            if not_installed:
                logger.warning("%s: DICOM files are not read: %s", root, not_installed)
        for case in here:
            other = series.get(case.case_id)
            series[case.case_id] = _found_twice(case, other.folder) if other else case
    if not named:
        return FoundCases(tuple(map(Path, roots)), (), (), ""), series
    found = scan_cases(named, modalities, absent_sequences)
    cases = [each for each in found.cases if not any(_lies_in(each, raw) for raw in series.values())]
    for each in cases:
        if raw := series.get(each.case_id):
            series[each.case_id] = _found_twice(raw, each.files[0].parent)
    ignored = [path for path in found.ignored if not any(path.is_relative_to(raw.folder) for raw in series.values())]
    return replace(found, cases=tuple(cases), ignored=tuple(ignored)), series


def is_raw(case: Case) -> bool:
    """Return True if a case needs preparation, by its headers and one image.

    Its images have different shapes or voxels of another size than 1 mm, or show a whole head. Small fields of view,
    such as crops, are left alone, and so are files that cannot be read: loading the case explains them.
    """
    try:
        headers = [read_header(path) for path in case.images.values()]
        if (
            not headers
            or min(np.multiply(header.shape, header.spacing_mm).min() for header in headers) < FULL_COVERAGE_MM
        ):
            return False
        if any(map(spacing_warning, headers)) or len({header.shape for header in headers}) > 1:
            return True
        volume = read_volume(headers[0].path)
    except (ValueError, OSError):
        return False
    return bool(np.isfinite([volume.values.min(), volume.values.max()]).all()) and is_head(volume)


def _found_twice(case: RawCase, other: Path) -> RawCase:
    """Return a case with a problem if a case of the same name lies in another folder; links to its folder are fine."""
    if case.folder.resolve() == other.resolve():
        return case
    text = f"found in 2 folders: {other}, {case.folder}"
    return replace(case, problem=DataError(case.case_id, text, expected="one", advice="pass the folder to use"))


def _lies_in(case: Case, raw: RawCase) -> bool:
    """Return True if the files of a case are among those of a raw case."""
    images = {source for source in raw.sources.values() if isinstance(source, Path)}
    if not images:  # DICOM
        return any(path.is_relative_to(raw.folder) for path in case.files)
    return any(path in images or path.parent == raw.folder for path in case.files)
