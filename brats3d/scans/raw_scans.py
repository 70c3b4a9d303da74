"""Prepare the raw scans among the cases to segment, and bring their segmentations into their own space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brats3d.cases import FoundCases, make_case, name_some, natural_key, scan_cases
from brats3d.errors import DataError, UsageError
from brats3d.files import (
    Failures,
    Header,
    make_header,
    read_header,
    remove_leftovers,
    take_shard,
    writable_folder,
)
from brats3d.labels import MODALITIES, LabelConvention, order_modalities
from brats3d.scans.dicom_series import DicomSeries
from brats3d.scans.extra import import_extra
from brats3d.scans.find_scans import RawCase
from brats3d.scans.itk_images import Grid
from brats3d.scans.mixed_folders import find_cases_and_series, is_raw
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

        Raw scans are what :func:`brats3d.scans.find_scans.find_series` finds, and the cases that need preparation by
        :func:`brats3d.scans.mixed_folders.is_raw`.

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
        found, series = find_cases_and_series(roots, modalities, absent_sequences)
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
