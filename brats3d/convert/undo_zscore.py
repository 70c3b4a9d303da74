"""Recover the integer intensities of a slice from their z-score.

The z-score of integers whose background is 0 is reversible up to a common factor of all integers in the slice: the
background is the most common value, and every other value differs from it by a whole multiple of some step. The factor
is 1 for slices with many distinct values; for the others it is estimated from neighbouring slices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brats3d.errors import DataError

MIN_DISTINCT = 32
"""A slice with at least this many distinct foreground values is assumed to have no common factor. N random integers
have none with probability 1/zeta(N), about 1 - 2^-N. If each of the 369 x 155 x 4 slices of the whole data set had just
32 values, at least one of them would have a common factor with probability 5e-5."""

SCALE_SPREAD = 0.7
"""Standard deviation of log(median intensity of a slice with few values / that of the nearest slice with enough).
Measured as 0.34 over the 73 such slices of twelve phantoms (seed 50), and doubled because real brains end less evenly.
"""


def zscore(values: np.ndarray) -> np.ndarray:
    """Scale to mean 0 and standard deviation 1 over all pixels, in float64; return zeros if all values are equal."""
    values = np.asarray(values, np.float64)
    centred = values - values.mean()
    std = np.sqrt(np.square(centred).mean())
    return centred / std if std > 0 else np.zeros_like(centred)


def recover_integers(values: np.ndarray, subject: str | Path = "slice") -> tuple[np.ndarray, int]:
    """Undo the z-score of one channel of one slice.

    The step is the largest that makes every offset from the background whole. It is found by Euclid's algorithm,
    starting with the smallest gap between two values.

    Args:
        values: float64 (X, Y), contiguous.
        subject: the slice's file and channel, for error messages.

    Returns:
        The integers, int32 (X, Y), without a common factor; and how many distinct values the foreground has.

    Raises:
        DataError: if the values are not z-scored integers with a constant background, that is, if the z-score of the
            recovered integers differs from the input by more than 1e-12.
    """
    if values.dtype != np.float64:
        raise DataError(subject, expected="float64, which keeps integers recoverable", found=str(values.dtype))
    if not values.any():  # the z-score of an empty slice is stored as 0
        return np.zeros(values.shape, np.int32), 0
    if not np.isfinite(values).all():
        raise DataError(subject, "contains NaN or Inf", advice=_DOWNLOAD)
    background = _background(values, subject)
    offsets = np.unique(values[values != background]) - background
    if not offsets.size:
        raise DataError(subject, f"is {background:.6g} everywhere; an empty slice holds 0", advice=_DOWNLOAD)
    step = _common_step(offsets)
    integers = np.subtract(values, background)
    integers /= step
    np.rint(integers, out=integers)
    largest = np.abs(offsets).max() / step
    error = np.abs(zscore(integers) - values).max() if largest <= _MAX_INTENSITY else np.inf
    if not error <= _TOLERANCE:  # also catches NaN
        raise DataError(
            subject,
            f"cannot be undone to integers (off by {error:.2g})",
            expected=f"z-scored integers with background 0, within {_TOLERANCE:g}",
            advice=_DOWNLOAD,
        )
    return integers.astype(np.int32), len(offsets)


def apply_factors(image: np.ndarray, distinct: np.ndarray) -> dict[int, int]:
    """Multiply, in place, the slices with few distinct values by their most probable common factor.

    Args:
        image: one channel, integers (Z, X, Y).
        distinct: (Z,) number of distinct foreground values of each slice.

    Returns:
        Slice -> factor, for the slices with fewer than :data:`MIN_DISTINCT` values.
    """
    reliable = np.flatnonzero(distinct >= MIN_DISTINCT)
    factors = {}
    for s in np.flatnonzero((distinct > 0) & (distinct < MIN_DISTINCT)):
        nearest = reliable[np.abs(reliable - s).argmin()] if reliable.size else None
        reference = None if nearest is None else _median_intensity(image[nearest])
        factors[int(s)] = choose_factor(_median_intensity(image[s]), int(np.count_nonzero(image[s])), reference)
        image[s] *= factors[int(s)]
    return factors


def choose_factor(scale: float, pixels: int, reference: float | None) -> int:
    """Return the most probable common factor of a slice with few distinct values.

    The posterior has two terms. n random integers are all multiples of k with probability k^-n. And the ratio of the
    slice's brightness, times k, to that of its neighbour is log-normal with width :data:`SCALE_SPREAD`. Every pixel
    counts, not every distinct value: 17 pixels with the values 1 and 2 were hardly 7 and 14 before.

    Args:
        scale: median of the slice's foreground, without a common factor.
        pixels: n, the number of foreground pixels.
        reference: median of the foreground of the nearest slice with enough values; None if there is no such slice.

    Returns:
        The factor; 1 without a reference.
    """
    if reference is None:
        return 1
    factors = np.arange(1, max(2, int(np.ceil(4 * reference / scale))))
    log_posterior = -pixels * np.log(factors) - np.log(factors * scale / reference) ** 2 / (2 * SCALE_SPREAD**2)
    return int(factors[np.argmax(log_posterior)])


_MAX_INTENSITY = 2**17  # beyond int16 and uint16; BraTS 2020 is int16

_MIN_BACKGROUND = 0.25  # of the pixels; in BraTS the background covers more than half

_TOLERANCE = 1e-12

_DOWNLOAD = "download it again"


def _background(values: np.ndarray, subject: str | Path) -> float:
    """Return the most common value."""
    lowest = values.min()
    count = np.count_nonzero(values == lowest)
    if 2 * count < values.size:
        distinct, counts = np.unique(values, return_counts=True)
        lowest, count = distinct[counts.argmax()], counts.max()
    if count < _MIN_BACKGROUND * values.size:
        raise DataError(
            subject,
            f"the most common value covers {count / values.size:.1%} of the pixels",
            expected=f"a constant background on at least {_MIN_BACKGROUND:.0%}",
            advice=_DOWNLOAD,
        )
    return float(lowest)


def _common_step(offsets: np.ndarray) -> float:
    """Return the largest step that divides all (sorted) offsets from the background."""
    largest = offsets[np.abs(offsets).argmax()]
    negligible = abs(largest) / (4 * _MAX_INTENSITY)
    step = min(np.diff(offsets).min(initial=np.inf), np.abs(offsets).min())
    rest = offsets
    while step > negligible:
        rest = np.abs(rest - np.rint(rest / step) * step)
        rest = rest[rest > negligible]
        if not rest.size:
            break
        # Continue with the remainders: dividing the offsets again would multiply the error of ever smaller steps.
        rest, step = np.append(rest, step), rest.min()
    return float(largest / np.rint(largest / step))


def _median_intensity(image: np.ndarray) -> float:
    """Return the median magnitude of the foreground."""
    return float(np.median(np.abs(image[image != 0])))
