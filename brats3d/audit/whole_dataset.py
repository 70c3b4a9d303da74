"""The audit of a whole data set: reads the cases in parallel and runs every check.

Two cases are read at a time, with one volume of each in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from brats3d import __version__
from brats3d.audit.check_duplicates import copy_findings
from brats3d.audit.check_file_names import file_name_findings
from brats3d.audit.check_labels import meaning_findings
from brats3d.audit.check_patients import patient_findings, read_folds, read_mappings, training_findings
from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.audit.one_case import CaseRecord, audit_case
from brats3d.audit.statistics import Statistics, dataset_statistics
from brats3d.cases import (
    SEGMENTATION,
    Case,
    NameMapping,
    apply_convention,
    describe_fits,
    parse_file_name,
    scan_cases,
    unite_patients,
)
from brats3d.labels import MODALITIES, get_convention, order_modalities

logger = logging.getLogger("brats3d")


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Args:
        roots: the folders that were searched.
        modalities: the sequences that were checked.
        label_convention: the one that the user passed, for cases whose names do not state it.
        cases: every case, with the files that it has.
        findings: those about the whole data set first, then case by case.
        statistics: counts, volumes and spacings of the data set.
    """

    roots: tuple[Path, ...]
    modalities: tuple[str, ...]
    label_convention: str | None
    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    statistics: Statistics = field(hash=False)

    @property
    def ok(self) -> bool:
        """True if no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def settings(self) -> dict[str, Any]:
        """The version of brats3d and the arguments of the audit, which JSON files start with."""
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
    """Read every file of a data set once and return everything that is wrong with it. Nothing is changed.

    Anything that :func:`brats3d.cases.load_fold` or the transforms of a case would refuse is an error here. Too few
    patients for training are only a warning, since a folder of validation cases has no segmentations.

    Args:
        dataset_dir: as for :func:`brats3d.cases.find_cases`.
        modalities: the sequences that every case must have; others are ignored.
        label_convention: the label convention of cases whose names do not state it.
        progress: show a progress bar.
        workers: number of cases that are read at the same time.

    Raises:
        NotFoundError: if ``dataset_dir`` does not exist.
        UsageError: if an argument is outside its valid set, or ``label_convention`` contradicts the cases' names.
        DataError: if ``dataset_dir`` holds no case.
    """
    modalities = order_modalities(modalities)
    if label_convention is not None:
        get_convention(label_convention)
    scan = scan_cases(dataset_dir, modalities)
    mapping, findings = read_mappings(scan.roots)
    listed: list[Case] | None = None
    if mapping is not None:  # folds can only be checked with the mapping
        listed, fold_findings = read_folds(scan.roots, scan.cases, modalities)
        findings += fold_findings
    mapping = mapping or NameMapping()
    patient_of = {case.case_id: case.patient_id for case in unite_patients(scan.cases, mapping)}
    findings += training_findings(scan.cases, patient_of, mapping, has_folds=listed is not None)

    findings += [make_finding("other file names", "", None, note) for note in scan.notes]

    by_name = list(file_name_findings(scan.problems, scan.cases))
    cases = _with_labels(scan.cases, by_name, listed or ())
    cases, notes = apply_convention(cases, label_convention)
    for note in notes:
        logger.warning("%s", note)
    records = _read_all(cases, progress, workers)
    of_case: dict[str, list[Finding]] = {case.case_id: [] for case in cases}
    for finding in (
        *by_name,
        *(finding for record in records for finding in record.findings),
        *copy_findings(records),
        *patient_findings(cases, patient_of, mapping.stated),
    ):
        of_case[finding.case_id].append(finding)
    of_labels, fits = _find_meanings(records)
    findings += of_labels
    for case in cases:
        for finding in of_case[case.case_id]:
            is_foreign = finding.kind == "unexpected labels" and case.convention
            problem = f"{finding.problem}; in all cases, {fits[case.convention]}" if is_foreign else finding.problem
            findings.append(replace(finding, problem=problem))
    statistics = dataset_statistics(records, mapping, patient_of)
    return Audit(scan.roots, modalities, label_convention, tuple(cases), tuple(findings), statistics)


def _with_labels(cases: Sequence[Case], findings: Sequence[Finding], listed: Sequence[Case]) -> list[Case]:
    """Choose the first of several identical segmentations, and the label conventions that a datalist.json states."""
    duplicates = (each for each in findings if each.kind == "duplicate files" and each.repair)
    label_of = {each.case_id: each.file for each in duplicates if each.file and _is_segmentation(each.file)}
    convention_of = {case.label: case.convention for case in listed}
    chosen = [replace(case, label=label_of.get(case.case_id, case.label)) for case in cases]
    return [replace(case, convention=convention_of.get(case.label, case.convention)) for case in chosen]


def _is_segmentation(file: Path) -> bool:
    parsed = parse_file_name(file.name)
    return parsed is not None and parsed[1] == SEGMENTATION


def _read_all(cases: Sequence[Case], progress: bool, workers: int) -> list[CaseRecord]:
    from tqdm import tqdm

    pool = ThreadPoolExecutor(workers)  # zlib and numpy release the interpreter's lock
    try:
        records = pool.map(audit_case, cases)
        return list(tqdm(records, desc="audit", unit="case", total=len(cases), disable=not progress))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl+C does not wait for the remaining cases


def _find_meanings(records: Sequence[CaseRecord]) -> tuple[list[Finding], dict[str | None, str]]:
    """Check the segmentations with the same label convention together.

    Returns:
        The findings; and, for each convention, a clause about the conventions that fit the labels of its cases.
    """
    groups: dict[str | None, list[CaseRecord]] = {}
    for record in records:
        if record.case.label:
            groups.setdefault(record.case.convention, []).append(record)
    findings, fits = [], {}
    for name, group in groups.items():
        summaries = {record.case.case_id: record.labels for record in group if record.labels}
        convention = get_convention(name) if name else None
        findings += meaning_findings([record.case for record in group], summaries, convention)
        fits[name] = describe_fits(summaries)
    return findings, fits
