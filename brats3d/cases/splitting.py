"""A data set split into folds on disk: labels measured, patients matched, leaks refused, datalist.json written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from brats3d.cases.case import Case, check_folder, check_path_syntax, find_cases, natural_key, with_convention
from brats3d.cases.checks import check_labels, header_problems
from brats3d.cases.datalist import DATALIST_NAME, write_datalist
from brats3d.cases.duplicates import shared_images
from brats3d.cases.folds import MeasuredCase, check_folds, fold_table, listed, stratified_folds
from brats3d.cases.label_voxels import labelled_voxels
from brats3d.cases.patients import NameMapping, join_overlapping, read_name_mappings, unite_patients, unmapped_releases
from brats3d.errors import DataError
from brats3d.files import read_volume, writable_folder
from brats3d.labels import MODALITIES, REGIONS_TO_READ, get_convention


@dataclass(frozen=True)
class Split:
    """A data set's split.

    Args:
        folds: the cases with a segmentation.
        testing: the cases without one.
        notes: what the user should know, a sentence each.
        written: False if the file was there with the same content.
    """

    folds: tuple[tuple[MeasuredCase, ...], ...]
    testing: tuple[Case, ...]
    notes: tuple[str, ...]
    written: bool


def split_dataset(
    dataset_dir: str | Path,
    output: str | Path,
    folds: int = 5,
    seed: int = 0,
    label_convention: str | None = None,
    modalities: Sequence[str] = MODALITIES,
    overwrite: bool = False,
    progress: bool = True,
) -> Split:
    """Split a data set by patient, balanced by grade, enhancing tumour and volume, and write its datalist.json.

    Args:
        dataset_dir: a folder as downloaded; see :func:`brats3d.cases.find_cases`.
        output: the file to write; a ``datalist.json`` in ``dataset_dir`` is found there by every command.
        folds, seed: as for :func:`brats3d.cases.stratified_folds`.
        label_convention: what the labels mean; None leaves it to the names of the cases.
        modalities: the sequences that every case must have.
        overwrite: replace another split that stands in ``output``.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: if ``dataset_dir`` does not exist.
        FileExistsError: if ``output`` holds another split and ``overwrite`` is not given.
        ValueError: if arguments or files are wrong; nothing has been written then.
    """
    root = check_folder(dataset_dir)
    path = _check_output(output)
    if folds < 2:  # before anything is read
        check_folds(0, (), folds)
    labelled = with_convention(find_cases(root, modalities, require_label=True), label_convention)
    everything = [*labelled, *(case for case in find_cases(root, modalities) if case.label is None)]
    mapping = read_name_mappings([root])
    patients, notes = match_patients(everything, mapping)
    check_folds(len(labelled), {patients[case.case_id] for case in labelled}, folds)
    facts = measure_cases(labelled, patients, mapping, progress)
    parts = stratified_folds(facts, folds, seed)
    if leaks := find_leaks(parts):
        raise DataError.of_many(str(path), leaks, "nothing was written; report this as an error in brats3d")
    testing = [replace(case, patient_id=patients[case.case_id]) for case in everything[len(labelled) :]]
    written = write_datalist(parts, path, root, testing, modalities, seed, overwrite)
    notes = [*notes, *_notes(facts, testing, mapping, folds, len(parts))]
    return Split(tuple(tuple(part) for part in parts), tuple(testing), tuple(notes), written)


def describe_split(split: Split, dataset_dir: str | Path, output: str | Path) -> list[str]:
    """The split in lines to print: what it is, a table, what the user should know, and the command that comes next."""
    path, root = Path(output), Path(dataset_dir)
    n_cases = sum(len(fold) for fold in split.folds)
    without = f", {len(split.testing)} without a segmentation" if split.testing else ""
    state = "" if split.written else " (unchanged)"
    found = path.name == DATALIST_NAME and path.parent.expanduser().resolve() == root.expanduser().resolve()
    where = "" if found else f" --datalist {shlex.quote(str(path))}"
    return [
        f"{n_cases} cases in {len(split.folds)} folds{without}: {path}{state}",
        fold_table(split.folds),
        *split.notes,
        f"next: brats3d train {shlex.quote(str(root))}{where} --fold 0",
    ]


def match_patients(cases: Sequence[Case], mapping: NameMapping) -> tuple[dict[str, str], list[str]]:
    """Whose each case is, by its name, by the mapping of names, and by images that two cases share.

    Returns:
        case_id -> patient_id, and a sentence for each group of cases that shared images have joined.
    """
    own = {case.case_id: case.patient_id for case in unite_patients(cases, mapping)}
    shared = shared_images(cases)
    joined = join_overlapping(
        [*({name} for name in own.values()), *({own[case_id] for case_id in ids} for ids in shared)]
    )
    first = {name: min(names, key=natural_key) for names in joined for name in names}
    notes = [
        f"{' and '.join(ids)} share {', '.join(kinds)}: kept in one fold"
        for ids, kinds in shared.items()
        if len({own[case_id] for case_id in ids}) > 1
    ]
    return {case_id: first[name] for case_id, name in own.items()}, notes


def measure_cases(
    cases: Sequence[Case], patients: Mapping[str, str], mapping: NameMapping, progress: bool = True
) -> list[MeasuredCase]:
    """Read each case's segmentation once, check it, and measure its regions.

    Args:
        cases: cases with a segmentation and a label convention.
        patients: case_id -> patient_id.
        mapping: knows the grades that folders do not tell.
        progress: show a progress bar.

    Raises:
        ValueError: with everything at once that is wrong with headers or labels.
    """
    from tqdm import tqdm  # here: a mistake in the arguments is answered without it

    def measure(case: Case) -> MeasuredCase | str:
        try:
            return MeasuredCase(case, patients[case.case_id], mapping.grade_of(case), *_volumes_ml(case))
        except ValueError as error:
            return str(error)

    pool = ThreadPoolExecutor(2)  # unpacking and counting let go of the interpreter's lock
    try:
        bar = tqdm(pool.map(measure, cases), total=len(cases), desc="labels", unit="case", disable=not progress)
        results = list(bar)
    finally:
        pool.shutdown(cancel_futures=True)
    if problems := [result for result in results if isinstance(result, str)]:
        raise DataError.of_many(
            "labels", problems, "download or convert these cases again, or move them out of the folder"
        )
    return [result for result in results if not isinstance(result, str)]


def find_leaks(folds: Sequence[Sequence[MeasuredCase]]) -> list[str]:
    """What stands in two folds: a case, a patient, or an image under two names. A sentence each; none is well."""
    folds_of: dict[tuple[str, str], set[int]] = {}
    for k, fold in enumerate(folds):
        for each in fold:
            folds_of.setdefault(("case", each.case.case_id), set()).add(k)
            folds_of.setdefault(("patient", each.patient_id), set()).add(k)
    leaks = [
        f"{what} {name} stands in folds {_and(where)}" for (what, name), where in folds_of.items() if len(where) > 1
    ]
    for ids, kinds in shared_images([each.case for fold in folds for each in fold]).items():
        where = set().union(*(folds_of["case", case_id] for case_id in ids))
        if len(where) > 1:
            leaks.append(f"{' and '.join(ids)} share {', '.join(kinds)}, and stand in folds {_and(where)}")
    return leaks


def _check_output(output: str | Path) -> Path:
    check_path_syntax(output, "output")
    path = Path(os.path.abspath(Path(output).expanduser()))  # noqa: PTH100 - links stay as they are
    if path.is_dir():
        raise ValueError(f"output: {path} is a folder; expected a file, such as {path / 'datalist.json'}")
    if path.suffix.lower() != ".json":
        raise ValueError(f"output: {path} is no .json file; expected one, such as {path.with_suffix('.json')}")
    writable_folder(path.parent, "output")
    return path


def _volumes_ml(case: Case) -> tuple[float, float, float]:
    """Volumes of WT, TC and ET in a case's segmentation.

    Raises:
        ValueError: if headers, voxels or labels are wrong.
    """
    if problems := header_problems(case):
        raise ValueError("; ".join(problems))
    if case.label is None or case.convention is None:
        raise ValueError(f"{case.case_id}: expected a segmentation and its label convention, got {case}")
    volume = read_volume(case.label)
    convention = get_convention(case.convention)
    check_labels(volume.values, convention, str(case.label))
    counts = labelled_voxels(volume.values).counts(convention)
    wt, tc, et = (volume.header.voxel_ml * counts[region] for region in REGIONS_TO_READ)
    return wt, tc, et


def _notes(
    facts: Sequence[MeasuredCase], testing: Sequence[Case], mapping: NameMapping, asked: int, made: int
) -> list[str]:
    """What the user should know of a split beyond its numbers."""
    notes = [f"{asked} folds were asked for; there are {made} patients"] if made < asked else []
    known = {each.patient_id for each in facts}
    if both := [case.case_id for case in testing if case.patient_id in known]:
        notes.append(
            f"{len(both)} case(s) without a segmentation are of patients in the folds, so not unseen{listed(both)}"
        )
    unmapped = unmapped_releases([*(each.case for each in facts), *testing], mapping)
    return [*notes, unmapped] if unmapped else notes


def _and(folds: set[int]) -> str:
    return " and ".join(str(k) for k in sorted(folds))
