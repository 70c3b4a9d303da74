"""What is wrong inside a case's files: headers that do not agree, voxels that cannot be used.

:func:`check_headers` opens headers and reads no voxel; :func:`check_voxels` reads everything and serves to explain a
failure. Nothing is repaired.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.cases import Case, report_problems
from brats3d.labels import CONVENTIONS, LabelConvention, get_convention

__all__ = ["check_headers", "check_labels", "check_voxels", "header_problems", "header_warnings"]


def check_headers(case: Case) -> None:
    """Open the headers of a case's files and compare them; no voxel is read.

    Raises:
        ValueError: with everything that :func:`header_problems` finds.
    """
    if problems := header_problems(case):
        report_problems(
            f"case {case.case_id}", problems, "download or convert the case again, or move it out of the folder"
        )


def header_problems(case: Case) -> list[str]:
    """What is wrong with the headers: each must be a readable 3-D NIfTI, all on the grid that most files have."""
    problems: list[str] = []
    images: dict[Path, Any] = {}
    for path in case.files:
        try:
            images[path] = _open(path)
        except ValueError as error:
            problems.append(str(error))
    if not images:
        return problems
    usual = max(images, key=lambda path: sum(_same_grid(images[path], image) for image in images.values()))
    expected = images[usual]
    for path, image in images.items():
        if image.shape != expected.shape:
            problems.append(f"{path}: has shape {image.shape}; expected {expected.shape} as in {usual.name}")
        elif not _same_grid(image, expected):
            problems.append(
                f"{path}: its affine differs from that of {usual.name} by up to "
                f"{np.abs(image.affine - expected.affine).max():.4g} "
                f"({_rows(image.affine)} against {_rows(expected.affine)}); "
                f"expected the same within {_AFFINE_TOLERANCE_MM} mm"
            )
    return problems


def header_warnings(case: Case) -> list[str]:
    """What makes a segmentation of a case that passes the checks doubtful: voxels more than 10 % off 1 mm."""
    path = case.files[0]
    spacing_mm = np.linalg.norm(_open(path).affine[:3, :3], axis=0)
    if np.all(np.abs(spacing_mm - _TRAINED_SPACING_MM) <= 0.1 * _TRAINED_SPACING_MM + 1e-6):
        return []
    found = " x ".join(f"{s:.2f}" for s in spacing_mm)
    trained = f"the network was trained at {_TRAINED_SPACING_MM:g} mm, so its segmentation of this case is doubtful"
    return [f"{path}: voxels are {found} mm; {trained}; resample the case to 1 mm (BraTS's preprocessing does)"]


def check_voxels(case: Case, convention: str | None = None) -> None:
    """Read every voxel of a case. Slow: it serves to explain a failure.

    Args:
        case: its headers are checked first.
        convention: that the labels must follow; None looks only whether their file can be read.

    Raises:
        ValueError: with every file that ends early, holds NaN or Inf, is empty, or holds labels outside the convention.
    """
    check_headers(case)
    problems = []
    for path in case.files:
        try:
            values = _read(path)
            if path == case.label:
                if convention:
                    check_labels(values, get_convention(convention), str(path))
            else:
                _check_intensities(values, path)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        report_problems(
            f"case {case.case_id}", problems, "download or convert the case again, or move it out of the folder"
        )


def check_labels(values: np.ndarray, convention: LabelConvention, source: str) -> None:
    """Check that a segmentation holds only the convention's labels.

    Args:
        values: voxel values, of any shape and dtype.
        convention: what the values should mean.
        source: the file, for the error.

    Raises:
        ValueError: naming the values found, how often, and those expected.
    """
    known = np.zeros(values.shape, dtype=bool)
    for value in convention.values:  # a few passes of == are ten times as fast as one np.unique of a whole volume
        known |= values == value
    if known.all():
        return
    expected = f"expected {convention.name}'s labels {_set(convention.values)}"
    bad = values[~known]
    if not np.isfinite(bad).all():
        raise ValueError(f"{source}: {np.count_nonzero(~np.isfinite(bad)):,} voxels are NaN or Inf; {expected}")
    fractions = bad[bad != np.round(bad)]
    if fractions.size:
        raise ValueError(
            f"{source}: {fractions.size:,} voxels are not whole numbers "
            f"(from {fractions.min():.4g} to {fractions.max():.4g}): "
            f"a probability map? {expected}; give the segmentation itself"
        )
    found = {int(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}
    counts = ", ".join(
        f"{v} in {n:,} voxels" for v, n in list(found.items())[:_MAX_LISTED] if v not in convention.values
    )
    other = next((c for c in CONVENTIONS.values() if c.values.issuperset(found)), None)
    hint = (
        f"; this looks like {other.name}'s convention {_set(other.values)}: pass --label_convention {other.name}"
        if other
        else ""
    )
    raise ValueError(f"{source}: holds labels {_set(list(found)[:_MAX_LISTED])}, {counts}; {expected}{hint}")


_AFFINE_TOLERANCE_MM = 1e-3
_TRAINED_SPACING_MM = 1.0
_MAX_LISTED = 20


def _same_grid(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool(np.abs(a.affine - b.affine).max() <= _AFFINE_TOLERANCE_MM)


def _open(path: Path) -> Any:
    """The nibabel image of a 3-D NIfTI file, its voxels unread."""
    import nibabel  # here, since it takes a third of a second
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    expected = "expected one 3-D volume in NIfTI format"
    try:
        if path.is_dir():
            raise ValueError("a folder")
        size = path.stat().st_size
        if size == 0:
            raise ValueError("the file is empty (0 bytes)")
        image = nibabel.load(path)
        shape, dtype, offset = image.shape, image.get_data_dtype(), image.dataobj.offset
    except FileNotFoundError:
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise ValueError(f"{path}: {what}; {expected}") from None
    except (OSError, EOFError, ValueError, AttributeError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise ValueError(
            f"{path}: cannot be read as NIfTI: {_one_line(error)}; {expected}; download it again"
        ) from error
    if len(shape) != 3:
        raise ValueError(f"{path}: is {len(shape)}-D, of shape {shape}; expected 3-D: one file a sequence; split it")
    if min(shape) < 1 or dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: has shape {shape} and voxels of type {dtype}; {expected} with integer or float voxels"
        )
    if not np.isfinite(image.affine).all() or np.linalg.det(image.affine[:3, :3]) == 0:
        raise ValueError(
            f"{path}: its affine {_rows(image.affine)} places no voxel in space; expected an invertible one"
        )
    needed = offset + math.prod(shape) * dtype.itemsize
    if not path.name.lower().endswith(".gz") and size < needed:
        raise ValueError(
            f"{path}: file ends early: {size:,} bytes; expected {needed:,} for shape {shape}; download it again"
        )
    return image


def _read(path: Path) -> np.ndarray:
    """All voxels, in the dtype in which they are stored unless the header scales them."""
    image = _open(path)
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as packed:  # to the end, where the checksum stands: nibabel stops at the last voxel
                while packed.read(1 << 20):
                    pass
        return np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path}: file ends early or is damaged: {_one_line(error)}; expected {math.prod(image.shape):,} voxels; "
            "download it again"
        ) from error


def _check_intensities(values: np.ndarray, path: Path) -> None:
    if n_bad := values.size - np.count_nonzero(np.isfinite(values)):
        raise ValueError(f"{path}: {n_bad:,} of {values.size:,} voxels are NaN or Inf; expected finite intensities")
    if not values.any():
        raise ValueError(f"{path}: every voxel is 0; expected a brain: there is nothing to normalise")


def _set(values: Sequence[int] | frozenset[int]) -> str:
    return "{" + ", ".join(str(v) for v in sorted(values)) + "}"


def _rows(affine: np.ndarray) -> str:
    return "[" + ", ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3]) + "]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
