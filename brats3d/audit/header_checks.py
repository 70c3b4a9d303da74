"""What is wrong in the headers of a case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brats3d.audit.findings import Finding, make_finding
from brats3d.cases import grid_difference, spacing_warning, usual_grid
from brats3d.files import Header, same_grid


def find_in_headers(case_id: str, headers: Sequence[Header]) -> list[Finding]:
    """What is wrong with the headers of one case's files: against those of most files, and each in itself."""
    found = []
    expected = usual_grid(headers)
    is_majority = 2 * sum(same_grid(header, expected) for header in headers) > len(headers)
    for header in headers:
        if difference := grid_difference(header, expected):
            kind, text = difference
            if reorientation(header, expected) is not None:
                kind = "orientation"
                text = f"is stored as {_orientation(header)}; expected {_orientation(expected)} as {expected.path.name}"
            found.append(make_finding(kind, case_id, header.path, text, is_majority))
        found += _find_in_forms(case_id, header)
    if warning := spacing_warning(expected):
        found.append(make_finding("spacing", case_id, expected.path, warning))
    return found


def reorientation(header: Header, expected: Header) -> np.ndarray | None:
    """nibabel's orientation transform (3, 2) that brings a file onto a grid; None if flips and swaps cannot."""
    from nibabel.orientations import inv_ornt_aff, io_orientation, ornt_transform

    change = ornt_transform(io_orientation(header.affine), io_orientation(expected.affine))
    shape = tuple(header.shape[int(axis)] for axis in np.argsort(change[:, 0]))
    moved = Header(header.path, shape, header.affine @ inv_ornt_aff(change, header.shape), header.dtype, None)
    return change if same_grid(moved, expected) else None


def _orientation(header: Header) -> str:
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(header.affine))


def _find_in_forms(case_id: str, header: Header) -> list[Finding]:
    """The two affines that a NIfTI file has room for."""
    from nibabel.spatialimages import HeaderDataError

    sform, sform_code = header.nifti.get_sform(coded=True)
    try:
        qform, qform_code = header.nifti.get_qform(coded=True)
    except (ValueError, HeaderDataError) as error:
        text = f"its qform is no rotation ({error}); expected the same affine as its sform (sform is what is used)"
        return [make_finding("two affines", case_id, header.path, text)]
    if not sform_code and not qform_code:
        text = "says nothing of where its voxels lie (sform_code and qform_code are 0); expected one of them"
        return [make_finding("header lost", case_id, header.path, text)]
    if sform_code and qform_code and not (off := float(np.abs(sform - qform).max())) <= _FORM_TOLERANCE_MM:
        text = f"its sform and its qform differ by up to {off:.4g} mm; expected the same affine (sform is what is used)"
        return [make_finding("two affines", case_id, header.path, text)]
    return []


_FORM_TOLERANCE_MM = 1e-2  # a qform is a quaternion of three float32 numbers
