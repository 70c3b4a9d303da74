"""Checks of headers: one grid for all files of a case, a valid affine in each, and the reader's assumptions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.cases import grid_difference, spacing_warning, usual_grid
from brats3d.files import Header, reorientation, same_grid


def header_findings(case_id: str, headers: Sequence[Header]) -> list[Finding]:
    """Return the findings in the headers of one case: each is compared with the grid that most files have."""
    findings = []
    expected = usual_grid(headers)
    is_majority = 2 * sum(same_grid(header, expected) for header in headers) > len(headers)
    for header in headers:
        if difference := grid_difference(header, expected):
            kind, problem = difference
            if reorientation(header, expected) is not None:
                kind = "orientation"
                axes, expected_axes = _axis_codes(header), _axis_codes(expected)
                problem = f"stored as {axes}; expected {expected_axes} as in {expected.path.name}"
            findings.append(make_finding(f"different {kind}", case_id, header.path, problem, is_majority))
        findings += [make_finding(note.kind, case_id, header.path, note.text) for note in header.notes]
        findings += _affine_findings(case_id, header)
    if warning := spacing_warning(expected):
        findings.append(make_finding("voxel spacing", case_id, expected.path, warning))
    return findings


def _axis_codes(header: Header) -> str:
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(header.affine))


def _affine_findings(case_id: str, header: Header) -> list[Finding]:
    """Compare the two affines of a NIfTI header."""
    from nibabel.spatialimages import HeaderDataError

    sform, sform_code = header.nifti.get_sform(coded=True)
    try:
        qform, qform_code = header.nifti.get_qform(coded=True)
    except (ValueError, HeaderDataError) as error:
        problem = f"the qform is not a rotation ({error}); expected the same affine as the sform; the sform is used"
        return [make_finding("sform and qform differ", case_id, header.path, problem)]
    if sform_code and qform_code and not (off := float(np.abs(sform - qform).max())) <= _AFFINE_TOLERANCE_MM:
        problem = f"sform and qform differ by up to {off:.4g} mm; expected the same affine; the sform is used"
        return [make_finding("sform and qform differ", case_id, header.path, problem)]
    return []


_AFFINE_TOLERANCE_MM = 1e-2  # a qform is a quaternion of three float32 numbers
