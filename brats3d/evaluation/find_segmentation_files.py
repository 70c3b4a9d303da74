"""Find the segmentations in a folder."""

from __future__ import annotations

import os
import shlex
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brats3d.cases import (
    ANY_LAYOUT,
    SEGMENTATION,
    NoCasesError,
    folder_case_id,
    layout_of,
    name_some,
    natural_key,
    parse_path,
    raw_convention_of,
    readable_name,
    scan_cases,
)
from brats3d.errors import DataError, NotFoundError, UsageError
from brats3d.evaluation.case_pairing import has_case_id, is_prediction_name
from brats3d.files import is_image_name, strip_image_ending, walk_folders
from brats3d.scans import BRATS_SPACE


@dataclass(frozen=True)
class Segmentation:
    """One case's segmentation on disk.

    Args:
        case_id: the case.
        path: its file.
        convention: label convention, if it follows from the names of the case's files.
        assumed: True if the convention is only assumed, since the names do not state it.
    """

    case_id: str
    path: Path
    convention: str | None = None
    assumed: bool = False


def find_segmentations(folder: str | Path, name: str = "folder", with_cases: bool = False) -> dict[str, Segmentation]:
    """Find the segmentations in a folder, by case.

    Every image file at any depth counts as a segmentation: ``<case_id>.nii.gz``, ``<case_id>_seg.nii.gz``,
    ``<case_id>-seg.nii.gz``, ``<case_id>/seg.nii.gz``, ``<case_id>/pred.nii.gz``. Exceptions are images
    (``<case_id>_t1.nii.gz``), and files with other names than ``<case_id>_pred.nii.gz`` in a folder of images.
    Links are followed; hidden folders are skipped. In the output folder of ``predict``, the segmentation of a raw case
    in its own space counts, not the one in ``brats_space``.

    Args:
        folder: the folder to search.
        name: name of the argument, for errors.
        with_cases: True if the folder may be a data set as downloaded, in which segmentations may have any name.

    Returns:
        case_id -> segmentation, in natural order.

    Raises:
        NotFoundError: if there is no such folder.
        UsageError: if it is a file.
        DataError: if it cannot be read, holds no segmentation, or several of one case.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise NotFoundError(name, f"{root} does not exist", expected="a folder with segmentations")
    if not root.is_dir():
        advice = _how_to_unpack(root)
        raise UsageError(name, f"{root} is a file", expected="a folder with segmentations", advice=advice)
    from_cases = _from_cases(root) if with_cases else []
    known = {os.path.realpath(each.path) for each in from_cases}
    found: dict[str, list[Segmentation]] = {}
    for each in (
        *from_cases,
        *(each for each in _from_file_names(root, with_cases) if os.path.realpath(each.path) not in known),
    ):
        found.setdefault(each.case_id, []).append(each)
    if not found:
        expected = "files like BraTS20_Training_001.nii.gz or BraTS20_Training_001_seg.nii.gz"
        advice = next(filter(None, map(_how_to_unpack, sorted(root.iterdir()))), "")
        raise DataError(root, "no segmentation", expected=expected, advice=advice)
    # predict writes the segmentation of a raw case twice: in its own space, and in BraTS space.
    found = {
        case_id: [each for each in copies if each.path.parent != root / BRATS_SPACE] or copies
        for case_id, copies in found.items()
    }
    duplicates = [
        f"{case_id}: {len(each)} files, {name_some([os.path.relpath(one.path, root) for one in each])}; expected one"
        for case_id, each in found.items()
        if len(each) > 1
    ]
    if duplicates:
        raise DataError.of_many(root, duplicates, "keep one file for each case, named <case_id>.nii.gz")
    return {case_id: found[case_id][0] for case_id in sorted(found, key=natural_key)}


def _how_to_unpack(file: Path) -> str:
    """Return the command that unpacks an archive; an empty text for other files."""
    if not file.is_file() or not os.access(file, os.R_OK):
        return ""
    kind = "zip" if zipfile.is_zipfile(file) else "tar" if tarfile.is_tarfile(file) else ""
    return f"unpack it: python -m {kind}file -e {shlex.quote(str(file))} FOLDER" if kind else ""


def _from_cases(root: Path) -> list[Segmentation]:
    """Return the segmentations of the cases that :func:`brats3d.cases.scan_cases` finds."""
    try:
        scan = scan_cases(root, absent_sequences=True)
    except NoCasesError:
        return []
    unclear = [
        problem
        for problem in scan.problems
        if problem.kind == "case twice" or (problem.modality == SEGMENTATION and problem.kind != "misnamed")
    ]
    if unclear:
        problems = [f"{problem.case_id}: {problem.text}" for problem in unclear]
        raise DataError.of_many(root, problems, "keep one segmentation for each case")
    return [
        Segmentation(case.case_id, case.label, case.convention, case.convention_assumed)
        for case in scan.cases
        if case.label
    ]


def _from_file_names(root: Path, with_cases: bool) -> Iterator[Segmentation]:
    """Yield the segmentations that can be recognised by their file names.

    In a data set, files such as ``X_pred`` and ``X_brain_seg`` beside the images of X are not references.
    """
    for folder, files in walk_folders(root):
        parsed = {name: parse_path(Path(folder, name)) for name in files if is_image_name(name)}
        with_images = {parts[0] for parts in parsed.values() if parts and parts[1] != SEGMENTATION}
        parts_of_cases = tuple(f"{case_id}_" for case_id in with_images if case_id)
        for name, parts in parsed.items():
            stem = readable_name(strip_image_ending(name))
            is_prediction = is_prediction_name(stem) and not with_cases
            if (parts and parts[1] != SEGMENTATION) or (with_images and not parts and not is_prediction):
                continue
            case_id = parts[0] if parts else stem
            if with_cases and case_id not in with_images and case_id.startswith(parts_of_cases):
                continue
            case_id = case_id if has_case_id(case_id) else folder_case_id(folder)
            layout = layout_of(case_id)
            by_name = None if layout is ANY_LAYOUT else layout.convention
            convention = raw_convention_of(Path(folder)) or by_name
            yield from (Segmentation(case_id, Path(path), convention) for path in files[name])
