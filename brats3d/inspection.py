"""What is wrong in headers, images and segmentations: arrays and headers in, findings out; nothing is opened here.

A sound image costs two passes over its voxels and a look at some of them; of a segmentation only the labelled voxels
are looked at. What training would refuse is found here as an error: it reads images as float32.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats3d.checks import check_labels, grid_difference, spacing_warning, usual_grid, whole_labels
from brats3d.findings import Finding, make_finding
from brats3d.labels import REGIONS_TO_READ, LabelConvention
from brats3d.volumes import Header, same_grid

__all__ = [
    "FEW",
    "ROUNDING",
    "LabelledVoxels",
    "background_of",
    "count_tiny_components",
    "find_in_headers",
    "find_in_image",
    "find_in_label",
    "fingerprint",
    "is_background",
    "is_ringing",
    "labelled_voxels",
    "open_background",
    "reorientation",
]

FEW = 0.01
"""Share of a volume's voxels that may be NaN or Inf and still be set to 0."""

ROUNDING = 1e-3
"""A label may be this far from a whole number and still be meant as it: conversions through float leave such values."""


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


# --- images


def find_in_image(case_id: str, path: Path, values: np.ndarray) -> list[Finding]:
    """What is wrong with an image's intensities. A sound image costs two passes and a look at its corners.

    Args:
        case_id: whose it is.
        path: the file.
        values: voxels, shape (x, y, z), integers or floats.
    """
    found = []

    def add(kind: str, what: str, repairable: bool = True) -> None:
        found.append(make_finding(kind, case_id, path, what, repairable))

    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        finite = np.isfinite(values)
        bad = values.size - np.count_nonzero(finite)
        what = f"{bad:,} of {values.size:,} voxels are NaN or Inf; expected finite intensities"
        add("NaN or Inf", what, bool(bad <= FEW * values.size))
        values = np.where(finite, values, 0)
        low, high = values.min(), values.max()
    if low == high:
        add("constant", f"every voxel is {low:g}; expected a brain")
        return found
    if max(-float(low), float(high)) > _FLOAT32_MAX / values.size:
        what = f"intensities from {low:g} to {high:g} are too large for float32, which training reads; expected less"
        add("NaN or Inf", what, False)
        return found
    background = background_of(values)
    if high <= 0:
        add("nothing above 0", f"intensities from {low:g} to {high:g}; expected a brain above 0", bool(background))
    elif (only := _only_intensity(values)) is not None:
        add("constant", f"every voxel above 0 is {only:g}; expected a brain, not a mask")
    if background is None:
        add("noisy background", "its corners hold various values; expected 0 outside the brain")
    elif background:
        add("background", f"its background is {background:g}; expected 0")
    elif low < 0:
        negative = int(np.count_nonzero(values < 0))
        kind = "ringing" if is_ringing(values, low, high, negative) else "negative"
        add(kind, f"{negative:,} voxels are negative, down to {low:g}; the highest is {high:g}; expected none below 0")
    if (high == _INT16_MAX or (values.dtype.kind in "iu" and high == np.iinfo(values.dtype).max)) and (
        cut := np.count_nonzero(values == high)
    ) > _FEW_SATURATED:
        add("saturated", f"{cut:,} voxels are {high:g}, the highest that {values.dtype} holds; expected a handful")
    return found


def _only_intensity(values: np.ndarray) -> float | None:
    """The value, as float32, of all voxels above 0, of which there are some; None if they have several."""
    for each in (values.reshape(-1, order="F")[::_STRIDE], values):  # some are enough in a sound image
        shown = each[each > 0].astype(np.float32)
        if shown.size and shown.min() < shown.max():
            return None
    return float(shown[0])


def fingerprint(values: np.ndarray) -> tuple[object, ...]:
    """Equal for volumes with equal voxels, whatever file they come from; different volumes nearly always differ.

    Args:
        values: shape (x, y, z), x varying fastest in memory. Half a millisecond for BraTS's: it takes the sixteenth of
            the voxels in the middle, where there is brain.
    """
    flat = values.reshape(-1, order="F")
    half = flat.size // 32 + 1
    middle = flat[max(0, flat.size // 2 - half) : flat.size // 2 + half]
    return values.shape, values.dtype.str, zlib.crc32(np.ascontiguousarray(middle).view(np.uint8).data)


def background_of(values: np.ndarray) -> float | None:
    """The one value that nine tenths of the voxels in the eight corners have; None if there is no such value."""
    sides = [max(1, n // 10) for n in values.shape]
    blocks = [values]
    for axis, side in enumerate(sides):
        ends = (slice(None, side), slice(-side, None))
        blocks = [block[(slice(None),) * axis + (end,)] for block in blocks for end in ends]
    corners = np.concatenate([block.ravel() for block in blocks])
    found, counts = np.unique(corners, return_counts=True)
    return float(found[counts.argmax()]) if counts.max() >= 0.9 * corners.size else None


def is_background(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Of the voxels at the positions ``where`` (n,): which hold the background's value, or no number at all."""
    there = values.reshape(-1, order="F")[where]
    return (there == (background_of(values) or 0)) | ~np.isfinite(there)


def open_background(images: Iterable[np.ndarray]) -> np.ndarray:
    """Where every image is background that reaches the volume's border by way of voxels with common faces.

    A hole in the brain, such as a cavity that holds 0, is not outside the brain. Costs some 0.2 s for BraTS's shape,
    so ask :func:`is_background` of the labelled voxels first.

    Args:
        images: at least one; each of shape (x, y, z). One is looked at at a time.

    Returns:
        bool, shape (x, y, z).
    """
    from scipy.ndimage import label

    empty: np.ndarray | None = None
    for values in images:
        own = (values == (background_of(values) or 0)) | ~np.isfinite(values)
        empty = own if empty is None else np.logical_and(empty, own, out=empty)
    if empty is None:
        raise ValueError("images: expected at least one, got none")
    parts, n = label(empty)
    reaching = np.zeros(n + 1, bool)
    for axis in range(parts.ndim):
        for end in (0, -1):
            reaching[np.unique(parts.take(end, axis))] = True
    reaching[0] = False  # the brain
    return reaching[parts]


def is_ringing(values: np.ndarray, low: float, high: float, negative: int) -> bool:
    """Whether the values below 0 are what interpolation leaves at edges: few and small."""
    # As floats: in int16, -(-32768) is -32768.
    return bool(-float(low) <= _RINGING_HEIGHT * float(high) and negative <= _RINGING_SHARE * np.count_nonzero(values))


# --- segmentations


@dataclass(frozen=True, eq=False)
class LabelledVoxels:
    """The voxels of a segmentation that are not 0; everything else about it follows from them.

    Args:
        where: (n,) positions in the volume, x varying fastest.
        values: (n,) their labels, as :func:`brats3d.checks.whole_labels` gives them.
        shape: of the volume.
    """

    where: np.ndarray
    values: np.ndarray
    shape: tuple[int, ...]

    def fingerprint(self) -> tuple[object, ...]:
        """Equal for segmentations with equal labels, in whatever type they are stored."""
        labels = self.values.astype(np.float32)
        return self.shape, zlib.crc32(labels.view(np.uint8).data, zlib.crc32(self.where.view(np.uint8).data))

    def rounded(self) -> LabelledVoxels:
        """The same with whole labels; what becomes 0 is left out."""
        values = np.round(self.values)
        return LabelledVoxels(self.where[values != 0], values[values != 0], self.shape)

    def counts(self, convention: LabelConvention) -> dict[str, int]:
        """Region -> how many voxels lie in it."""
        labels = {value: int(np.count_nonzero(self.values == value)) for value in convention.labels}
        return {region: sum(labels[v] for v in convention.regions[region]) for region in REGIONS_TO_READ}


def labelled_voxels(values: np.ndarray) -> LabelledVoxels:
    """Of a segmentation of shape (x, y, z), x varying fastest in memory."""
    flat = values.reshape(-1, order="F")
    where = np.flatnonzero(flat != 0)  # eight times as fast as on integers
    labels = whole_labels(flat[where])
    return LabelledVoxels(where[labels != 0], labels[labels != 0], values.shape)


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


_RINGING_HEIGHT = 0.2  # of the highest intensity: an ideal low-pass undershoots an edge by 9 % (Gibbs), on 3 axes by 11
_RINGING_SHARE = 0.05  # of the voxels that are not 0: one layer around a brain (1.4 l, 0.07 m²) is 5 % of it
_TINY_VOXELS = 10
_FEW_SATURATED = 10
_INT16_MAX = 32767
_FLOAT32_MAX = float(np.finfo(np.float32).max)  # the mean is a sum of all voxels
_STRIDE = 997  # of 9 million voxels 9,000 are looked at; a prime, so that they do not lie in one plane
_FORM_TOLERANCE_MM = 1e-2  # a qform is a quaternion of three float32 numbers
