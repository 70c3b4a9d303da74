"""``brats3d split``: match patients, measure labels, stratify and write a datalist.json."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from brats3d.cases.case import Case
from brats3d.cases.datalist import DATALIST_NAME, write_datalist
from brats3d.cases.duplicates import shared_images
from brats3d.cases.folds import DEFAULT_FOLDS, check_fold_count, check_folds
from brats3d.cases.label_convention import with_convention
from brats3d.cases.label_evidence import label_doubts
from brats3d.cases.label_summary import LabelSummary, labelled_voxels, summarise_labels
from brats3d.cases.name_mapping import (
    NameMapping,
    join_overlapping,
    read_name_mappings,
    unmapped_releases,
)
from brats3d.cases.paths import check_folder, check_path_syntax
from brats3d.cases.patient_groups import group_notes, several_cases, unite_patients
from brats3d.cases.region_volumes import region_volumes_ml
from brats3d.cases.search import scan_cases, usable_cases
from brats3d.cases.stratify import MeasuredCase, fold_table, stratified_folds
from brats3d.cases.text import name_some, natural_key
from brats3d.cases.valid_headers import header_problems
from brats3d.cases.valid_labels import MIN_LABELLED_FRACTION, check_extent, check_labels, whole_labels
from brats3d.errors import DataError, UsageError
from brats3d.files import read_volume, writable_folder
from brats3d.labels import MODALITIES, get_convention


@dataclass(frozen=True)
class Split:
    """The split of a data set.

    Args:
        folds: the cases with a segmentation.
        testing: the cases without one.
        notes: remarks for the user, a sentence each.
        written: False if the file already had the same content.
    """

    folds: tuple[tuple[MeasuredCase, ...], ...]
    testing: tuple[Case, ...]
    notes: tuple[str, ...]
    written: bool


def split_dataset(
    dataset_dir: str | Path,
    output: str | Path,
    folds: int = DEFAULT_FOLDS,
    seed: int = 0,
    label_convention: str | None = None,
    modalities: Sequence[str] = MODALITIES,
    overwrite: bool = False,
    progress: bool = True,
) -> Split:
    """Split a data set by patient, stratified by grade, enhancing tumour and volume, and write its datalist.json.

    Args:
        dataset_dir: a folder as downloaded; see :func:`brats3d.cases.find_cases`.
        output: the file to write. Every command finds a ``datalist.json`` in ``dataset_dir``.
        folds, seed: as for :func:`brats3d.cases.stratified_folds`.
        label_convention: the meaning of the labels. Defaults to the convention that the case names state.
        modalities: the sequences that every case must have.
        overwrite: replace another split in ``output``.
        progress: show a progress bar.

    Raises:
        NotFoundError: if ``dataset_dir`` does not exist.
        UsageError: if another argument is wrong, or ``output`` holds another split and ``overwrite`` is false.
        DataError: if the data set cannot be split. Nothing is written.
    """
    check_fold_count(folds)  # before the cases are searched
    root = check_folder(dataset_dir)
    path = _check_output(output)
    scan = scan_cases(root, modalities)
    labelled, remarks = with_convention(usable_cases(scan, require_label=True), label_convention)
    unlabelled = [case for case in usable_cases(scan) if case.label is None]
    mapping = read_name_mappings(root)
    cases, notes = match_patients([*labelled, *unlabelled], mapping)
    notes += scan.notes
    labelled, unlabelled = cases[: len(labelled)], cases[len(labelled) :]
    check_folds(labelled, folds)
    measured, doubts = measure_cases(labelled, progress)
    stratified = stratified_folds(measured, folds, seed)
    written = write_datalist(stratified, path, root, unlabelled, modalities, seed, overwrite)
    if len(stratified) < folds:
        notes.append(f"only {len(stratified)} folds instead of {folds}, because there are {len(stratified)} patients")
    patients = {case.patient_id for case in labelled}
    if seen := [case.case_id for case in unlabelled if case.patient_id in patients]:
        notes.append(f"{len(seen)} case(s) without a segmentation belong to patients in the folds: {name_some(seen)}")
    if several := len(several_cases(cases)):
        notes.append(f"{several} of {len({case.patient_id for case in cases})} patients have several cases")
    notes += filter(None, (*group_notes(cases, mapping), unmapped_releases(cases, mapping)))
    return Split(tuple(map(tuple, stratified)), tuple(unlabelled), (*notes, *remarks, *doubts), written)


def describe_split(split: Split, dataset_dir: str | Path, output: str | Path) -> list[str]:
    """Return lines to print: a summary, a table, the remarks and the next command."""
    path, root = Path(output), Path(dataset_dir)
    n_cases = sum(len(fold) for fold in split.folds)
    without = f", {len(split.testing)} without a segmentation" if split.testing else ""
    state = "" if split.written else " (unchanged)"
    is_default = path.name == DATALIST_NAME and path.parent.expanduser().resolve() == root.expanduser().resolve()
    datalist = "" if is_default else f" --datalist {shlex.quote(str(path))}"
    return [
        f"{n_cases} cases in {len(split.folds)} folds{without}: {path}{state}",
        fold_table(split.folds),
        *split.notes,
        f"next: brats3d train {shlex.quote(str(root))}{datalist} --fold 0",
    ]


def match_patients(cases: Sequence[Case], mapping: NameMapping) -> tuple[list[Case], list[str]]:
    """Unite the cases of each patient by name, by the mapping of names, and by images that two cases share.

    Returns:
        The cases with their patient and grade, and a remark for each group of cases that shared images unite.
    """
    cases = [replace(case, grade=mapping.grade_of(case)) for case in unite_patients(cases, mapping)]
    named = {case.case_id: case.patient_id for case in cases}
    shared = {ids: modalities for ids, modalities in shared_images(cases).items() if len({named[i] for i in ids}) > 1}
    joined = join_overlapping([*([name] for name in named.values()), *([named[i] for i in ids] for ids in shared)])
    first = {name: min(names, key=natural_key) for names in joined for name in names}
    notes = [f"{' and '.join(ids)} share {', '.join(what)}: kept in one fold" for ids, what in shared.items()]
    return [replace(case, patient_id=first[case.patient_id]) for case in cases], notes


def measure_cases(cases: Sequence[Case], progress: bool = True) -> tuple[list[MeasuredCase], list[str]]:
    """Read each segmentation once, check it, and measure its regions.

    Args:
        cases: cases with a segmentation and a label convention.
        progress: show a progress bar.

    Returns:
        The cases with their volumes, and reasons to doubt the meaning of their labels.

    Raises:
        DataError: if headers or labels are wrong; lists all of them.
    """
    from tqdm import tqdm  # slow to import; wrong arguments are reported without it

    summaries: dict[str, dict[str, LabelSummary]] = {}

    def measure(case: Case) -> MeasuredCase | DataError:
        try:
            return MeasuredCase(case, *_volumes_ml(case, summaries.setdefault(str(case.convention), {})))
        except DataError as error:
            return error

    pool = ThreadPoolExecutor(2)  # unpacking and counting release the interpreter's lock
    try:
        bar = tqdm(pool.map(measure, cases), total=len(cases), desc="labels", unit="case", disable=not progress)
        results = list(bar)
    finally:
        pool.shutdown(cancel_futures=True)
    doubts = [doubt for name, each in summaries.items() for doubt in label_doubts(each, get_convention(name))]
    serious = [doubt for doubt in doubts if doubt.serious]
    if problems := [result for result in results if isinstance(result, DataError)]:
        advice = "download or convert these cases again, or move them out of the folder"
        # Advice about a single file may not suit the others.
        texts = [str(each).removesuffix(f"; {each.advice}") if serious else str(each) for each in problems]
        raise DataError.of_many("labels", texts, "; ".join(doubt.advice for doubt in serious) or advice)
    if serious:
        raise DataError("labels", serious[0].problem, advice=serious[0].advice)
    return [result for result in results if isinstance(result, MeasuredCase)], list(map(str, doubts))


def _check_output(output: str | Path) -> Path:
    check_path_syntax(output, "output")
    path = Path(os.path.abspath(Path(output).expanduser()))  # noqa: PTH100 - links stay as they are
    if path.is_dir() or path.suffix.lower() != ".json":
        example = path / DATALIST_NAME if path.is_dir() else path.with_suffix(".json")
        raise UsageError("output", expected=f"a .json file, such as {example}", found=str(path))
    writable_folder(path.parent, "output")
    return path


def _volumes_ml(case: Case, summaries: dict[str, LabelSummary]) -> tuple[float, float, float]:
    """Return the volumes of WT, TC and ET in a case's segmentation, and add its labels to the summaries."""
    if problems := header_problems(case):
        raise DataError(case.case_id, "; ".join(problems))
    if case.label is None or case.convention is None:
        raise DataError(case.case_id, expected="a segmentation and its label convention", found=case)
    volume = read_volume(case.label)
    convention = get_convention(case.convention)
    if (summary := summarise_labels(labelled_voxels(volume.values))) is not None:
        summaries[case.case_id] = summary
    check_labels(volume.values, convention, str(case.label))
    labelled = np.count_nonzero(volume.values) / volume.values.size
    if labelled > MIN_LABELLED_FRACTION:
        brain = np.mean(read_volume(next(iter(case.images.values()))).values > 0)
        check_extent(labelled, float(brain), str(case.label))
    wt, tc, et = region_volumes_ml(whole_labels(volume.values), convention, volume.header.voxel_ml).values()
    return wt, tc, et
