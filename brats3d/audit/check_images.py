"""Checks of an image's intensities: arrays in, findings out.

An image without findings is passed over twice. Training reads images as float32; anything that it would refuse is an
error here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.cases import ImageFacts, background_of, measure_image

MAX_NON_FINITE = 0.01
"""Fraction of a volume's voxels that may be NaN or Inf and still be set to 0."""


def image_findings(
    case_id: str, path: Path, values: np.ndarray, spacing_mm: Sequence[float] = (1, 1, 1)
) -> tuple[list[Finding], ImageFacts]:
    """Return the findings in the intensities of an image, and its measurements.

    Args:
        case_id: the case.
        path: the file.
        values: voxels, shape (x, y, z), integers or floats.
        spacing_mm: voxel size along each axis.
    """
    low, high = values.min(), values.max()
    if np.isfinite([low, high]).all():
        facts = measure_image(values, spacing_mm, float(low), float(high))
        problems = list(_problems(values, facts))
    else:
        finite = np.isfinite(values)
        bad = values.size - np.count_nonzero(finite)
        problem = f"{bad:,} of {values.size:,} voxels are NaN or Inf; expected finite intensities"
        values = np.where(finite, values, 0)
        facts = measure_image(values, spacing_mm)
        problems = [("NaN or Inf", problem, bool(bad <= MAX_NON_FINITE * values.size)), *_problems(values, facts)]
    return [make_finding(kind, case_id, path, problem, repairable) for kind, problem, repairable in problems], facts


def fingerprint(values: np.ndarray) -> tuple[object, ...]:
    """Return a fingerprint of the voxels: equal for equal images in any file, and nearly always different for others.

    It takes half a millisecond for a BraTS image: only the middle sixteenth of the voxels, where there is brain, is
    read.

    Args:
        values: shape (x, y, z), x varying fastest in memory.
    """
    flat = values.reshape(-1, order="F")
    half = flat.size // 32 + 1
    middle = flat[max(0, flat.size // 2 - half) : flat.size // 2 + half]
    return values.shape, values.dtype.str, zlib.crc32(np.ascontiguousarray(middle).view(np.uint8).data)


def is_background(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return which voxels hold the background value, NaN or Inf.

    Args:
        values: shape (x, y, z).
        where: (n,) positions in the volume, x varying fastest.

    Returns:
        (n,) bool.
    """
    chosen = values.reshape(-1, order="F")[where]
    return (chosen == (background_of(values) or 0)) | ~np.isfinite(chosen)


def open_background(images: Iterable[np.ndarray]) -> np.ndarray:
    """Find the background common to all images that is connected, by faces, to the border of the volume.

    A hole in the brain, such as a cavity that holds 0, is not outside the brain. This takes about 0.2 s for a BraTS
    volume, so call :func:`is_background` on the labelled voxels first.

    Args:
        images: at least one, each of shape (x, y, z); only one is in memory at a time.

    Returns:
        bool, shape (x, y, z).
    """
    from scipy.ndimage import label

    is_empty = np.array(True)
    for values in images:
        is_empty = is_empty & ((values == (background_of(values) or 0)) | ~np.isfinite(values))
    parts, n = label(is_empty)
    reaches_border = np.zeros(n + 1, bool)
    for axis in range(parts.ndim):
        for end in (0, -1):
            reaches_border[np.unique(parts.take(end, axis))] = True
    reaches_border[0] = False  # the brain
    return reaches_border[parts]


def is_ringing(values: np.ndarray, low: float, high: float, negative: int) -> bool:
    """Return True if the negative voxels are few and small enough to come from interpolation at edges.

    Args:
        values: voxels of any shape.
        low: their minimum.
        high: their maximum.
        negative: how many are below 0.
    """
    # As floats: in int16, -(-32768) is -32768.
    is_low = -float(low) <= _RINGING_HEIGHT * float(high)
    return bool(is_low and negative <= _RINGING_FRACTION * np.count_nonzero(values))


def _problems(values: np.ndarray, facts: ImageFacts) -> Iterator[tuple[str, str, bool]]:
    """Yield (kind, problem, whether it can be repaired) of each finding in finite voxels."""
    low, high, background = facts.low, facts.high, facts.background
    if low == high:
        yield "constant image", f"every voxel is {low:g}; expected a brain", False
        return
    if max(-low, high) > _FLOAT32_MAX / values.size:
        yield "NaN or Inf", f"intensities from {low:g} to {high:g} overflow float32; expected smaller ones", False
        return
    if high <= 0:
        problem = f"intensities from {low:g} to {high:g}; expected a brain above 0"
        yield "no positive voxels", problem, bool(background)
    elif (only := _only_intensity(values)) is not None:
        yield "constant image", f"every voxel above 0 is {only:g}; expected a brain, not a mask", False
    if background is None and not facts.is_cropped:
        yield "noisy background", "the corners of the volume hold various values; expected 0 outside the brain", False
    elif background:
        yield "non-zero background", f"the background is {background:g}; expected 0", True
    elif background == 0 and low < 0:
        negative = int(np.count_nonzero(values < 0))
        problem = f"{negative:,} voxels are negative, down to {low:g} (maximum {high:g}); expected none below 0"
        yield "ringing" if is_ringing(values, low, high, negative) else "negative intensities", problem, True
    if high == _INT16_MAX or (values.dtype.kind in "iu" and high == np.iinfo(values.dtype).max):
        clipped = np.count_nonzero(values == high)
        if clipped > _MAX_SATURATED:
            problem = f"{clipped:,} voxels have the maximum, {high:g}; expected at most {_MAX_SATURATED}"
            yield "saturated", problem, False


def _only_intensity(values: np.ndarray) -> float | None:
    """Return the one float32 value that all voxels above 0 have; None if they have several."""
    for sample in (values.reshape(-1, order="F")[::_STRIDE], values):  # for most images a sample is enough
        positive = sample[sample > 0].astype(np.float32)
        if positive.size and positive.min() < positive.max():
            return None
    return float(positive[0])


_RINGING_HEIGHT = 0.2  # of the maximum: an ideal low-pass undershoots an edge by 9 % (Gibbs), on 3 axes by 11

_RINGING_FRACTION = 0.05  # of the non-zero voxels: one layer around a brain (1.4 l, 0.07 m²) is 5 % of it

_MAX_SATURATED = 10

_INT16_MAX = 32767

_FLOAT32_MAX = float(np.finfo(np.float32).max)  # the mean is a sum of all voxels

_STRIDE = 997  # 9,000 of 9 million voxels; a prime, so that the sample is not in one plane
