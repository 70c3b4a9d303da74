"""The audit of a data set: every file is read once, and what is wrong or worth knowing is gathered.

Two cases are read at a time, one volume of each in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.case_audit import CaseRecord, audit_case
from brats3d.cases import Case, scan_cases
from brats3d.discovery import Problem
from brats3d.duplicates import identical_files
from brats3d.findings import Finding, make_finding
from brats3d.labels import CONVENTIONS, MODALITIES, REGIONS_TO_READ, get_convention, order_modalities
from brats3d.layouts import layout_of
from brats3d.name_mapping import NameMapping, read_name_mappings

__all__ = ["Audit", "audit_dataset"]


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


def audit_dataset(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str] = MODALITIES,
    label_convention: str | None = None,
    progress: bool = True,
    workers: int = 2,
) -> Audit:
    """Read every file of a data set once and say what is wrong with it. Nothing is changed.

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
    records = _read_all(scan.cases, label_convention, progress, workers)
    of_case: dict[str, list[Finding]] = {case.case_id: [] for case in scan.cases}
    for finding in (
        *map(_name_finding, scan.problems),
        *_find_missing_labels(scan.cases, scan.problems),
        *(finding for record in records for finding in record.findings),
        *_find_equal_files(records),
        *_find_patients(scan.cases, mapping),
    ):
        of_case[finding.case_id].append(finding)
    found += _find_unknown_conventions(records, label_convention)
    found += [finding for case in scan.cases for finding in of_case[case.case_id]]
    figures = _figures(records, mapping, label_convention)
    return Audit(scan.roots, modalities, label_convention, scan.cases, tuple(found), figures)


def _read_all(cases: Sequence[Case], label_convention: str | None, progress: bool, workers: int) -> list[CaseRecord]:
    from tqdm import tqdm

    pool = ThreadPoolExecutor(workers)  # zlib and numpy work outside the interpreter's lock
    try:
        records = pool.map(partial(audit_case, label_convention=label_convention), cases)
        return list(tqdm(records, desc="audit", unit="case", total=len(cases), disable=not progress))
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the rest


# --- names


def _name_finding(problem: Problem) -> Finding:
    repairable = {"double": _all_equal, "case twice": _equal_folders}.get(problem.kind, bool)(problem.files)
    return make_finding(problem.kind, problem.case_id, problem.files[0], problem.text, repairable)


def _all_equal(files: Sequence[Path]) -> bool:
    try:
        return any(len(group) == len(files) for group in identical_files(files))
    except ValueError:
        return False


def _equal_folders(folders: Sequence[Path]) -> bool:
    """Whether the same names with the same contents lie in all of them."""
    names = [sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) for folder in folders]
    return all(each == names[0] for each in names) and all(
        _all_equal([folder / name for folder in folders]) for name in names[0]
    )


def _find_missing_labels(cases: Sequence[Case], problems: Sequence[Problem]) -> Iterator[Finding]:
    explained = {problem.case_id for problem in problems if problem.kind in ("ambiguous", "double")}
    for case in cases:
        if case.label is None and case.case_id not in explained:
            yield make_finding("no segmentation", case.case_id, None, "has no segmentation; validation cases have none")


# --- across cases


def _find_equal_files(records: Sequence[CaseRecord]) -> Iterator[Finding]:
    """The same file in two cases, or for two sequences of one case."""
    owner = {path: record.case for record in records for path in record.files}
    groups = identical_files(owner)
    group_of = {path: i for i, group in enumerate(groups) for path in group}
    original_of: dict[str, str] = {}
    first: dict[tuple[int, ...], str] = {}
    for case in dict.fromkeys(owner.values()):
        content = tuple(group_of.get(path, -1) for path in case.files)
        if -1 not in content and (original := first.setdefault(content, case.case_id)) != case.case_id:
            original_of[case.case_id] = original
            yield make_finding("same case", case.case_id, None, f"every file equals {original}'s; expected others")
    for group in groups:
        of_case: dict[str, list[Path]] = {}
        for path in group:
            of_case.setdefault(owner[path].case_id, []).append(path)
        for case_id, (path, *more) in of_case.items():
            for twin in more:
                yield make_finding(
                    "one sequence twice", case_id, twin, f"equals {path.name}; expected another sequence"
                )
        originals = [case_id for case_id in of_case if original_of.get(case_id) not in of_case]
        for case_id in originals if len(originals) > 1 else ():
            others = ", ".join(other for other in originals if other != case_id)
            what = f"equals a file of {others}; expected two cases to differ"
            yield make_finding("same file", case_id, of_case[case_id][0], what)


def _read_mappings(roots: Sequence[Path]) -> tuple[NameMapping, list[Finding]]:
    try:
        mapping = read_name_mappings(roots)
    except ValueError as error:
        return NameMapping(), [make_finding("name mapping", "", None, str(error))]
    text = "is a mapping of patients' names in a form that brats3d cannot read; expected CSV"
    return mapping, [make_finding("spreadsheet", "", path, text) for path in mapping.spreadsheets]


def _find_patients(cases: Sequence[Case], mapping: NameMapping) -> Iterator[Finding]:
    """Patients with several cases: under the names of several releases, or several time points."""
    patients: dict[str, list[Case]] = {}
    for case in cases:
        patients.setdefault(mapping.patient_of(case), []).append(case)
    for patient, own in patients.items():
        if len(own) > 1:
            kind = "other release" if len({layout_of(case.case_id).name for case in own}) > 1 else "time points"
            names = ", ".join(case.case_id for case in own)
            yield make_finding(kind, own[0].case_id, None, f"patient {patient} has {len(own)} cases: {names}")


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


# --- figures


def _figures(
    records: Sequence[CaseRecord], mapping: NameMapping, label_convention: str | None = None
) -> dict[str, Any]:
    """Figures of a whole data set; regions' volumes over the cases in which the region is present."""
    cases = [record.case for record in records]
    patients = Counter(mapping.patient_of(case) for case in cases)
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
