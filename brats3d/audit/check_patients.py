"""Checks across cases for patients and folds: name mappings, patients with several cases, the datalist.json."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.cases import (
    DATALIST_NAME,
    PATIENTS_NAME,
    Case,
    NameMapping,
    header_problems,
    is_unknown,
    layout_of,
    name_some,
    read_datalist,
    read_name_mappings,
    unknown_cases,
    unmapped_releases,
)


def read_mappings(roots: Sequence[Path]) -> tuple[NameMapping | None, list[Finding]]:
    """Read the name mappings of a data set.

    Returns:
        The mapping, None if a file cannot be read; and the findings.
    """
    try:
        mapping = read_name_mappings(roots)
    except ValueError as error:
        return None, [make_finding("unreadable name mapping", "", None, error)]
    problem = "a name mapping in a form that brats3d cannot read; expected CSV"
    return mapping, [make_finding("spreadsheet mapping", "", path, problem) for path in mapping.spreadsheets]


def read_folds(
    roots: Sequence[Path], cases: Sequence[Case], modalities: Sequence[str]
) -> tuple[list[Case] | None, list[Finding]]:
    """Read the datalist.json that training would use instead of its own split.

    Args:
        roots: the folders of the data set.
        cases: those that were found; the headers of any other case in the datalist are checked here.
        modalities: the sequences that every case must have.

    Returns:
        The cases of all folds, None if there is no datalist.json; and the findings.
    """
    file = roots[0] / DATALIST_NAME
    try:
        folds = read_datalist(roots[0] if len(roots) == 1 else list(roots), modalities)
    except (ValueError, OSError) as error:
        return [], [make_finding("invalid datalist", "", file, error)]
    if folds is None:
        return None, []
    listed = [case for fold in folds for case in fold]
    known = {frozenset(case.files) for case in cases}
    problems = [problem for case in listed if frozenset(case.files) not in known for problem in header_problems(case)]
    return listed, [make_finding("invalid datalist", "", file, f"lists unusable files: {each}") for each in problems]


def patient_findings(
    cases: Sequence[Case], patient_of: Mapping[str, str], stated: Collection[str]
) -> Iterator[Finding]:
    """Yield a finding for each patient with several cases: several time points, or the names of several releases.

    Args:
        cases: every case.
        patient_of: case_id -> patient_id.
        stated: the cases whose patient the user states.
    """
    patients: dict[str, list[Case]] = {}
    for case in cases:
        patients.setdefault(patient_of[case.case_id], []).append(case)
    for patient, own in patients.items():
        if len(own) > 1:
            releases = {layout_of(case.case_id).name for case in own if not is_unknown(case)}
            kind = "several releases" if len(releases) > 1 else "several time points"
            names = ", ".join(case.case_id for case in own)
            guess = any(is_unknown(case) and case.case_id not in stated for case in own)
            source = f" (according to their names; {PATIENTS_NAME} can state otherwise)" if guess else ""
            yield make_finding(kind, own[0].case_id, None, f"patient {patient} has {len(own)} cases{source}: {names}")


def training_findings(
    cases: Sequence[Case], patient_of: Mapping[str, str], mapping: NameMapping, has_folds: bool
) -> Iterator[Finding]:
    """Yield the findings that would prevent or bias a split by patient.

    Args:
        cases: every case.
        patient_of: case_id -> patient_id.
        mapping: the name mappings of the data set.
        has_folds: whether a datalist.json replaces the split.
    """
    patients = {patient_of[case.case_id] for case in cases if case.label}
    if len(patients) < 2 and not has_folds:
        problem = f"{len(patients)} patient(s) have a segmentation; training needs two or more"
        yield make_finding("too few patients", "", None, problem)
    if problem := unmapped_releases(cases, mapping):
        yield make_finding("no name mapping", "", None, problem)
    if strangers := unknown_cases(cases, mapping):
        problem = f"{PATIENTS_NAME} lists cases that were not found: {name_some(strangers)}"
        yield make_finding("unknown case in patients.csv", "", None, problem)
