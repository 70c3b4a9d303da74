"""Checks of a segmentation: its labels, its regions and their components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.cases import (
    Case,
    LabelledVoxels,
    LabelSummary,
    check_labels,
    describe_fits,
    label_doubts,
    name_some,
    possible_conventions,
    region_voxels,
)
from brats3d.labels import REGIONS_TO_READ, LabelConvention

MAX_ROUNDING = 1e-3
"""Labels this close to a whole number are rounded: conversions through float leave such values."""


def label_findings(
    case_id: str, path: Path, voxels: LabelledVoxels, convention: LabelConvention | None
) -> list[Finding]:
    """Return the findings in a segmentation.

    Args:
        case_id: the case.
        path: the file.
        voxels: the nonzero voxels.
        convention: the label convention; None if unknown.
    """
    values = voxels.values
    findings = []
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            problem = f"{np.count_nonzero(~np.isfinite(values)):,} labels are NaN or Inf; expected whole numbers"
            return [make_finding("unexpected labels", case_id, path, problem)]
        off = np.abs(values - np.round(values))
        if off.any():
            problem = f"{np.count_nonzero(off):,} labels are off by up to {off.max():.2g}; expected whole numbers"
            is_near = bool(off.max() <= MAX_ROUNDING)
            findings.append(make_finding("fractional labels", case_id, path, problem, is_near))
            if not is_near:
                return findings
        voxels = voxels.rounded()
    if convention is None:
        return findings
    try:
        check_labels(voxels.values, convention, str(path))
    except ValueError as error:
        return [*findings, make_finding("unexpected labels", case_id, path, error)]
    return findings + _region_findings(case_id, path, voxels, convention)


def meaning_findings(
    cases: Sequence[Case], summaries: Mapping[str, LabelSummary], convention: LabelConvention | None
) -> list[Finding]:
    """Return the findings about the meaning of the labels in all segmentations with the same convention.

    Args:
        cases: the cases.
        summaries: case_id -> labels.
        convention: the convention; None if unknown.
    """
    if convention is None:
        problem = f"the names of {name_some([case.case_id for case in cases])} do not state the meaning of the labels; "
        fits = describe_fits(summaries, possible_conventions(cases))
        return [make_finding("unknown label convention", "", None, problem + fits)]
    return [
        make_finding(doubt.kind, "", None, str(doubt))
        for doubt in label_doubts(summaries, convention)
        if doubt.kind != "unexpected labels"  # each file has such a finding
    ]


def count_tiny_components(where: np.ndarray, shape: Sequence[int]) -> int:
    """Count the components of fewer than ten voxels; voxels are connected by faces, edges and corners.

    Args:
        where: (n,) positions in the volume, x varying fastest.
        shape: of the volume.
    """
    from scipy.ndimage import label

    if not where.size:
        return 0
    places = np.array(np.unravel_index(where, tuple(shape), order="F"))
    start = places.min(axis=1, keepdims=True)
    box = np.zeros(np.ptp(places, axis=1) + 1, bool)
    box[tuple(places - start)] = True
    parts, _ = label(box, np.ones((3, 3, 3)))
    sizes = np.bincount(parts[tuple(places - start)])[1:]
    return int(np.count_nonzero(sizes < _TINY_VOXELS))


def _region_findings(case_id: str, path: Path, voxels: LabelledVoxels, convention: LabelConvention) -> list[Finding]:
    counts = region_voxels(voxels.values, convention)
    empty = [region for region in REGIONS_TO_READ if not counts[region]]
    if "WT" in empty:
        return [make_finding("no tumour", case_id, path, "no voxel is labelled as tumour")]
    findings = []
    if empty:
        findings.append(make_finding("empty region", case_id, path, f"no voxel is in {' or '.join(empty)}"))
    tumour = voxels.where[np.isin(voxels.values, convention.regions["WT"])]
    if tiny := count_tiny_components(tumour, voxels.shape):
        problem = f"{tiny} component(s) of the tumour have fewer than {_TINY_VOXELS} voxels"
        findings.append(make_finding("tiny components", case_id, path, problem))
    return findings


_TINY_VOXELS = 10
