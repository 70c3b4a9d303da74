"""Which cases train and which validate: patient-grouped folds, or those of a datalist.json; as MONAI datalist items.

An item is ``{"image": [path, …], "label": path, "label_convention": …, "case_id": …, "patient_id": …}``, its images in
the order of :data:`brats3d.labels.MODALITIES`; inference items have neither label nor convention.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats3d.cases.case import (
    Case,
    absent_warnings,
    check_folder,
    check_path_syntax,
    find_cases,
    make_case,
    natural_key,
    report_problems,
    scan_cases,
    serious_problems,
)
from brats3d.cases.checks import check_voxels, header_problems
from brats3d.cases.discovery import find_unnamed
from brats3d.cases.folds import listed, split_patients
from brats3d.cases.layouts import ANY_LAYOUT, layout_of, modality_of, parse_file_name
from brats3d.cases.patients import NameMapping, read_name_mappings, unite_patients, unmapped_releases
from brats3d.files import Failures, read_json, share_of, too_long
from brats3d.labels import MODALITIES, get_convention, order_modalities

logger = logging.getLogger("brats3d")

SECTIONS = ("training", "validation", "inference")

DATALIST_NAME = "datalist.json"


def load_datalist(
    dataset_dir: str | Path | Sequence[str | Path],
    section: str,
    fold: int = 0,
    modalities: Sequence[str] = MODALITIES,
    datalist: str | Path | None = None,
    folds: int = 5,
    label_convention: str | None = None,
    absent_sequences: bool = False,
    failures: Failures | None = None,
    shard: str | None = None,
) -> list[dict[str, Any]]:
    """The items of one section of a data set, every header checked.

    Args:
        dataset_dir: a folder as downloaded, or a list of folders; see :func:`brats3d.cases.find_cases`.
        section: ``"training"`` (all folds but ``fold``), ``"validation"`` (fold ``fold``) or ``"inference"`` (every
            case, labels neither needed nor given).
        fold: which fold validates.
        modalities: the sequences that the network sees.
        datalist: a datalist.json in MONAI's form whose folds replace the split; its paths are relative to
            ``dataset_dir``. Where none is given, a ``datalist.json`` in ``dataset_dir`` is it. Inference takes neither.
        folds: into how many folds to split, at most one a patient.
        label_convention: what the labels of all cases mean, a name in ``labels.CONVENTIONS``; None takes what the names
            of the cases (or the datalist) say.
        absent_sequences: for inference only: a case may lack some of the modalities, of which a warning is logged; its
            images are those that are there. :class:`brats3d.data.CaseDataset` puts zeros in the others' place.
        failures: for inference only: take the cases that cannot be used, and the others are returned. Where none is
            left, and where this is None, one such case is an error.
        shard: for inference with ``failures`` only: a share of the cases, such as ``"3/8"``; it may be empty.

    Raises:
        FileNotFoundError: if ``dataset_dir`` or ``datalist`` does not exist.
        ValueError: if the arguments are wrong, or with everything at once that is wrong with the files.
    """
    if section not in SECTIONS:
        raise ValueError(f"section: expected one of {', '.join(SECTIONS)}, got {section!r}")
    if absent_sequences and section != "inference":
        raise ValueError(f"absent_sequences: expected section 'inference' with it, got {section!r}")
    if failures is not None and section != "inference":
        raise ValueError(f"failures: expected section 'inference' with it, got {section!r}")
    if shard is not None and failures is None:
        raise ValueError("shard: expected failures with it, which take the cases that cannot be used")
    checked = False
    if section == "inference":
        usable = None
        if failures is not None:
            usable = _usable_cases(dataset_dir, modalities, absent_sequences, failures, shard)
        checked = usable is not None
        found = find_cases(dataset_dir, modalities, absent_sequences=absent_sequences) if usable is None else usable
        cases = [replace(case, label=None) for case in found]
        for warning in absent_warnings(cases, order_modalities(modalities)):
            logger.warning("%s", warning)
    else:
        parts = read_datalist(dataset_dir, modalities, datalist)
        if parts is None:
            cases = find_cases(dataset_dir, modalities, require_label=True)
            mapping = _mapping(dataset_dir)
            if section == "training" and (doubt := unmapped_releases(cases, mapping)):
                logger.warning("%s", doubt)
            parts = split_patients(_with_patients(cases, mapping), folds)
        cases = with_convention(_section_of(parts, section, fold), label_convention)
    problems = [problem for case in cases for problem in header_problems(case)] if not checked else []
    if problems:
        advice = "download these cases again, move them out of the folder, or see what brats3d audit --repair can mend"
        report_problems(f"{section} cases", problems, advice)
    return [case_to_item(case) for case in cases]


def read_datalist(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str] = MODALITIES,
    datalist: str | Path | None = None,
) -> list[list[Case]] | None:
    """The folds of a datalist.json, given or lying in ``dataset_dir``; None where there is none. No case is opened.

    Raises:
        FileNotFoundError: if ``datalist`` or ``dataset_dir`` does not exist.
        ValueError: if it is none, or a patient or a file stands in two places of it.
    """
    found = _find_datalist(dataset_dir, datalist)
    if found is None:
        return None
    parts = _read_folds(*found, modalities)
    united = iter(_with_patients([case for part in parts for case in part], _mapping(dataset_dir)))
    parts = [[next(united) for _ in part] for part in parts]
    folds_of: dict[str, set[int]] = {}
    for k, part in enumerate(parts):
        for case in part:
            folds_of.setdefault(case.patient_id, set()).add(k)
    if both := [patient for patient, where in folds_of.items() if len(where) > 1]:
        where = " and ".join(str(k) for k in sorted(folds_of[both[0]]))
        raise ValueError(
            f"{found[0]}: {len(both)} patient(s) stand in several folds{listed(both)} ({both[0]} in {where}); expected "
            "each patient in one fold; give all cases of a patient the same fold"
        )
    return parts


def with_convention(cases: Sequence[Case], label_convention: str | None) -> list[Case]:
    """The cases with their label convention: the one that is given, else the names'; never a guess.

    Raises:
        ValueError: if none is given and the names do not decide.
    """
    if label_convention is not None:
        name = get_convention(label_convention).name
        return [replace(case, convention=name) for case in cases]
    if undecided := [case for case in cases if case.convention is None]:
        case = undecided[0]
        names = " or ".join(layout_of(case.case_id, case.images.values()).conventions)
        more = f" and {len(undecided) - 1} more" if len(undecided) > 1 else ""
        raise ValueError(
            f"{case.case_id}{more}: the names do not say what the labels mean; pass --label_convention {names}"
        )
    return list(cases)


def case_to_item(case: Case) -> dict[str, Any]:
    """The datalist item of a case; paths become strings, a missing label stays out."""
    item: dict[str, Any] = {"image": [str(path) for path in case.images.values()]}
    if case.label is not None:
        item |= {"label": str(case.label), "label_convention": case.convention}
    return item | {"case_id": case.case_id, "patient_id": case.patient_id}


def item_to_case(item: Mapping[str, Any]) -> Case:
    """The case of a datalist item: the inverse of :func:`case_to_item`."""
    paths = [Path(p) for p in ([item["image"]] if isinstance(item["image"], str | os.PathLike) else item["image"])]
    images = {modality_of(path) or f"image{i}": path for i, path in enumerate(paths)}
    label = Path(item["label"]) if item.get("label") else None
    # MONAI's readers of datalists take text for paths and put the data folder before it.
    names = {k: Path(str(item[k])).name for k in ("case_id", "label_convention") if item.get(k)}
    case_id = names.get("case_id") or _case_id_of(paths[0])
    return make_case(case_id, images, label, item.get("patient_id"), names.get("label_convention"))


def explain_item(item: Mapping[str, Any]) -> None:
    """Say what is wrong with an item's files, after loading or transforming it has failed. Reads every voxel.

    What the labels mean is not looked at: ``StandardLabelsd`` knows the convention, and names file and values itself.

    Raises:
        ValueError: if the files are at fault. Returns where they are not: the failure has another cause.
    """
    check_voxels(item_to_case(item))


def _usable_cases(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str],
    absent_sequences: bool,
    failures: Failures,
    shard: str | None,
) -> list[Case] | None:
    """The cases of the shard to segment, the failures take the others; None where not one of the data set is left."""
    scan = scan_cases(dataset_dir, modalities, absent_sequences)
    wrong: dict[str, list[str]] = {}
    folders: dict[str, Path] = {}
    known = {case.case_id for case in scan.cases}
    unnamed = [problem for root in scan.roots for problem in find_unnamed(root, known)]
    for problem in [*serious_problems(scan), *unnamed]:
        wrong.setdefault(problem.case_id, []).append(problem.text)
        folders.setdefault(problem.case_id, problem.files[0] if problem.kind != "double" else problem.files[0].parent)
    case_ids = sorted({*known, *wrong}, key=natural_key)
    mine = set(share_of(case_ids, shard))
    wrong = {case_id: [*texts, scan.advice] for case_id, texts in wrong.items() if case_id in mine}
    cases = [case for case in scan.cases if case.case_id in mine]
    for case in cases:
        if case.case_id not in wrong and (problems := header_problems(replace(case, label=None))):
            wrong[case.case_id] = problems
            folders[case.case_id] = case.files[0].parent
    usable = [case for case in cases if case.case_id not in wrong]
    if not usable and shard is None:
        return None
    for case_id in sorted(wrong, key=natural_key):
        failures.add(case_id, "; ".join(wrong[case_id]), folders[case_id])
    return usable


def _mapping(dataset_dir: str | Path | Sequence[str | Path]) -> NameMapping:
    folders = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else dataset_dir
    return read_name_mappings([check_folder(folder) for folder in folders])


def _with_patients(cases: Sequence[Case], mapping: NameMapping) -> list[Case]:
    """The same cases; those that the mapping makes one patient's share a patient_id."""
    patients = unite_patients(cases, mapping)
    return [replace(case, patient_id=patients[case.case_id]) for case in cases]


def _find_datalist(
    dataset_dir: str | Path | Sequence[str | Path], datalist: str | Path | None
) -> tuple[Path, Path] | None:
    """The datalist.json, given or found, and the folder to which its paths are relative; None where there is none."""
    if datalist:
        check_path_syntax(datalist, "datalist")
        if not isinstance(dataset_dir, str | os.PathLike):
            raise ValueError(f"datalist: its paths are relative to one dataset_dir, got {dataset_dir!r}")
        path = Path(datalist).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"datalist: there is no file {path}; expected a datalist.json in MONAI's form; check the path"
            )
        return path, check_folder(dataset_dir)
    if not isinstance(dataset_dir, str | os.PathLike):
        return None
    root = check_folder(dataset_dir)
    path = root / DATALIST_NAME
    return (path, root) if path.is_file() else None


def _section_of(parts: Sequence[list[Case]], section: str, fold: int) -> list[Case]:
    """One fold, or all but one."""
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < len(parts):
        raise ValueError(f"fold: expected 0 to {len(parts) - 1}, since there are {len(parts)} folds, got {fold!r}")
    training = sorted(
        (c for k, part in enumerate(parts) if k != fold for c in part), key=lambda c: natural_key(c.case_id)
    )
    return training if section == "training" else list(parts[fold])


def _read_folds(path: Path, root: Path, modalities: Sequence[str]) -> list[list[Case]]:
    """The folds of a datalist.json: by its entries' "fold", or its "validation" list as the one fold that validates."""
    modalities = order_modalities(modalities)
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as JSON: {error}; expected MONAI's datalist form") from error
    lists = [content.get(key) or [] for key in ("validation", "training")] if isinstance(content, dict) else [[], []]
    if not all(isinstance(entries, list) for entries in lists) or not lists[1]:
        raise ValueError(
            f'{path}: expected {{"training": [{{"image": […], "label": …, "fold": 0}}, …]}}; found no such list'
        )
    by_fold: dict[int, list[Case]] = {}
    problems: list[str] = []
    for part, entries in enumerate(lists):
        for i, entry in enumerate(entries):
            try:
                case = _entry_to_case(entry, root, modalities)
                by_fold.setdefault(part if lists[0] else _fold_of(entry), []).append(case)
            except ValueError as error:
                problems.append(f"{('validation', 'training')[part]}[{i}]: {error}")
    counts = Counter(case.case_id for part in by_fold.values() for case in part)
    problems += [f"{case_id}: listed {n} times; expected once" for case_id, n in counts.items() if n > 1]
    owners: dict[Path, dict[str, None]] = {}
    for case in (case for part in by_fold.values() for case in part):
        for file in case.files:
            owners.setdefault(file, {})[case.case_id] = None
    shared = {" and ".join(ids): file for file, ids in owners.items() if len(ids) > 1}
    problems += [f"{ids}: both list {file}; expected each file in one case" for ids, file in shared.items()]
    if not problems and sorted(by_fold) != list(range(max(2, len(by_fold)))):
        problems.append(f"has folds {sorted(by_fold)!s:.80}; expected two or more, counted from 0")
    if problems:
        report_problems(str(path), problems, "correct the file, or remove it to have the cases split by patient")
    return [by_fold[k] for k in sorted(by_fold)]


def _entry_to_case(entry: Any, root: Path, modalities: Sequence[str]) -> Case:
    """Bind an entry's images to modalities by their names: positions differ between tools."""
    if not isinstance(entry, dict) or not entry.get("image"):
        raise ValueError(f'expected {{"image": [paths], "label": path}}, got {entry!r:.200}')
    paths = [entry["image"]] if isinstance(entry["image"], str) else entry["image"]
    label = entry.get("label")
    if (
        not isinstance(paths, list)
        or not all(isinstance(p, str) for p in paths)
        or not isinstance(label, str)
        or not label
    ):
        raise ValueError(f'expected "image" as a list of paths and "label" as a path, got {entry!r:.200}')
    if long := next(filter(too_long, (*paths, label)), ""):
        raise ValueError(f"{long:.200} is too long; expected the path of a file")
    images: dict[str, Path] = {}
    for text in paths:
        modality = modality_of(text)
        if modality is None or modality in images:
            why = "does not say which modality it is" if modality is None else f"is a second {modality}"
            raise ValueError(
                f"{text:.200} {why}; expected names like BraTS20_Training_001_{'|'.join(MODALITIES)}.nii.gz, each once"
            )
        images[modality] = Path(os.path.normpath(root / text))
    if missing := [m for m in modalities if m not in images]:
        raise ValueError(f"missing {', '.join(missing)}; found {', '.join(images)}; expected {', '.join(modalities)}")
    names = {parsed[0] for path in images.values() if (parsed := parse_file_name(path.name)) and parsed[0]}
    if label_of := parse_file_name(Path(label).name):
        names |= {label_of[0]} if layout_of(label_of[0]) is not ANY_LAYOUT else set()
    if len(names) > 1:
        raise ValueError(f"its files are of several cases: {', '.join(sorted(names)):.200}; expected one case's")
    case_id = entry.get("case_id") or _case_id_of(Path(os.path.normpath(root / paths[0])))
    patient_id = entry.get("patient_id")
    chosen = {m: images[m] for m in modalities}
    convention = entry.get("label_convention")
    return make_case(
        str(case_id),
        chosen,
        Path(os.path.normpath(root / label)),
        str(patient_id) if patient_id is not None else None,
        get_convention(convention).name if convention is not None else None,
    )


def _fold_of(entry: Mapping[str, Any]) -> int:
    fold = entry.get("fold")
    if not isinstance(fold, int) or isinstance(fold, bool) or fold < 0:
        raise ValueError(f'expected "fold" as a whole number from 0, got {fold!r:.40}')
    return fold


def _case_id_of(path: Path) -> str:
    """What stands before the modality in a file's name."""
    name = path.name if modality_of(path.name) else path.parent.name
    stem = name.lower().removesuffix(".gz").removesuffix(".nii")
    return name[: len(stem)].rpartition("_" if "_" in name else "-")[0] or path.parent.name
