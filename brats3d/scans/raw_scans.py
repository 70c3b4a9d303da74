"""The raw scans among the cases that are to be segmented: prepared before, and segmented in their own space after."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brats3d.cases import (
    Case,
    FoundCases,
    make_case,
    name_some,
    natural_key,
    scan_cases,
    spacing_warning,
)
from brats3d.errors import DataError, UsageError
from brats3d.files import (
    Failures,
    Header,
    make_header,
    read_header,
    read_volume,
    remove_leftovers,
    take_shard,
    writable_folder,
)
from brats3d.labels import MODALITIES, LabelConvention, order_modalities
from brats3d.scans.choose_series import FULL_COVERAGE_MM
from brats3d.scans.condition import is_head
from brats3d.scans.dicom_series import DicomSeries
from brats3d.scans.extra import NotInstalledError, import_extra
from brats3d.scans.find_scans import RawCase, find_series
from brats3d.scans.itk_images import Grid
from brats3d.scans.native_space import to_native_space
from brats3d.scans.prepare_folder import prepare_once
from brats3d.scans.prepared_files import read_native_spaces

logger = logging.getLogger("brats3d")

PREPARED = "prepared"
"""The folder of the prepared cases in the output folder."""

BRATS_SPACE = "brats_space"
"""The folder of the segmentations of raw cases in BraTS space, in the output folder."""


class RawScans:
    """Prepares the cases of a data set that are raw scans, and brings their segmentations into the space of the scans.

    Prepared cases are written to ``<output_dir>/prepared``, as by :func:`brats3d.scans.prepare_scans`.

    Args:
        output_dir: the folder of the segmentations.
        failures: records the cases that cannot be prepared.
        native_space: the sequence in whose space the segmentations are; cases without T1ce use T1 in its place.
        shard: the part of the cases to prepare, such as ``"3/8"``.
        prepare: False treats all cases as prepared.

    Raises:
        UsageError: if there is no such sequence.
    """

    def __init__(
        self,
        output_dir: str | Path,
        failures: Failures,
        native_space: str = "t1ce",
        shard: str | None = None,
        prepare: bool = True,
    ) -> None:
        if native_space not in MODALITIES:
            raise UsageError("native_space", expected=f"one of {', '.join(MODALITIES)}", found=native_space)
        self.folder = Path(output_dir) / PREPARED
        self.failures = failures
        self.native_space = native_space
        self.shard = shard
        self.prepare = prepare
        self._prepared: dict[str, RawCase] = {}

    def __contains__(self, case_id: object) -> bool:
        """Return True if a case was raw and is prepared now."""
        return case_id in self._prepared

    def search(
        self,
        dataset_dir: str | Path | Sequence[str | Path],
        modalities: Sequence[str] = MODALITIES,
        absent_sequences: bool = False,
    ) -> FoundCases:
        """Find cases as :func:`brats3d.cases.scan_cases` does, and raw scans; prepare the raw ones of the shard.

        Raw scans are DICOM series, images that are named for their series, and other cases by :func:`is_raw`.

        Returns:
            All cases; the images of raw ones are prepared, or missing if that failed or they are not in the shard.

        Raises:
            NotFoundError, UsageError, DataError: as of ``scan_cases``, if there are no raw scans either.
            UsageError: if the output folder lies among the raw scans, or pydicom is needed and not installed.
            OSError: if the disk fills up.
        """
        if not self.prepare or not dataset_dir:
            return scan_cases(dataset_dir, modalities, absent_sequences)
        roots = [dataset_dir] if isinstance(dataset_dir, str | Path) else list(dataset_dir)
        found, series = _find(roots, modalities, absent_sequences)
        unusable = {problem.case_id for problem in found.serious_problems()}
        cases = {case.case_id: case for case in found.cases}
        cases |= {case_id: make_case(case_id, {}, None) for case_id in series}
        part = take_shard(sorted(cases, key=natural_key), self.shard)
        raw = {case_id: series[case_id] for case_id in part if case_id in series}
        named = [cases[case_id] for case_id in part if case_id not in series and case_id not in unusable]
        if raw_named := list(filter(is_raw, named)):
            # Prepare all sequences: the others need T1 or T1ce, and a later run may use other ones.
            images = {case.case_id: case.images for case in scan_cases(found.roots, absent_sequences=True).cases}
            for case in raw_named:
                sources = images.get(case.case_id, case.images)
                raw[case.case_id] = RawCase(case.case_id, case.files[0].parent, sources)
        if raw:
            self._prepare(roots, raw, modalities, absent_sequences)
            cases |= {name: make_case(name, self._images(name, modalities), None) for name in raw if name in self}
        problems = tuple(problem for problem in found.problems if problem.case_id in cases.keys() - series.keys())
        return replace(found, cases=tuple(cases[name] for name in sorted(cases, key=natural_key)), problems=problems)

    def to_native(self, case_id: str, label: np.ndarray, convention: LabelConvention) -> tuple[np.ndarray, Header]:
        """Bring the segmentation of a prepared case into the space of its raw scan.

        Args:
            case_id: the case.
            label: uint8, on the grid of the prepared case.
            convention: the label convention.

        Returns:
            The segmentation, and a header with the geometry of the raw scan.
        """
        modality, source = self._space(self._prepared[case_id])
        space = read_native_spaces(self.folder / case_id)[modality]
        grid = Grid.of(read_header(self._images(case_id, [modality])[modality]))
        native = to_native_space(label, grid, space, convention)
        if isinstance(source, Path):
            return native, read_header(source)
        return native, make_header(source.folder, native.shape, space.grid.affine, native.dtype)

    def dicom_files(self, case_id: str) -> tuple[Path, ...]:
        """Return the files of the DICOM series that has the space of the segmentation; empty for all other cases."""
        if case_id not in self:
            return ()
        _, source = self._space(self._prepared[case_id])
        return tuple(image.path for image in source.images) if isinstance(source, DicomSeries) else ()

    def _prepare(
        self,
        roots: Sequence[str | Path],
        raw: Mapping[str, RawCase],
        modalities: Sequence[str],
        absent_sequences: bool,
    ) -> None:
        for root in roots:
            if self.folder.resolve().is_relative_to(Path(root).resolve()):
                raise UsageError("output_dir", expected=f"a folder outside {root}", found=str(self.folder.parent))
        writable_folder(self.folder)
        remove_leftovers(self.folder)
        logger.info("Raw scans, to be prepared first (docs/scans.md): %s", name_some(sorted(raw, key=natural_key)))
        for case_id, case in raw.items():
            self.failures.folders[case_id] = str(case.folder)
            with self.failures.catch(case_id):
                self._check_sequences(case, modalities, absent_sequences)
                prepare_once(case, self.folder)
                self._prepared[case_id] = case

    def _check_sequences(self, case: RawCase, modalities: Sequence[str], absent_sequences: bool) -> None:
        if case.problem:
            raise case.problem
        if isinstance(self._space(case)[1], DicomSeries):
            import_extra("highdicom")  # the segmentation will need it
        absent = [name for name in modalities if name not in case.sources]
        if absent and (not absent_sequences or len(absent) == len(modalities)):
            raise DataError(case.case_id, f"has no {', '.join(absent)}", advice="see --modalities")

    def _space(self, case: RawCase) -> tuple[str, Path | DicomSeries]:
        """Return the sequence in whose space the segmentation is, with its source."""
        name = "t1" if self.native_space == "t1ce" and "t1ce" not in case.sources else self.native_space
        if name not in case.sources:
            found = ", ".join(case.sources)
            raise DataError(case.case_id, f"has no {name}, the native_space", expected=f"one of {found}")
        return name, case.sources[name]

    def _images(self, case_id: str, modalities: Sequence[str]) -> dict[str, Path]:
        """Return the prepared images of a case, of those sequences that it has."""
        folder, sources = self.folder / case_id, self._prepared[case_id].sources
        return {name: folder / f"{case_id}_{name}.nii.gz" for name in order_modalities(modalities) if name in sources}


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


def _find(
    roots: Sequence[str | Path], modalities: Sequence[str], absent_sequences: bool
) -> tuple[FoundCases, dict[str, RawCase]]:
    """Return the cases that ``scan_cases`` finds in folders, and those that :func:`find_series` finds.

    Of files that both find, the former are dropped.
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
