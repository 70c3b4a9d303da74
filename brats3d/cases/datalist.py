"""Read and write ``datalist.json``: the folds of a data set in the form of MONAI's datalists."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.cases.case import Case, make_case
from brats3d.cases.file_names import parse_file_name
from brats3d.cases.name_mapping import read_name_mappings
from brats3d.cases.naming_rules import ANY_LAYOUT, case_id_of, layout_of, modality_of
from brats3d.cases.paths import check_folder, check_path_syntax
from brats3d.cases.patient_groups import unite_patients
from brats3d.cases.stratify import MeasuredCase
from brats3d.errors import DataError, NotFoundError, UsageError
from brats3d.files import read_json, too_long, write_whole
from brats3d.labels import MODALITIES, get_convention, order_modalities

DATALIST_NAME = "datalist.json"


def read_datalist(
    dataset_dir: str | Path | Sequence[str | Path],
    modalities: Sequence[str] = MODALITIES,
    datalist: str | Path | None = None,
) -> list[list[Case]] | None:
    """Read the folds of a datalist.json. The files that it lists are not opened.

    Entries without a ``"patient_id"`` belong to the patient that :func:`brats3d.cases.unite_patients` finds.

    The fold of an entry is its ``"fold"``. If the file has a ``"validation"`` list, that is fold 0 and ``"training"``
    is fold 1.

    Args:
        dataset_dir: the folder to which the paths of the datalist are relative.
        modalities: the sequences that every entry must list. Images are bound by name, not by position.
        datalist: the file. Defaults to ``datalist.json`` in ``dataset_dir``.

    Returns:
        The cases of each fold, or None if no datalist is given and none lies in ``dataset_dir``.

    Raises:
        NotFoundError: if ``datalist`` or ``dataset_dir`` does not exist.
        UsageError: if ``datalist`` is given with several folders.
        DataError: if the file is malformed, or if a patient or a file appears in two places.
    """
    path_and_root = _find_datalist(dataset_dir, datalist)
    if path_and_root is None:
        return None
    path, root = path_and_root
    folds, stated = _read_folds(path, root, modalities)
    united = iter(unite_patients([case for fold in folds for case in fold], read_name_mappings(dataset_dir), stated))
    folds = [[next(united) for _ in fold] for fold in folds]
    folds_of: dict[str, set[int]] = {}
    for k, fold in enumerate(folds):
        for case in fold:
            folds_of.setdefault(case.patient_id, set()).add(k)
    divided = [
        f"patient {patient} is in folds {' and '.join(map(str, sorted(numbers)))}"
        for patient, numbers in folds_of.items()
        if len(numbers) > 1
    ]
    if divided:
        raise DataError.of_many(
            path,
            divided,
            "give all cases of a patient the same fold; if these are different patients with similar "
            'names, give each entry its "patient_id"',
        )
    return folds


def write_datalist(
    folds: Sequence[Sequence[MeasuredCase]],
    path: str | Path,
    dataset_dir: str | Path,
    testing: Sequence[Case] = (),
    modalities: Sequence[str] = MODALITIES,
    seed: int = 0,
    overwrite: bool = False,
) -> bool:
    """Write folds in the form of MONAI's datalists, with paths relative to ``dataset_dir``.

    :func:`read_datalist`, ``monai.data.load_decathlon_datalist`` and Auto3DSeg read the file. The latter two turn any
    text into a path, so that ``case_id`` may come with a folder in front.

    Args:
        folds: the cases for training and validation.
        path: the file to write.
        dataset_dir: the folder to which paths are relative.
        testing: cases without a segmentation.
        modalities: the sequences of every entry, in this order.
        seed: the seed of the split, for the record.
        overwrite: replace a file with other content.

    Returns:
        True if the file was written; False if it already had the same content.

    Raises:
        UsageError: if the file has other content and ``overwrite`` is false.
    """
    path = Path(path)
    content = _content(folds, Path(dataset_dir), testing, order_modalities(modalities), seed)
    data = json.dumps(content, indent=2).encode("ascii") + b"\n"  # MONAI opens the file in the system's encoding
    if path.exists():
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return False
        if not overwrite:
            raise UsageError(
                "output",
                f"{path} holds another split; models trained on it would be scored on their own training cases",
                advice="choose another file, or pass --overwrite to replace it",
            )
    write_whole(path, lambda file: file.write(data))
    return True


_LISTS = ("validation", "training")


def _find_datalist(
    dataset_dir: str | Path | Sequence[str | Path], datalist: str | Path | None
) -> tuple[Path, Path] | None:
    """Return the datalist.json and the folder to which its paths are relative; None if there is none."""
    if not isinstance(dataset_dir, str | os.PathLike):
        if datalist:
            raise UsageError("datalist", expected="one dataset_dir, to which its paths are relative", found=dataset_dir)
        return None
    if not datalist:
        root = check_folder(dataset_dir)
        return (root / DATALIST_NAME, root) if (root / DATALIST_NAME).is_file() else None
    check_path_syntax(datalist, "datalist")
    path = Path(datalist).expanduser()
    if not path.is_file():
        raise NotFoundError("datalist", expected="a datalist.json in MONAI's form", found=str(path))
    return path, check_folder(dataset_dir)


def _read_folds(path: Path, root: Path, modalities: Sequence[str]) -> tuple[list[list[Case]], dict[str, str]]:
    """Return the cases of each fold, and case_id -> patient_id of the entries that state their patient."""
    modalities = order_modalities(modalities)
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise DataError(path, f"cannot be read as JSON: {error}", expected="MONAI's datalist form") from error
    lists = {key: content.get(key) or [] for key in _LISTS} if isinstance(content, dict) else {}
    if not lists.get("training") or not all(isinstance(entries, list) for entries in lists.values()):
        raise DataError(path, expected='{"training": [{"image": [...], "label": ..., "fold": 0}, ...]}')
    folds: dict[int, list[Case]] = {}
    stated: dict[str, str] = {}
    problems: list[str] = []
    for k, (key, entries) in enumerate(lists.items()):
        for i, entry in enumerate(entries):
            try:
                case = _entry_to_case(entry, root, modalities)
                folds.setdefault(k if lists["validation"] else _fold_of(entry), []).append(case)
                if entry.get("patient_id") is not None:
                    stated[case.case_id] = case.patient_id
            except ValueError as error:
                problems.append(f"{key}[{i}]: {error}")
    problems += _listed_twice([case for fold in folds.values() for case in fold])
    if not problems and sorted(folds) != list(range(max(2, len(folds)))):
        problems.append(f"has folds {sorted(folds)!s:.80}; expected two or more, counted from 0")
    if problems:
        raise DataError.of_many(path, problems, "correct the file, or remove it to split the cases by patient")
    return [folds[k] for k in sorted(folds)], stated


def _listed_twice(cases: Sequence[Case]) -> list[str]:
    """Report case identifiers and files that several entries list."""
    counts = Counter(case.case_id for case in cases)
    problems = [f"{case_id}: listed {n} times; expected once" for case_id, n in counts.items() if n > 1]
    owners: dict[Path, dict[str, None]] = {}
    for case in cases:
        for file in case.files:
            owners.setdefault(file, {})[case.case_id] = None
    shared = {" and ".join(ids): file for file, ids in owners.items() if len(ids) > 1}
    return problems + [f"{ids}: both list {file}; expected each file in one case" for ids, file in shared.items()]


def _entry_to_case(entry: Any, root: Path, modalities: Sequence[str]) -> Case:
    """Return the case of an entry. Images are bound to modalities by name: positions differ between tools.

    Raises:
        DataError: whose subject is the wrong key or path.
    """
    if not isinstance(entry, dict) or not entry.get("image"):
        raise DataError("entry", expected='{"image": [paths], "label": path}', found=entry)
    paths = [entry["image"]] if isinstance(entry["image"], str) else entry["image"]
    label = entry.get("label")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise DataError("image", expected="a list of paths", found=paths)
    if not isinstance(label, str) or not label:
        raise DataError("label", expected="a path", found=label)
    if long := next(filter(too_long, (*paths, label)), ""):
        raise DataError(long[:100], "is too long for a path")
    images: dict[str, Path] = {}
    for path in paths:
        modality = modality_of(root / path)
        if modality is None:
            raise DataError(path, "does not state its modality", expected="a name such as BraTS20_Training_001_t1.nii")
        if modality in images:
            raise DataError(path, f"is a second {modality}", expected="one")
        images[modality] = Path(os.path.normpath(root / path))
    if missing := [m for m in modalities if m not in images]:
        raise DataError("image", f"missing {', '.join(missing)}", expected=", ".join(modalities), found=list(images))
    case_ids = {parsed[0] for path in images.values() if (parsed := parse_file_name(path.name)) and parsed[0]}
    if (of_label := parse_file_name(Path(label).name)) and layout_of(of_label[0]) is not ANY_LAYOUT:
        case_ids.add(of_label[0])
    # P01_T2_flair may be the FLAIR of P01 or of P01_T2
    case_ids -= {each for each in case_ids if {f"{each}{end}" for end in ("_T2", "_t2", "-T2", "-t2")} & case_ids}
    if len(case_ids) > 1:
        raise DataError("image", f"files of several cases: {', '.join(sorted(case_ids)):.200}", expected="one case")
    case_id, patient_id, convention = (entry.get(key) for key in ("case_id", "patient_id", "label_convention"))
    return make_case(
        str(case_id or case_id_of(Path(os.path.normpath(root / paths[0])))),
        {m: images[m] for m in modalities},
        Path(os.path.normpath(root / label)),
        None if patient_id is None else str(patient_id),
        None if convention is None else get_convention(convention).name,
    )


def _fold_of(entry: Mapping[str, Any]) -> int:
    fold = entry.get("fold")
    if not isinstance(fold, int) or isinstance(fold, bool) or fold < 0:
        raise DataError("fold", expected="a whole number from 0", found=fold)
    return fold


def _content(
    folds: Sequence[Sequence[MeasuredCase]], root: Path, testing: Sequence[Case], modalities: Sequence[str], seed: int
) -> dict[str, Any]:
    conventions = sorted({str(measured.case.convention) for fold in folds for measured in fold})
    labels = {
        name: {"0": "background", **{str(value): text for value, text in get_convention(name).labels.items()}}
        for name in conventions
    }
    training = [
        _entry(measured.case, root, modalities)
        | {"fold": k, "label_convention": measured.case.convention}
        | ({"grade": measured.case.grade} if measured.case.grade else {})
        for k, fold in enumerate(folds)
        for measured in fold
    ]
    return {
        "name": "BraTS",
        "description": f"{len(folds)} folds grouped by patient, balanced by grade, enhancing tumour and tumour volume",
        "modality": {str(i): modality for i, modality in enumerate(modalities)},
        "labels": labels[conventions[0]] if len(labels) == 1 else labels,
        "numTraining": len(training),
        "numTest": len(testing),
        "seed": seed,
        "training": training,
        "testing": [_entry(case, root, modalities) for case in testing],
    }


def _entry(case: Case, root: Path, modalities: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"image": [_relative(case.images[modality], root) for modality in modalities]}
    if case.label is not None:
        entry["label"] = _relative(case.label, root)
    return entry | {"case_id": case.case_id, "patient_id": case.patient_id}


def _relative(path: Path, root: Path) -> str:
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # on another drive
        return path.as_posix()
