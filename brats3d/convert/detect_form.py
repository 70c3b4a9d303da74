"""Detect which form of BraTS a folder holds, from the names of its files; no voxel is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.cases import NoCasesError, check_case_id, layout_of, scan_cases, split_channel
from brats3d.convert.decathlon import TaskFiles, find_task_cases
from brats3d.convert.kaggle_h5 import SLICE_FILE, SliceFiles, find_volumes
from brats3d.errors import DataError
from brats3d.files import walk_folders

SourceCase = SliceFiles | TaskFiles


@dataclass(frozen=True)
class SourceDataset:
    """A data set to convert.

    Args:
        form: its form, in a few words.
        cases: the cases to convert.
        tables: files to copy beside the cases.
    """

    form: str
    cases: Sequence[SourceCase]
    tables: Sequence[Path]


def detect_form(src: str | os.PathLike[str]) -> SourceDataset:
    """Find the data set in a folder or up to four folders below it.

    Raises:
        DataError: if the folder holds none of the two forms, both, or more than one Decathlon task; if its cases are
            named like a release whose labels are numbered differently from BraTS 2020's.
    """
    root = Path(src).expanduser()
    slices: list[Path] = []
    tables: dict[str, Path] = {}
    tasks: list[Path] = []
    others: list[str] = []
    for folder, names in walk_folders(root, max_depth=_MAX_DEPTH):
        for name in names:
            path = Path(folder, name)
            if SLICE_FILE.fullmatch(name):
                slices.append(path)
            elif name == "dataset.json":
                tasks.append(path)
            elif name in _TABLES:
                tables.setdefault(name, path)
            else:
                others.append(name)
    if len(tasks) + bool(slices) > 1:
        paths = [*map(str, tasks), *map(str, slices[:1])]
        raise DataError(root, f"holds several data sets ({', '.join(paths)})", advice="pass the folder of one of them")
    if slices:
        return SourceDataset("Kaggle's HDF5 slices", find_volumes(slices), sorted(tables.values()))
    if tasks and not _is_raw(tasks[0].parent):
        cases = find_task_cases(tasks[0])
        _check_case_ids([case.case_id for case in cases], tasks[0])
        return SourceDataset("a Decathlon task", cases, ())
    raise _no_form(root, others)


_TABLES = ("name_mapping.csv", "survival_info.csv")

_MAX_DEPTH = 4


def _is_raw(folder: Path) -> bool:
    """Return True for nnU-Net's raw form, which has a dataset.json and imagesTr like the Decathlon's."""
    return any(split_channel(image.name) for images in folder.glob("images*") for image in images.glob("*"))


def _no_form(root: Path, names: Sequence[str]) -> DataError:
    """Return the error for a folder without a form that can be converted: its cases may need no conversion."""
    expected = (
        "HDF5 slices (volume_1_slice_0.h5, ...) or a Decathlon task (dataset.json, imagesTr, labelsTr) in it or up to "
        f"{_MAX_DEPTH} folders below"
    )
    try:
        case = scan_cases(root, absent_sequences=True).cases[0]
    except NoCasesError as error:
        expected = error.expected if error.is_known_form else expected
        return DataError(root, error.problem, expected=expected, advice=error.advice)
    except ValueError as error:
        return DataError(root, str(error))
    advice = "the cases need no conversion: try brats3d audit"
    return DataError(root, f"holds cases such as {case.case_id}", expected=expected, advice=advice)


def _check_case_ids(case_ids: Sequence[str], dataset_json: Path) -> None:
    """Raise if the name of a converted case implies other labels than BraTS 2020's."""
    for case_id in case_ids:
        try:
            check_case_id(case_id)
        except ValueError as error:
            raise DataError(dataset_json, str(error), advice=_RENAME) from None
        layout = layout_of(case_id)
        if layout.convention != "brats2020":
            raise DataError(
                dataset_json,
                f"{case_id} has a name of {layout.name}, whose labels are numbered differently from the output's",
                expected="other names, such as BRATS_001",
                advice=_RENAME,
            )


_RENAME = "rename the images, on disk and in dataset.json"
