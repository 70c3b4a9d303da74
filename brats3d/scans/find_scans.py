"""Find raw scans: folders of DICOM series, of image files, or of such folders; and read those of one case."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from brats3d.cases import (
    check_case_id,
    check_folder,
    folder_case_id,
    name_some,
    natural_key,
    scan_cases,
    signature,
    states_patient,
)
from brats3d.errors import DataError
from brats3d.files import read_volume
from brats3d.labels import MODALITIES
from brats3d.scans.choose_series import Choice, Source, choose_series
from brats3d.scans.dicom_headers import DicomImage, read_headers
from brats3d.scans.dicom_series import DicomSeries, group_series, read_series
from brats3d.scans.image_folders import image_folders, several_patients
from brats3d.scans.scan import Scan

logger = logging.getLogger("brats3d")


@dataclass(frozen=True, eq=False)
class RawCase:
    """The scans of one patient on disk.

    Args:
        case_id: from the names of folders or image files, never from a DICOM tag.
        folder: the folder that holds them.
        sources: modality -> image file or DICOM series, in the order of :data:`brats3d.labels.MODALITIES`.
        skipped: the names of all other series, each with the reason.
        problem: why the case cannot be used; None if it can.
    """

    case_id: str
    folder: Path
    sources: Mapping[str, Source]
    skipped: Sequence[str] = ()
    problem: DataError | None = None

    def fingerprint(self) -> str:
        """Return a digest that nearly always differs if the scans differ. Little is read of each file.

        Raises:
            DataError, OSError: if a file cannot be read.
        """
        files = {
            modality: [source] if isinstance(source, Path) else sorted(image.path for image in source.images)
            for modality, source in self.sources.items()
        }
        content = [(modality, *map(signature, paths)) for modality, paths in files.items()]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:20]


def find_scans(folder: str | os.PathLike[str]) -> list[RawCase]:
    """Find the raw scans in a folder and below it. Only headers are read.

    A folder with the DICOM files of one study, mixed or in subfolders, is a case; so is a folder of image files whose
    names state their sequences. A folder of several studies is searched for such folders.

    Args:
        folder: one patient's folder, or a folder above several.

    Returns:
        The cases in the natural order of their identifiers, including those that cannot be used: their ``problem`` says
        why, and :func:`read_scans` raises it, so that the other cases go on.

    Raises:
        NotFoundError, UsageError: if ``folder`` is no folder, or if pydicom is needed and not installed.
        DataError: if it contains no scan.
    """
    root = check_folder(folder, "scans")
    named = _named_cases(root)
    series = _series_cases(root, named)
    cases = [_checked(case) for case in _with_unique_ids(root, series + _outside(series, named))]
    if not cases:
        raise DataError(
            root, "contains no scan", expected="DICOM files, or image files whose names state their sequences"
        )
    return sorted(cases, key=lambda case: natural_key(case.case_id))


def find_series(folder: str | os.PathLike[str]) -> list[RawCase]:
    """Find the raw scans in a folder that :func:`brats3d.cases.scan_cases` does not.

    These are DICOM series, and images whose names state a series but no case, such as ``003_AX_T1.nii.gz``. A single
    image is ignored if ``scan_cases`` finds cases, since it may belong to none.

    Raises:
        NotFoundError, UsageError: as of :func:`find_scans`.
    """
    root = check_folder(folder)
    named = _named_cases(root)
    series = [case for case in _series_cases(root, named) if not (named and _is_single_image(case))]
    return [_checked(case) for case in _with_unique_ids(root, series)]


def read_scans(case: RawCase) -> dict[str, Scan]:
    """Read the scans of a case.

    Raises:
        DataError: if the case or one of its files cannot be used.
    """
    if case.problem:
        raise case.problem
    scans = {}
    for modality, source in case.sources.items():
        if isinstance(source, DicomSeries):
            volume, stack = read_series(source)
            scans[modality] = Scan(modality, volume, source.name, stack.files)
        else:
            scans[modality] = Scan(modality, read_volume(source), source.name)
        grid = scans[modality].volume.header
        size = " x ".join(f"{mm:.3g}" for mm in grid.spacing_mm)
        logger.info("%s: %s is %s, %s voxels of %s mm", case.case_id, modality, source.name, grid.shape, size)
    if case.skipped:
        logger.info("%s: not used: %s", case.case_id, "; ".join(case.skipped))
    return scans


def _places(images: Sequence[DicomImage], damaged: Sequence[Path]) -> dict[Path, tuple[list[DicomImage], list[Path]]]:
    """Return the folder of each case with its DICOM files: the readable headers, and the damaged files."""
    studies = {image.path: (image.patient, image.study, image.series) for image in images}
    folders = _split({**studies, **dict.fromkeys(damaged)})
    return {
        place: ([each for each in images if each.path in paths], [each for each in damaged if each in paths])
        for place, paths in folders.items()
    }


def _split(files: Mapping[Path, tuple[str, str, str] | None]) -> dict[Path, set[Path]]:
    """Return the files of each case, by its folder: the deepest one that holds a whole study.

    Args:
        files: path -> keys of patient, study and series; None for damaged files.
    """
    if not files:
        return {}
    common = Path(os.path.commonpath([path.parent for path in files]))
    below: dict[str, dict[Path, tuple[str, str, str] | None]] = {}
    for path, keys in files.items():
        below.setdefault(path.relative_to(common).parts[0], {})[path] = keys
    studies = {keys[:2] for keys in files.values() if keys}
    series = [{keys for keys in group.values() if keys} for group in below.values()]
    is_mixed = any(path.parent == common for path in files)
    one_patient = len({patient for patient, _ in studies}) == 1
    if len(studies) <= 1 or is_mixed or (one_patient and all(len(keys) == 1 for keys in series)):
        return {common: set(files)}
    return {place: paths for group in below.values() for place, paths in _split(group).items()}


def _dicom_case(folder: Path, images: Sequence[DicomImage], damaged: Sequence[Path]) -> RawCase:
    case_id = folder_case_id(folder)
    if damaged:
        problem = f"{len(damaged):,} DICOM file(s) end early or are damaged, such as {damaged[0].name}"
        return RawCase(case_id, folder, {}, problem=DataError(folder, problem, advice="export them again"))
    for what, keys in (("patients", [each.patient for each in images]), ("studies", [each.study for each in images])):
        if (count := len(set(filter(None, keys)))) > 1:
            problem = f"holds DICOM files of {count:,} {what}"
            error = DataError(folder, problem, expected="one study", advice="put each study into a folder of its own")
            return RawCase(case_id, folder, {}, problem=error)
    return _case(case_id, folder, choose_series(group_series(images)))


def _case(case_id: str, folder: Path, choice: Choice, problem: str = "") -> RawCase:
    """Return a case, with the problem that it has no T1-weighted scan if there is no other."""
    if not problem and not {"t1", "t1ce"} & choice.used.keys():
        found = [*(f"{source.name} ({modality})" for modality, source in choice.used.items()), *choice.skipped]
        problem = f"has no T1 and no T1ce, only {name_some(found, _MOST_NAMED)}"
    error = next(iter(choice.errors.values()), DataError(folder, problem) if problem else None)
    return RawCase(case_id, folder, choice.used, choice.skipped, error)


_MOST_NAMED = 10
"""Number of series in the message about a case without T1-weighted scan."""


def _series_cases(root: Path, named: Sequence[RawCase]) -> list[RawCase]:
    """Return the cases of DICOM series, and of converted series that do not lie among DICOM files or named cases.

    A single image above the folders of other cases, such as an atlas, is ignored.
    """
    cases = [_dicom_case(place, *files) for place, files in _places(*read_headers(root)).items()]
    images = _outside(cases, _image_cases(root, {case.folder for case in named}))
    above = {folder for case in (*cases, *images, *named) for folder in case.folder.parents}
    return [*cases, *(case for case in images if len(case.sources) > 1 or case.folder not in above)]


def _outside(cases: Iterable[RawCase], others: Iterable[RawCase]) -> list[RawCase]:
    """Return the other cases that do not lie among the DICOM files of the given ones."""
    folders = [case.folder for case in cases if not any(isinstance(each, Path) for each in case.sources.values())]
    return [other for other in others if not any(other.folder.is_relative_to(folder) for folder in folders)]


def _is_single_image(case: RawCase) -> bool:
    return len(case.sources) == 1 and isinstance(next(iter(case.sources.values())), Path)


def _image_cases(root: Path, taken: Collection[Path]) -> Iterator[RawCase]:
    """Yield the cases of converted series, one in each folder that is not taken."""
    for place, paths in image_folders(root).items():
        choice = choose_series(paths if place not in taken else [])
        if choice.used or choice.errors:
            yield _case(folder_case_id(place), place, choice, several_patients(paths))


def _named_cases(root: Path) -> list[RawCase]:
    """Return the cases that :func:`brats3d.cases.scan_cases` finds, except those that are only named for a series.

    The names of converted series, such as ``003_AX_T1`` and ``005_AX_FLAIR``, seem to name a case each; ``AX_T1`` and
    ``AX_FLAIR`` seem to name a case AX, beside ``3D_T1_MPRAGE``.
    """
    try:
        found = scan_cases(root, absent_sequences=True)
    except DataError:  # no case, or names that leave open to which case a file belongs
        return []
    problems = {problem.case_id: problem.text for problem in found.serious_problems()}
    folders = image_folders(root)
    place_of = {path: place for place, paths in folders.items() for path in paths}
    places = {case.case_id: place_of[next(iter(case.images.values()))] for case in found.cases if case.images}
    counts = Counter(places.values())
    named = []
    for case in (case for case in found.cases if case.images):
        place = places[case.case_id]
        others = choose_series(sorted(found.unread.get(case.case_id, ()), key=lambda path: natural_key(path.name)))
        if len(case.images) > 1:
            names_patient = states_patient(case.case_id) or case.case_id == folder_case_id(place)
            is_complete = names_patient and others.used.keys() <= case.images.keys()
            is_named = counts[place] > 1 or is_complete or not others.used
        else:
            is_named = counts[place] == 1 and choose_series(folders[place]).used.keys() <= case.images.keys()
        if is_named:
            choice = _with_others(case.images, others)
            named.append(_case(case.case_id, place, choice, problems.get(case.case_id, "")))
    return named


def _with_others(images: Mapping[str, Path], others: Choice) -> Choice:
    """Return the images of a case, and for the sequences that it lacks those with unusual names."""
    used = {m: images.get(m) or others.used[m] for m in MODALITIES if m in images or m in others.used}
    skipped = [f"{others.used[m].name} ({images[m].name} is used)" for m in others.used if m in images]
    errors = {m: error for m, error in others.errors.items() if m not in images}
    return Choice(used, [*others.skipped, *skipped], errors)


def _with_unique_ids(root: Path, cases: Sequence[RawCase]) -> list[RawCase]:
    """Rename cases of the same identifier after their path below the root."""
    counts = Counter(case.case_id for case in cases)
    path_of = {id(case): "_".join(case.folder.relative_to(root).parts) or case.case_id for case in cases}
    return [replace(case, case_id=path_of[id(case)]) if counts[case.case_id] > 1 else case for case in cases]


def _checked(case: RawCase) -> RawCase:
    """Return a case with a problem if its identifier cannot be part of a file name."""
    try:
        check_case_id(case.case_id)
    except DataError as error:
        return replace(case, problem=error)
    return case
