"""Evidence that an image is not what the networks expect: one sequence of a skull-stripped brain on a background of 0.

Training, prediction and the audit use the same checks. Checks of the anatomy need a field of view that can hold a head;
crops and small volumes pass them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

BRAIN_ML = (700.0, 1900.0)
"""Volume of a brain with its fluid. The brains of nine public cases and 60 synthetic ones have 1,080 to 1,610 ml."""

MIN_HEAD_MM = 140.0
"""Smallest side of a field of view that can hold a head; BraTS's are 240, 240 and 155 mm."""


@dataclass(frozen=True)
class Doubt:
    """A reason to doubt an image.

    Args:
        kind: ``"background"``, ``"whole head"``, ``"small brain"``, ``"outliers"``, ``"identical sequences"`` or
            ``"empty sequence"``.
        names: the images that it is about.
        problem: what was found and what was expected, on one line.
    """

    kind: str
    names: tuple[str, ...]
    problem: str


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """Measurements of one image, with a sample of a megabyte.

    Args:
        low, high: the smallest and the largest voxel.
        background: the value of the corners of the volume; None if they hold various values.
        is_cropped: True if the corners hold tissue, so that nothing is known about a background.
        is_constant: True if all voxels above 0 have the same value, and none is below 0: a mask.
        foreground_ml: volume of the voxels above 0, or of those that are not 0 if the image is normalised to a mean
            of 0; None if the field of view cannot hold a head.
        layer_variation: standard deviation of the intensities 5 to 15 mm below the surface, divided by their mean; None
            if the field of view cannot hold a head, or the image is normalised to a mean of 0.
        floor, limit: the lowest and the highest intensity that are no outliers.
        outliers: number of voxels below ``floor`` or above ``limit``.
        sample: evenly spaced voxels, float32.
    """

    low: float
    high: float
    background: float | None
    is_cropped: bool
    is_constant: bool
    foreground_ml: float | None
    layer_variation: float | None
    floor: float
    limit: float
    outliers: int
    sample: np.ndarray

    @property
    def is_empty(self) -> bool:
        """True if every voxel is 0."""
        return self.low == 0 == self.high


def measure_image(
    values: np.ndarray, spacing_mm: Sequence[float], low: float | None = None, high: float | None = None
) -> ImageFacts:
    """Measure an image. This takes about 3 ms for a BraTS image.

    Args:
        values: finite voxels, shape (x, y, z).
        spacing_mm: voxel size along each axis.
        low, high: the smallest and the largest voxel, if they are known already.
    """
    flat = values.reshape(-1, order="F" if values.flags.f_contiguous else "C")
    with np.errstate(over="ignore"):  # float64 may hold more than float32
        sample = np.ascontiguousarray(flat[:: max(1, values.size // _SAMPLE_SIZE) | 1], np.float32)
    positive = sample[sample > 0]
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    is_constant = bool(positive.size and low >= 0 and math.isclose(positive.min(), high, rel_tol=1e-6))
    corners = corner_values(values)
    background = _common_value(corners)
    floor, limit, brightest = low, high, high
    if positive.size >= _MIN_POSITIVE:
        p99, p999 = np.percentile(positive, (99, 99.9))
        brightest = float(min(p999, 2 * p99))  # many outliers are among the brightest voxels of a small volume
        limit = min(high, _OUTLIER * brightest)
        floor = low if background else max(low, -_OUTLIER * brightest)
    foreground_ml = layer_variation = None
    sides_mm = [n * mm for n, mm in zip(values.shape, spacing_mm, strict=True)]
    if background == 0 and min(sides_mm) >= MIN_HEAD_MM:
        is_normalised = low < 0 and _is_as_bright(-sample[sample < 0], positive)
        foreground = np.abs(sample) if is_normalised else sample
        faint = _FAINT * brightest
        foreground_ml = np.count_nonzero(foreground > faint) / sample.size * math.prod(sides_mm) / 1000
        layer_variation = None if is_normalised else _layer_variation(values, spacing_mm, faint, brightest)
    return ImageFacts(
        low,
        high,
        background,
        background is None and _is_tissue(corners, positive),
        is_constant,
        foreground_ml,
        layer_variation,
        floor,
        limit,
        (int(np.count_nonzero(values > limit)) if high > limit else 0)
        + (int(np.count_nonzero(values < floor)) if low < floor else 0),
        sample,
    )


def image_doubts(images: Mapping[str, ImageFacts]) -> list[Doubt]:
    """Return the reasons to doubt the images of one case.

    Args:
        images: name of each image, such as its file -> its measurements.
    """
    doubts = list(_equal_sequences(images))
    for name, facts in images.items():
        doubts += [Doubt(kind, (name,), problem) for kind, problem in _doubts(facts)]
    doubts += _larger_than_others(images)
    variations = [facts.layer_variation for facts in images.values() if facts.layer_variation is not None]
    is_head = len(variations) > 1 and np.median(variations) > _MAX_VARIATION
    if is_head and not any(doubt.kind == "whole head" for doubt in doubts):
        problem = "intensities below the surface vary as in skull and scalp; expected a skull-stripped brain"
        doubts.append(Doubt("whole head", tuple(images), problem))
    return doubts


def background_of(values: np.ndarray) -> float | None:
    """Return the value of at least 90 % of the voxels in the eight corners; None if there is no such value."""
    return _common_value(corner_values(values))


def corner_values(values: np.ndarray) -> np.ndarray:
    """Return the voxels of the eight corners, each a tenth of the volume's sides."""
    sides = [max(1, n // 10) for n in values.shape]
    blocks = [values]
    for axis, side in enumerate(sides):
        ends = (slice(None, side), slice(-side, None))
        blocks = [block[(slice(None),) * axis + (end,)] for block in blocks for end in ends]
    return np.concatenate([block.ravel() for block in blocks])


_SAMPLE_SIZE = 120_000  # of BraTS's 9 million voxels, with about 19,000 of the brain

_MIN_POSITIVE = 1000  # voxels, for a 99.9th percentile

_OUTLIER = 5.0  # times the 99.9th percentile; the maximum of 36 real and 240 synthetic images is 1.03 to 2.4 times it,
# and this percentile is at most 1.72 times the 99th

_FAINT = 0.01  # times the brightest tissue; cubic interpolation leaves less than this far from the brain

_COARSE_MM = 5.0  # of the grid on which the layer is measured; three voxels of it are skull and scalp

_MAX_VARIATION = 0.55  # median of a case: at most 0.42 in the brains above, 0.65 in a real head, 0.81 in a phantom

_LARGER = 1.3  # times the median volume of a case; the sequences of the brains above differ by at most 1 %

_CORRELATION = 0.99  # of the ranks of two copies within the brain; at most 0.89 in the brains above

_MIN_COMMON = 100  # voxels, for a correlation


def _common_value(values: np.ndarray) -> float | None:
    value = np.median(values)  # which is the value of most voxels, if there is one
    return float(value) if np.count_nonzero(values == value) >= 0.9 * values.size else None


def _is_tissue(corners: np.ndarray, positive: np.ndarray) -> bool:
    """Return True if corners that are not 0 are about as bright as the brain: the volume is a crop."""
    bright = np.percentile(positive, 90) if positive.size else 0
    return bool(np.percentile(np.abs(corners[corners != 0]), 25) > bright / 4)


def _is_as_bright(negative: np.ndarray, positive: np.ndarray) -> bool:
    """Return True if voxels below 0 are tissue, as after a z-score within the brain; ringing is faint."""
    return bool(negative.size and positive.size and np.median(negative) > np.median(positive) / 4)


def _doubts(facts: ImageFacts) -> Iterator[tuple[str, str]]:
    if facts.is_empty:
        yield "empty sequence", "every voxel is 0"
        return
    if facts.is_constant:
        yield "empty sequence", f"every voxel above 0 is {facts.high:g}"
        return
    if facts.background is None and not facts.is_cropped:
        yield "background", "the background is not 0: the corners of the volume hold various values"
    elif facts.background:
        yield "background", f"the background is not 0 but {facts.background:.4g}"
    low_ml, high_ml = BRAIN_ML
    if facts.foreground_ml is not None and not low_ml <= facts.foreground_ml <= high_ml:
        kind = "small brain" if facts.foreground_ml < low_ml else "whole head"
        found = f"about {round(facts.foreground_ml, -2):,.0f} ml are above 0"
        yield kind, f"{found}; expected a brain of {low_ml:,.0f} to {high_ml:,.0f} ml"
    if facts.outliers:
        number = f"{facts.outliers:,} voxel{'s' * (facts.outliers > 1)}"
        yield "outliers", f"the intensities of {number} are more than {_OUTLIER:g} times those of the brightest tissue"


def _equal_sequences(images: Mapping[str, ImageFacts]) -> Iterator[Doubt]:
    for (a, first), (b, second) in combinations(images.items(), 2):
        if first.sample.shape != second.sample.shape:
            continue
        few = max(1, first.sample.size // 8000) | 1  # a tenth of the sample is enough for a correlation
        x, y = first.sample[::few], second.sample[::few]
        both = (x != (first.background or 0)) & (y != (second.background or 0))
        if np.count_nonzero(both) < _MIN_COMMON:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):  # constant images
            correlation = np.corrcoef(_ranks(x[both]), _ranks(y[both]))[0, 1]
        if correlation > _CORRELATION:
            yield Doubt("identical sequences", (a, b), "show the same image; expected different sequences")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, so that a changed contrast or brightness makes no difference."""
    return np.searchsorted(np.sort(values), values)


def _larger_than_others(images: Mapping[str, ImageFacts]) -> Iterator[Doubt]:
    """Yield a doubt about each sequence that has a skull while the others of the case have none."""
    volumes = {name: facts.foreground_ml for name, facts in images.items() if facts.foreground_ml}
    usual = np.median(list(volumes.values())) if volumes else 0
    for name, volume in volumes.items():
        if _LARGER * usual < volume <= BRAIN_ML[1]:  # larger ones have a doubt of their own
            found, expected = (f"{round(ml, -2):,.0f}" for ml in (volume, usual))
            problem = f"about {found} ml are above 0, but {expected} in the other sequences"
            yield Doubt("whole head", (name,), problem)


def _layer_variation(values: np.ndarray, spacing_mm: Sequence[float], faint: float, brightest: float) -> float:
    """Return the coefficient of variation of the layer in which a head has bone and fat, and a brain only cortex."""
    from scipy.ndimage import binary_erosion

    coarse = np.pad(values[tuple(slice(None, None, max(1, round(_COARSE_MM / mm))) for mm in spacing_mm)], 1)
    outer = binary_erosion(coarse > faint)
    layer = np.minimum(coarse[outer & ~binary_erosion(outer, iterations=2)].astype(np.float64), brightest)
    return float(layer.std() / layer.mean()) if layer.size else 0.0
