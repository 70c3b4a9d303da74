"""The audit of a data set: every file is read once, and what is wrong or worth knowing is gathered.

Two cases are read at a time, one volume of each in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from brats3d import __version__
from brats3d.audit.case_audit import CaseRecord, audit_case
from brats3d.audit.findings import Finding, make_finding
from brats3d.cases import (
    DATALIST_NAME,
    Case,
    NameMapping,
    Problem,
    header_problems,
    identical_files,
    layout_of,
    parse_file_name,
    read_datalist,
    read_name_mappings,
    scan_cases,
    unite_patients,
    unmapped_releases,
)
from brats3d.files import read_volume
from brats3d.labels import CONVENTIONS, MODALITIES, REGIONS_TO_READ, get_convention, order_modalities


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        roots: the folders that were searched.
        modalities: the sequences that were looked at.
        label_convention: the one that was given; None where the cases' names decide.
        cases: every case, with the files that it has.
        findings: of the whole set first, then case by case.
        figures: of the whole set: counts, volumes, spacings.
    """

    roots: tuple[Path, ...]
    modalities: tuple[str, ...]
    label_convention: str | None
    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    figures: Mapping[str, Any] = field(hash=False)

    @property
    def ok(self) -> bool:
        """Whether a training on this data set does what it should."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def about(self) -> dict[str, Any]:
        """What was audited, as what, and by which version: the head of whatever is written of it."""
        return {
            "brats3d": __version__,
            "dataset_dir": [str(root) for root in self.roots],
            "modalities": list(self.modalities),
            "label_convention": self.label_convention,
        }


def audit_dataset(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str] = MODALITIES,
    label_convention: str | None = None,
    progress: bool = True,
    workers: int = 2,
) -> Audit:
    """Read every file of a data set once and say what is wrong with it. Nothing is changed.

    Whatever :func:`brats3d.cases.load_fold` or the preparation of a case would refuse is an error here; but for
    too few patients to train on, which is a warning: a folder of validation cases is none to train on.

    Args:
        dataset_dir: as for :func:`brats3d.cases.find_cases`.
        modalities: the sequences that every case must have; others are not looked at.
        label_convention: what the labels mean; None: what the cases' names say.
        progress: show a progress bar.
        workers: how many cases are read at the same time.

    Raises:
        FileNotFoundError: if ``dataset_dir`` does not exist.
        ValueError: if it holds no case, or an argument is outside its valid set.
    """
    modalities = order_modalities(modalities)
    if label_convention is not None:
        get_convention(label_convention)
    scan = scan_cases(dataset_dir, modalities)
    mapping, found = _read_mappings(scan.roots)
    patient_of = {case.case_id: case.patient_id for case in unite_patients(scan.cases, mapping)}
    listed = None
    if not found or found[0].kind != "name mapping":  # without the mapping, the folds cannot be judged
        listed, wrong = _read_folds(scan.roots, scan.cases, modalities)
        found += wrong
    if listed is None:
        found += _find_too_few(scan.cases, patient_of)
    if doubt := unmapped_releases(scan.cases, mapping):
        found.append(make_finding("releases without mapping", "", None, doubt))
    stated = {case.label: case.convention for case in listed or ()}
    cases = [replace(case, convention=stated.get(case.label, case.convention)) for case in scan.cases]
    records = _read_all(cases, label_convention, progress, workers)
    of_case: dict[str, list[Finding]] = {case.case_id: [] for case in cases}
    for finding in (
        *_name_findings(scan.problems),
        *_find_missing_labels(cases, scan.problems),
        *(finding for record in records for finding in record.findings),
        *_find_copies(records),
        *_find_patients(cases, patient_of),
    ):
        of_case[finding.case_id].append(finding)
    found += _find_unknown_conventions(records, label_convention)
    found += [finding for case in cases for finding in of_case[case.case_id]]
    figures = _figures(records, mapping, patient_of, label_convention)
    return Audit(scan.roots, modalities, label_convention, tuple(cases), tuple(found), figures)


def _read_all(cases: Sequence[Case], label_convention: str | None, progress: bool, workers: int) -> list[CaseRecord]:
    from tqdm import tqdm

    pool = ThreadPoolExecutor(workers)  # zlib and numpy work outside the interpreter's lock
    try:
        records = pool.map(partial(audit_case, label_convention=label_convention), cases)
        return list(tqdm(records, desc="audit", unit="case", total=len(cases), disable=not progress))
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the rest


def _name_findings(problems: Sequence[Problem]) -> Iterator[Finding]:
    names_in = cache(_names_by_case)  # flat data have a problem a case, all with the same folders
    for problem in problems:
        repairable = True
        if problem.kind == "double":
            repairable = _all_equal(problem.files)
        elif problem.kind == "case twice":
            repairable = _equal_folders(problem.files, problem.case_id, names_in)
        yield make_finding(problem.kind, problem.case_id, problem.files[0], problem.text, repairable)


def _all_equal(files: Sequence[Path]) -> bool:
    try:
        return any(len(group) == len(files) for group in identical_files(files))
    except ValueError:
        return False


def _equal_folders(
    folders: Sequence[Path], case_id: str, names_in: Callable[[Path], Mapping[str | None, list[str]]]
) -> bool:
    """Whether the case has the same names with the same contents in all of them; others' files may lie beside them."""
    names = [sorted(name for owner in (case_id, None) for name in names_in(each).get(owner, ())) for each in folders]
    return all(each == names[0] for each in names) and all(
        _all_equal([folder / name for folder in folders]) for name in names[0]
    )


def _names_by_case(folder: Path) -> Mapping[str | None, list[str]]:
    """Case identifier -> the names in a folder that state it; those that state none are None's."""
    names: dict[str | None, list[str]] = {}
    for path in folder.iterdir():
        parsed = parse_file_name(path.name)
        if not path.name.startswith("."):
            names.setdefault(parsed[0] or None if parsed else None, []).append(path.name)
    return names


def _find_missing_labels(cases: Sequence[Case], problems: Sequence[Problem]) -> Iterator[Finding]:
    explained = {problem.case_id for problem in problems if problem.kind in ("ambiguous", "double")}
    for case in cases:
        if case.label is None and case.case_id not in explained:
            yield make_finding("no segmentation", case.case_id, None, "has no segmentation; validation cases have none")


def _find_copies(records: Sequence[CaseRecord]) -> Iterator[Finding]:
    """The same voxels as the image of another case, or as another sequence of the case.

    Segmentations are not held against each other: two lesions of one voxel, or none, may well be the same. They only
    tell a copied case from one that has another's images.
    """
    of_case = {record.case.case_id: record for record in records}
    groups = list(_equal_images(records))
    group_of = {image: i for i, group in enumerate(groups) for image in group}
    original_of: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for case_id in dict.fromkeys(case_id for group in groups for case_id, _ in group):
        record = of_case[case_id]
        images = tuple((modality, group_of.get((case_id, modality), -1)) for modality in record.case.images)
        whole = (record.label is None) == (record.case.label is None) and all(group >= 0 for _, group in images)
        if whole and (original := first.setdefault((images, record.label), case_id)) != case_id:
            original_of[case_id] = original
            yield make_finding("same case", case_id, None, f"every file equals {original}'s; expected others")
    for group in groups:
        yield from _find_in_equals(group, of_case, original_of)


def _find_in_equals(
    group: Sequence[tuple[str, str]], records: Mapping[str, CaseRecord], original_of: Mapping[str, str]
) -> Iterator[Finding]:
    """What is said of images that are equal: nothing of a copied case's, whose every file equals its original's."""
    paths: dict[str, list[Path]] = {}
    for case_id, modality in group:
        paths.setdefault(case_id, []).append(records[case_id].images[modality][0])
    for case_id, (path, *more) in paths.items():
        for twin in more:
            yield make_finding("one sequence twice", case_id, twin, f"equals {path.name}; expected another sequence")
    originals = [case_id for case_id in paths if original_of.get(case_id) not in paths]
    for case_id in originals if len(originals) > 1 else ():
        others = ", ".join(other for other in originals if other != case_id)
        what = f"equals a file of {others}; expected two cases to differ"
        yield make_finding("same file", case_id, paths[case_id][0], what)


def _equal_images(records: Sequence[CaseRecord]) -> Iterator[list[tuple[str, str]]]:
    """Groups of two or more images, as (case_id, modality), with equal voxels.

    Those with one fingerprint are read again, two in memory at a time.
    """
    paths: dict[tuple[str, str], Path] = {}
    alike: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    for record in records:
        for modality, (path, mark) in record.images.items():
            paths[record.case.case_id, modality] = path
            alike.setdefault(mark, []).append((record.case.case_id, modality))
    for candidates in alike.values():
        while len(candidates) > 1:
            equal = [image for image in candidates[1:] if _same_voxels(paths[candidates[0]], paths[image])]
            if equal:
                yield [candidates[0], *equal]
            candidates = [image for image in candidates[1:] if image not in equal]


def _same_voxels(a: Path, b: Path) -> bool:
    try:
        first, second = read_volume(a).values, read_volume(b).values
    except (ValueError, MemoryError):  # it could be read before: gone since then, or no memory for both
        return False
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def _read_mappings(roots: Sequence[Path]) -> tuple[NameMapping, list[Finding]]:
    try:
        mapping = read_name_mappings(roots)
    except ValueError as error:
        return NameMapping(), [make_finding("name mapping", "", None, str(error))]
    text = "is a mapping of patients' names in a form that brats3d cannot read; expected CSV"
    return mapping, [make_finding("spreadsheet", "", path, text) for path in mapping.spreadsheets]


def _find_patients(cases: Sequence[Case], patient_of: Mapping[str, str]) -> Iterator[Finding]:
    """Patients with several cases: under the names of several releases, or several time points."""
    patients: dict[str, list[Case]] = {}
    for case in cases:
        patients.setdefault(patient_of[case.case_id], []).append(case)
    for patient, own in patients.items():
        if len(own) > 1:
            kind = "other release" if len({layout_of(case.case_id).name for case in own}) > 1 else "time points"
            names = ", ".join(case.case_id for case in own)
            yield make_finding(kind, own[0].case_id, None, f"patient {patient} has {len(own)} cases: {names}")


def _find_too_few(cases: Sequence[Case], patient_of: Mapping[str, str]) -> Iterator[Finding]:
    patients = {patient_of[case.case_id] for case in cases if case.label}
    if len(patients) < 2:
        text = (
            f"{len(patients)} patient(s) have a segmentation: a training on this folder alone will be refused; "
            "expected two or more"
        )
        yield make_finding("too few patients", "", None, text)


def _read_folds(
    roots: Sequence[Path], cases: Sequence[Case], modalities: Sequence[str]
) -> tuple[list[Case] | None, list[Finding]]:
    """The cases of a datalist.json, which a training takes instead of its own split; None where there is none.

    Headers of the cases that it makes of other files than those that were found are looked at here.
    """
    place = roots[0] if len(roots) == 1 else list(roots)
    try:
        parts = read_datalist(place, modalities)
    except (ValueError, OSError) as error:
        return [], [make_finding("datalist", "", roots[0] / DATALIST_NAME, " ".join(str(error).split()))]
    if parts is None:
        return None, []
    listed = [case for part in parts for case in part]
    known = {frozenset(case.files) for case in cases}
    problems = [text for case in listed if frozenset(case.files) not in known for text in header_problems(case)]
    found = [make_finding("datalist", "", roots[0] / DATALIST_NAME, f"lists a case of which {p}") for p in problems]
    return listed, found


def _find_unknown_conventions(records: Sequence[CaseRecord], label_convention: str | None) -> list[Finding]:
    """One finding for all cases whose names do not say what their labels mean."""
    unknown = [each for each in records if each.case.label and not (label_convention or each.case.convention)]
    if not unknown:
        return []
    values = sorted({value for record in unknown for value in record.labels})
    names = {name for record in unknown for name in layout_of(record.case.case_id).conventions} or CONVENTIONS
    fitting = [CONVENTIONS[name] for name in CONVENTIONS if name in names and CONVENTIONS[name].values >= set(values)]
    text = (
        f"the names of {len(unknown)} case(s), such as {unknown[0].case.case_id}, do not say what their labels mean; "
        f"found {', '.join(f'{v:g}' for v in values)}; "
        f"expected one convention: {' or '.join(each.name for each in fitting) or 'none that is known'} fits"
    )
    return [make_finding("label convention", "", None, text)]


def _figures(
    records: Sequence[CaseRecord],
    mapping: NameMapping,
    patient_of: Mapping[str, str],
    label_convention: str | None = None,
) -> dict[str, Any]:
    """Figures of a whole data set; regions' volumes over the cases in which the region is present."""
    cases = [record.case for record in records]
    patients = Counter(patient_of[case.case_id] for case in cases)
    measured = [record.volume_ml for record in records if record.volume_ml]
    return {
        "cases": len(cases),
        "patients": len(patients),
        "patients_with_several_cases": sum(n > 1 for n in patients.values()),
        "cases_with_segmentation": sum(case.label is not None for case in cases),
        "gigabytes_read": sum(record.n_bytes for record in records) / 1e9,
        "grades": _counts(mapping.grade_of(case) or "unknown" for case in cases),
        "layouts": _counts(case.layout for case in cases),
        "label_conventions": _counts(label_convention or case.convention or "unknown" for case in cases if case.label),
        "shapes": _counts(" x ".join(map(str, record.shape)) for record in records if record.shape),
        "spacings_mm": _counts(" x ".join(f"{s:.3g}" for s in each.spacing_mm) for each in records if each.spacing_mm),
        "cases_measured": len(measured),
        "et_free_cases": sum(not volumes["ET"] for volumes in measured),
        "volume_ml": {region: _summary([volumes[region] for volumes in measured]) for region in REGIONS_TO_READ},
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _summary(volumes_ml: Sequence[float]) -> dict[str, float] | None:
    present = [volume for volume in volumes_ml if volume]
    if not present:
        return None
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    quartiles = np.percentile(present, (0, 25, 50, 75, 100)).tolist()
    return {"cases": len(present), **dict(zip(names, quartiles, strict=True))}
