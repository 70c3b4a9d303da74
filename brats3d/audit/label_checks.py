"""What is wrong in a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brats3d.audit.findings import Finding, make_finding
from brats3d.cases import LabelledVoxels, check_labels
from brats3d.labels import REGIONS_TO_READ, LabelConvention

ROUNDING = 1e-3
"""A label may be this far from a whole number and still be meant as it: conversions through float leave such values."""


def find_in_label(
    case_id: str, path: Path, voxels: LabelledVoxels, convention: LabelConvention | None
) -> list[Finding]:
    """What is wrong with a segmentation in itself.

    Args:
        case_id: whose it is.
        path: the file.
        voxels: those that are not 0.
        convention: what the labels mean; None if that is unknown.
    """
    values = voxels.values
    found = []
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            bad = np.count_nonzero(~np.isfinite(values))
            return [make_finding("label values", case_id, path, f"{bad:,} labels are NaN or Inf; expected labels")]
        off = np.abs(values - np.round(values))
        if off.size and off.max() > 0:
            what = (
                f"{np.count_nonzero(off):,} labels are not whole, off by up to {off.max():.2g}; expected whole numbers"
            )
            near = bool(off.max() <= ROUNDING)
            found.append(make_finding("fractional labels", case_id, path, what, near))
            if not near:
                return found
        voxels = voxels.rounded()
    if convention is None:
        return found
    try:
        check_labels(voxels.values, convention, str(path))
    except ValueError as error:
        return [*found, make_finding("label values", case_id, path, str(error))]
    return found + _find_in_regions(case_id, path, voxels, convention)


def count_tiny_components(where: np.ndarray, shape: Sequence[int]) -> int:
    """How many connected parts of the labelled voxels have fewer than ten; voxels touch by faces, edges and corners."""
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


def _find_in_regions(case_id: str, path: Path, voxels: LabelledVoxels, convention: LabelConvention) -> list[Finding]:
    counts = voxels.counts(convention)
    empty = [region for region in REGIONS_TO_READ if not counts[region]]
    if "WT" in empty:
        return [make_finding("no tumour", case_id, path, "no voxel is labelled as tumour; expected some")]
    found = []
    if empty:
        found.append(make_finding("empty region", case_id, path, f"no voxel lies in {' and '.join(empty)}"))
    tumour = voxels.where[np.isin(voxels.values, convention.regions["WT"])]
    if tiny := count_tiny_components(tumour, voxels.shape):
        what = f"{tiny} separate part(s) of the tumour have fewer than {_TINY_VOXELS} voxels"
        found.append(make_finding("tiny components", case_id, path, what))
    return found


_TINY_VOXELS = 10
