"""What is wrong in headers, images and segmentations: arrays and headers in, findings out; nothing is opened here.

A sound image costs two passes over its voxels and a look at some of them; of a segmentation only the labelled voxels
are looked at. What training would refuse is found here as an error: it reads images as float32.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brats3d.audit.findings import Finding, make_finding

FEW = 0.01
"""Share of a volume's voxels that may be NaN or Inf and still be set to 0."""


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


_RINGING_HEIGHT = 0.2  # of the highest intensity: an ideal low-pass undershoots an edge by 9 % (Gibbs), on 3 axes by 11

_RINGING_SHARE = 0.05  # of the voxels that are not 0: one layer around a brain (1.4 l, 0.07 m²) is 5 % of it

_FEW_SATURATED = 10

_INT16_MAX = 32767

_FLOAT32_MAX = float(np.finfo(np.float32).max)  # the mean is a sum of all voxels

_STRIDE = 997  # of 9 million voxels 9,000 are looked at; a prime, so that they do not lie in one plane
