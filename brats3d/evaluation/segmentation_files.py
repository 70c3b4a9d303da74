"""Segmentations found in a folder, by case."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brats3d.cases import (
    ANY_LAYOUT,
    SEGMENTATION,
    NoCaseError,
    layout_of,
    name_some,
    natural_key,
    parse_file_name,
    scan_cases,
    walk,
)
from brats3d.errors import DataError


@dataclass(frozen=True)
class Segmentation:
    """One case's segmentation on disk.

    Args:
        case_id: whose.
        path: a NIfTI file.
        convention: what its labels mean, where the names of the case's files say it.
    """

    case_id: str
    path: Path
    convention: str | None = None


def find_segmentations(folder: str | Path, name: str = "folder", with_cases: bool = False) -> dict[str, Segmentation]:
    """The segmentations in a folder, by case, in the natural order of their identifiers.

    Every NIfTI file below the folder is one: ``<case_id>.nii.gz``, ``<case_id>_seg.nii.gz``, ``<case_id>-seg.nii.gz``,
    ``<case_id>/seg.nii.gz``; but images (``<case_id>_t1.nii.gz``), and what lies beside images under another name.
    Links are followed; what is hidden is not looked at.

    Args:
        folder: to search.
        name: of the argument, for errors.
        with_cases: it may be a data set as downloaded, in which a segmentation is its case's whatever its name, and the
            names of the files say what its labels mean.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is none, cannot be read, holds no segmentation, or two of one case.
    """
    root = _folder(folder, name)
    of_cases = _of_cases(root) if with_cases else []
    known = {os.path.realpath(each.path) for each in of_cases}
    found: dict[str, list[Segmentation]] = {}
    for each in (*of_cases, *(each for each in _of_files(root) if os.path.realpath(each.path) not in known)):
        found.setdefault(each.case_id, []).append(each)
    if not found:
        raise ValueError(
            f"{name}: {root} holds no segmentation; expected files like BraTS20_Training_001.nii.gz or "
            "BraTS20_Training_001_seg.nii.gz"
        )
    doubles = [
        f"{case_id}: {len(each)} files, {name_some([os.path.relpath(one.path, root) for one in each])}; expected one"
        for case_id, each in found.items()
        if len(each) > 1
    ]
    if doubles:
        raise DataError.of_many(f"{name}: {root}", doubles, "keep one file a case, named by it: <case_id>.nii.gz")
    return {case_id: found[case_id][0] for case_id in sorted(found, key=natural_key)}


_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def _folder(folder: str | Path, name: str) -> Path:
    path = Path(folder).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{name}: there is no {path}; expected a folder with segmentations; check the path")
    if not path.is_dir():
        raise ValueError(f"{name}: {path} is a file; expected a folder with segmentations")
    return path


def _of_cases(root: Path) -> list[Segmentation]:
    """Of cases as :func:`brats3d.cases.find_cases` finds them; none where there are none."""
    try:
        scan = scan_cases(root, absent_sequences=True)
    except NoCaseError:
        return []
    unclear = [
        problem
        for problem in scan.problems
        if problem.kind in ("case twice", "ambiguous")
        or (problem.kind == "double" and f"for {SEGMENTATION}" in problem.text)
    ]
    if unclear:
        raise DataError.of_many(str(root), [f"{p.case_id}: {p.text}" for p in unclear], "keep one segmentation a case")
    return [Segmentation(case.case_id, case.label, case.convention) for case in scan.cases if case.label]


def _of_files(root: Path) -> Iterator[Segmentation]:
    """Of files, by their names alone."""
    for folder, files in walk(root, set()):
        parsed = {name: parse_file_name(name) for name in files if _NIFTI.search(name)}
        images = any(found and found[1] != SEGMENTATION for found in parsed.values())
        for name, found in parsed.items():
            if (found and found[1] != SEGMENTATION) or (images and not found):
                continue
            case_id = (found[0] or Path(folder).name) if found else _NIFTI.sub("", name)
            layout = layout_of(case_id)
            convention = None if layout is ANY_LAYOUT else layout.convention
            yield from (Segmentation(case_id, Path(path), convention) for path in files[name])
