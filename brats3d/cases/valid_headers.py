"""Checks of image headers that every command makes before it uses a case. No voxel is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from brats3d.cases.case import Case
from brats3d.files import AFFINE_TOLERANCE_MM, ORIGIN_TOLERANCE_MM, Header, format_affine, read_header, same_grid

logger = logging.getLogger("brats3d")


def header_problems(case: Case, notes: dict[str, list[str]] | None = None) -> list[str]:
    """Return the problems with the headers of a case: unreadable files, and grids that differ from the usual one.

    Args:
        case: the case.
        notes: collects what the reader assumed about readable files: kind of note -> "file: text".
    """
    problems: list[str] = []
    headers: list[Header] = []
    for path in case.files:
        try:
            headers.append(read_header(path))
        except ValueError as error:
            problems.append(str(error))
    differences = (grid_difference(header, usual_grid(headers)) for header in headers)
    if notes is not None:
        for path, note in ((header.path, note) for header in headers for note in header.notes):
            notes.setdefault(note.kind, []).append(f"{path}: {note.text}")
    return problems + [text for _, text in filter(None, differences)]


def warn_of_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Log a warning for each kind of note that makes a segmentation doubtful, with the first file."""
    for kind, advice in _DOUBTFUL.items():
        if first := next(iter(texts := notes.get(kind, ())), None):
            more = f" (and {len(texts) - 1} more files)" if len(texts) > 1 else ""
            logger.warning("%s%s; %s", first, more, advice)


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

_DOUBTFUL = {
    "no affine": "convert the original scan again, or copy its affine into this header",
    "invalid sform": "brats3d audit --repair writes a copy with a valid sform",
}
