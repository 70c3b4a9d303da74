"""What is wrong inside a case's files: headers that do not agree, voxels that cannot be used.

:func:`check_headers` opens headers and reads no voxel; :func:`check_voxels` reads everything and serves to explain a
failure. Nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brats3d.cases.case import Case
from brats3d.errors import DataError
from brats3d.files import AFFINE_TOLERANCE_MM, Header, format_affine, read_header, read_volume, same_grid
from brats3d.labels import CONVENTIONS, LabelConvention, get_convention

LABEL_TOLERANCE = 1e-6
"""A label this far from a whole number is that number: a header's scale is a float32, and so is what training reads."""


def check_headers(case: Case) -> None:
    """Open the headers of a case's files and compare them; no voxel is read.

    Raises:
        ValueError: with everything that :func:`header_problems` finds.
    """
    if problems := header_problems(case):
        raise DataError.of_many(
            f"case {case.case_id}", problems, "download or convert the case again, or move it out of the folder"
        )


def header_problems(case: Case) -> list[str]:
    """What is wrong with the headers: each must be a readable 3-D NIfTI, all on the grid that most files have."""
    problems: list[str] = []
    headers: list[Header] = []
    for path in case.files:
        try:
            headers.append(read_header(path))
        except ValueError as error:
            problems.append(str(error))
    differences = (grid_difference(header, usual_grid(headers)) for header in headers)
    return problems + [text for _, text in filter(None, differences)]


def usual_grid(headers: Sequence[Header]) -> Header:
    """The first of those files on whose grid most of them lie."""
    return max(headers, key=lambda header: sum(same_grid(header, other) for other in headers))


def grid_difference(header: Header, expected: Header) -> tuple[str, str] | None:
    """``("shape" or "affine", what was found and expected)``; None if both files lie on one grid."""
    if same_grid(header, expected):
        return None
    if header.shape != expected.shape:
        text = f"has shape {header.shape}; expected {expected.shape} as in {expected.path.name}"
        return "shape", f"{header.path}: {text}"
    return "affine", (
        f"{header.path}: its affine differs from that of {expected.path.name} by up to "
        f"{np.abs(header.affine - expected.affine).max():.4g} "
        f"({format_affine(header.affine)} against {format_affine(expected.affine)}); "
        f"expected the same within {AFFINE_TOLERANCE_MM} mm"
    )


def header_warnings(case: Case) -> list[str]:
    """What makes a segmentation of a case that passes the checks doubtful: voxels more than 10 % off 1 mm."""
    return [text] if (text := spacing_warning(read_header(case.files[0]))) else []


def spacing_warning(header: Header) -> str | None:
    """What is said of voxels more than 10 % off 1 mm."""
    spacing_mm = np.array(header.spacing_mm)
    if np.all(np.abs(spacing_mm - _TRAINED_SPACING_MM) <= 0.1 * _TRAINED_SPACING_MM + 1e-6):
        return None
    found = " x ".join(f"{s:.2f}" for s in spacing_mm)
    trained = f"the network was trained at {_TRAINED_SPACING_MM:g} mm, so its segmentation of this case is doubtful"
    return f"{header.path}: voxels are {found} mm; {trained}; resample the case to 1 mm (BraTS's preprocessing does)"


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
            values = read_volume(path).values
            if path == case.label:
                if convention:
                    check_labels(values, get_convention(convention), str(path))
            else:
                _check_intensities(values, path)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise DataError.of_many(
            f"case {case.case_id}", problems, "download or convert the case again, or move it out of the folder"
        )


def check_labels(
    values: np.ndarray, convention: LabelConvention, source: str, option: str = "--label_convention"
) -> None:
    """Check that a segmentation holds only the convention's labels, each within :data:`LABEL_TOLERANCE`.

    Args:
        values: voxel values, of any shape and dtype.
        convention: what the values should mean.
        source: the file, for the error.
        option: the option by which the user states the convention, for the error.

    Raises:
        ValueError: naming the values found, how often, and those expected.
    """
    known = _known(values, convention)
    if known.all():
        return
    values = whole_labels(values)
    known = _known(values, convention)
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
    others = " or ".join(f"{c.name} {_set(c.values)}" for c in CONVENTIONS.values() if c.values.issuperset(found))
    hint = f"; they fit {others}: if all cases are of that release, pass {option} NAME" if others else ""
    raise ValueError(f"{source}: holds labels {_set(list(found)[:_MAX_LISTED])}, {counts}; {expected}{hint}")


def whole_labels(values: np.ndarray) -> np.ndarray:
    """The labels; those within :data:`LABEL_TOLERANCE` of a whole number are that number. Same shape and dtype.

    What has passed :func:`check_labels` goes through here before it becomes an integer: a cast makes 1.9999999 a 1.
    """
    if values.dtype.kind != "f":
        return values
    whole = np.round(values)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return np.where(np.abs(values - whole) <= LABEL_TOLERANCE, whole, values)


_TRAINED_SPACING_MM = 1.0

_MAX_LISTED = 20


def _known(values: np.ndarray, convention: LabelConvention) -> np.ndarray:
    known = np.zeros(values.shape, dtype=bool)
    for value in convention.values:  # a few passes of == are ten times as fast as one np.unique of a whole volume
        known |= values == value
    return known


def _check_intensities(values: np.ndarray, path: Path) -> None:
    if n_bad := values.size - np.count_nonzero(np.isfinite(values)):
        raise ValueError(f"{path}: {n_bad:,} of {values.size:,} voxels are NaN or Inf; expected finite intensities")
    if not values.any():
        raise ValueError(f"{path}: every voxel is 0; expected a brain: there is nothing to normalise")


def _set(values: Sequence[int] | frozenset[int]) -> str:
    return "{" + ", ".join(str(v) for v in sorted(values)) + "}"
