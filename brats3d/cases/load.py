"""Load a data set as MONAI datalist items: the training or validation cases of a fold, or every case for inference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats3d.cases.case import Case, case_to_item
from brats3d.cases.case_files import Problem
from brats3d.cases.datalist import read_datalist
from brats3d.cases.folds import split_patients
from brats3d.cases.label_convention import with_convention
from brats3d.cases.name_mapping import read_name_mappings, unmapped_releases
from brats3d.cases.patient_groups import group_notes, is_unknown, unite_patients
from brats3d.cases.search import FoundCases, scan_cases, usable_cases
from brats3d.cases.text import name_some, natural_key
from brats3d.cases.valid_headers import header_problems, warn_of_notes
from brats3d.errors import DataError, UsageError
from brats3d.files import Failures, take_shard
from brats3d.labels import MODALITIES, WITHOUT_T1CE, order_modalities

logger = logging.getLogger("brats3d")


def load_fold(
    dataset_dir: str | Path | Sequence[str | Path],
    section: str,
    fold: int = 0,
    modalities: Sequence[str] = MODALITIES,
    datalist: str | Path | None = None,
    label_convention: str | None = None,
) -> list[dict[str, Any]]:
    """Load the training or the validation cases of one fold. Check every header; read no voxel.

    Args:
        dataset_dir: a folder as downloaded, or a list of folders; see :func:`brats3d.cases.find_cases`.
        section: ``"training"`` (all folds but ``fold``) or ``"validation"`` (only ``fold``).
        fold: the fold that validates.
        modalities: the sequences that the network sees.
        datalist: a datalist.json in MONAI's form, with paths relative to ``dataset_dir``. Its folds replace the split
            by patient. Defaults to ``datalist.json`` in ``dataset_dir``, if there is one.
        label_convention: the meaning of the labels, a name in ``labels.CONVENTIONS``. Defaults to the convention that
            the case names or the datalist state.

    Returns:
        One item per case, in the form of :func:`brats3d.cases.case_to_item`.

    Raises:
        NotFoundError: if ``dataset_dir`` or ``datalist`` does not exist.
        UsageError: if another argument is wrong.
        DataError: if files are missing or damaged; lists all of them.
    """
    if section not in ("training", "validation"):
        raise UsageError("section", expected="training or validation", found=section)
    folds = load_folds(dataset_dir, modalities, datalist, label_convention, warn=section == "training")
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < len(folds):
        raise UsageError("fold", expected=f"0 to {len(folds) - 1}, one of {len(folds)} folds", found=fold)
    if section == "validation":
        cases = folds[fold]
    else:
        rest = [case for k, cases in enumerate(folds) if k != fold for case in cases]
        cases = sorted(rest, key=lambda case: natural_key(case.case_id))
    require_sound_headers(cases, f"{section} cases")
    return [case_to_item(case) for case in cases]


def load_folds(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str] = MODALITIES,
    datalist: str | Path | None = None,
    label_convention: str | None = None,
    warn: bool = True,
) -> list[list[Case]]:
    """Load the cases of every fold: those of a datalist.json, or the split by patient. No image is opened.

    Args:
        dataset_dir, modalities, datalist, label_convention: as for :func:`load_fold`.
        warn: log what the user should check.

    Raises:
        NotFoundError, UsageError, DataError: as :func:`load_fold`.
    """
    folds = read_datalist(dataset_dir, modalities, datalist)
    if folds is None:
        scan = scan_cases(dataset_dir, modalities)
        cases = usable_cases(scan, require_label=True)
        mapping = read_name_mappings(dataset_dir)
        # Names of unlabelled cases help to find the patients, too.
        every = scan.cases if any(map(is_unknown, cases)) else cases
        united = [case for case in unite_patients(every, mapping) if case.label]
        if warn:
            _log_notes([*scan.notes, unmapped_releases(cases, mapping), *group_notes(united, mapping)])
        folds = split_patients(united)
    # All folds decide together, so that training and validation read the labels alike.
    decided, notes = with_convention([case for each in folds for case in each], label_convention)
    if warn:
        _log_notes(notes)
    remaining = iter(decided)
    return [[next(remaining) for _ in each] for each in folds]


def load_cases(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str] = MODALITIES,
    absent_sequences: bool = False,
    failures: Failures | None = None,
    shard: str | None = None,
    search: Callable[..., FoundCases] = scan_cases,
) -> list[dict[str, Any]]:
    """Load every case for inference, without labels. Check every header; read no voxel.

    Args:
        dataset_dir: a folder as downloaded, or a list of folders; see :func:`brats3d.cases.find_cases`.
        modalities: the sequences that the network sees.
        absent_sequences: accept cases that lack some of the modalities, with a warning. Their items list the images
            that exist; :class:`brats3d.data.CaseDataset` fills the other channels with zeros.
        failures: record unusable cases here and return the others. If no case is usable, or by default, unusable
            cases raise.
        shard: load only one part of the cases, such as ``"3/8"``. The part may be empty.
        search: finds the cases, with the arguments of :func:`brats3d.cases.scan_cases`. It may add to ``failures``;
            such cases are not loaded.

    Returns:
        One item per case, in the form of :func:`brats3d.cases.case_to_item`.

    Raises:
        NotFoundError: if ``dataset_dir`` does not exist.
        UsageError: if another argument is wrong.
        DataError: if files are missing or damaged; lists all of them.
    """
    scan = search(dataset_dir, modalities, absent_sequences)
    cases = None if failures is None else _usable_cases(scan, failures, shard)
    if cases is None:
        cases = take_shard(_without_labels(usable_cases(scan)), shard)
        require_sound_headers(cases, "inference cases")
    for note in scan.notes:
        logger.warning("%s", note)
    if scan.ignored:
        text = "%s: ignored: single sequences with unknown names; if one is a case, pass its folder on its own"
        logger.warning(text, name_some(list(map(str, scan.ignored))))
    _warn_of_absent(cases, order_modalities(modalities), scan.unread)
    return [case_to_item(case) for case in cases]


def _usable_cases(scan: FoundCases, failures: Failures, shard: str | None) -> list[Case] | None:
    """Return the usable cases of the shard and record the others as failures; None if the data set has no usable case.

    The shard is taken from all cases, usable or not, so that every run of a job array sees the same list.
    """
    problems_of: dict[str, list[Problem]] = {}
    for problem in scan.serious_problems():
        problems_of.setdefault(problem.case_id, []).append(problem)
    usable: list[Case] = []
    unusable: list[tuple[str, list[str], Path]] = []
    notes: dict[str, list[str]] = {}
    part = _without_labels(take_shard(scan.cases, shard))
    for case in (case for case in part if case.case_id not in failures):
        if found := problems_of.get(case.case_id):
            unusable.append((case.case_id, [*(problem.text for problem in found), scan.advice], found[0].folder))
        elif texts := header_problems(case, notes):
            unusable.append((case.case_id, texts, case.files[0].parent))
        else:
            usable.append(case)
    if not usable and shard is None and not failures:
        return None
    warn_of_notes(notes)
    for case_id, texts, folder in unusable:
        failures.add(case_id, "; ".join(texts), folder)
    return usable


def _log_notes(notes: Sequence[str]) -> None:
    for note in filter(None, notes):
        logger.warning("%s", note)


def _without_labels(cases: Sequence[Case]) -> list[Case]:
    return [replace(case, label=None) for case in cases]


def require_sound_headers(cases: Sequence[Case], subject: str) -> None:
    """Check the headers of all files; log a warning for assumptions about them.

    Args:
        cases: the cases.
        subject: what they are, for the error.

    Raises:
        DataError: listing every problem.
    """
    notes: dict[str, list[str]] = {}
    if problems := [problem for case in cases for problem in header_problems(case, notes)]:
        advice = "download or convert these cases again, move them out of the folder, or try brats3d audit --repair"
        raise DataError.of_many(subject, problems, advice)
    warn_of_notes(notes)


def _warn_of_absent(cases: Sequence[Case], modalities: Sequence[str], unread: Mapping[str, Sequence[Path]]) -> None:
    """Log a warning for each set of sequences that cases lack; their channels are zeros.

    Args:
        cases: the cases.
        modalities: the sequences that the network sees.
        unread: case_id -> image files beside the case's that are not read; one may be the sequence that is absent.
    """
    lacking: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        if absent := tuple(m for m in modalities if m not in case.images):
            lacking.setdefault(absent, []).append(case.case_id)
    for absent, case_ids in lacking.items():
        more = ""
        if "t1ce" in absent:
            more = f"; {WITHOUT_T1CE}"
        if files := [path.name for case_id in case_ids for path in unread.get(case_id, ())]:
            more += f"; if one of these files is the absent sequence, rename it (see docs/data.md): {name_some(files)}"
        logger.warning("%s: segmented without %s%s", name_some(case_ids), ", ".join(absent), more)
