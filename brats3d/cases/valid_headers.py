"""Checks of NIfTI headers that every command makes before it uses a case. No voxel is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brats3d.cases.case import Case
from brats3d.files import AFFINE_TOLERANCE_MM, ORIGIN_TOLERANCE_MM, Header, format_affine, read_header, same_grid


def header_problems(case: Case) -> list[str]:
    """Return the problems with the headers of a case: unreadable files, and grids that differ from the usual one."""
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
    """Return the first of the headers that has the most common grid."""
    return max(headers, key=lambda header: sum(same_grid(header, other) for other in headers))


def grid_difference(header: Header, expected: Header) -> tuple[str, str] | None:
    """Compare two grids. Return ``"shape"`` or ``"affine"`` and a description, or None if the grids are the same."""
    if same_grid(header, expected):
        return None
    if header.shape != expected.shape:
        text = f"has shape {header.shape}; expected {expected.shape} as in {expected.path.name}"
        return "shape", f"{header.path}: {text}"
    return "affine", (
        f"{header.path}: its affine differs from that of {expected.path.name} by up to "
        f"{np.abs(header.affine - expected.affine).max():.4g} "
        f"({format_affine(header.affine)} against {format_affine(expected.affine)}); "
        f"expected the same within {AFFINE_TOLERANCE_MM} mm ({ORIGIN_TOLERANCE_MM} mm for the origin)"
    )


def spacing_warning(header: Header) -> str | None:
    """Return a warning if the voxel spacing is more than 10 % off 1 mm, which makes a segmentation doubtful."""
    spacing_mm = np.array(header.spacing_mm)
    if np.all(np.abs(spacing_mm - _TRAINED_SPACING_MM) <= 0.1 * _TRAINED_SPACING_MM + 1e-6):
        return None
    found = " x ".join(f"{s:.2f}" for s in spacing_mm)
    trained = f"the network was trained at {_TRAINED_SPACING_MM:g} mm, so its segmentation of this case is doubtful"
    return f"{header.path}: voxels are {found} mm; {trained}; resample the case to 1 mm (BraTS's preprocessing does)"


_TRAINED_SPACING_MM = 1.0
