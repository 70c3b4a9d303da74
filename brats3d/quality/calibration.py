"""Calibrated probabilities: of the voxels with a probability of 0.8, four of five belong to the region.

The logits of a region are divided by a temperature and shifted (C. Guo et al., On Calibration of Modern Neural
Networks, ICML 2017; the shift is that of J. Platt, 1999). Both are fitted near the borders of segmentations, since
almost all other voxels are certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from brats3d.evaluation import box_with_margin

BORDER_MM = 10
"""Distance from the border of a segmentation up to which voxels count."""

BINS = np.arange(-7.5, 7.75, 0.25)
"""Centres of the bins of logits in which voxels are counted."""


@dataclass(frozen=True)
class Calibration:
    """Calibrates the logits of a region: ``logits / temperature + shift``.

    Args:
        temperature: above 0; above 1 for an overconfident network.
        shift: positive for a network that segments too little.
    """

    temperature: float = 1.0
    shift: float = 0.0

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities of logits, both of any shape."""
        return 1 / (1 + np.exp(-(logits / self.temperature + self.shift)))

    def to_json(self) -> dict[str, float]:
        """Return the numbers with five digits."""
        return {name: float(f"{value:.5g}") for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Any) -> Calibration:
        """Return the calibration that :meth:`to_json` described.

        Raises:
            ValueError, TypeError, KeyError: if a number is missing or outside its range.
        """
        temperature, shift = float(content["temperature"]), float(content["shift"])
        if not (0 < temperature < np.inf and np.isfinite(shift)):
            raise ValueError(f"expected a positive temperature and a finite shift, got {temperature} and {shift}")
        return cls(temperature, shift)


def count_border(
    logits: np.ndarray, mask: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> np.ndarray:
    """Count the voxels within :data:`BORDER_MM` of the border of a segmentation, by logit and reference.

    Args:
        logits: of a region, shape (H, W, D).
        mask: the segmentation of the region, bool, same shape.
        reference: bool, same shape.
        spacing_mm: voxel size along each axis.

    Returns:
        int, shape (2, bins): the voxels outside and inside the reference in each of :data:`BINS`. All 0 for an empty
        segmentation.
    """
    box = box_with_margin(mask, int(np.ceil(BORDER_MM / min(spacing_mm))) + 1)
    mask, logits, reference = mask[box], logits[box], reference[box]
    if not mask.any():
        return np.zeros((2, len(BINS)), int)
    border = mask & ~ndimage.binary_erosion(mask)
    near = ndimage.distance_transform_edt(~border, sampling=spacing_mm) <= BORDER_MM
    bins = np.rint((np.clip(logits, BINS[0], BINS[-1]) - BINS[0]) / (BINS[1] - BINS[0])).astype(int)
    return np.stack([np.bincount(bins[near & (reference == inside)], minlength=len(BINS)) for inside in (False, True)])


def fit_calibration(counts: np.ndarray, with_shift: bool = True) -> Calibration:
    """Fit the temperature and the shift of a region by maximum likelihood.

    Args:
        counts: as :func:`count_border` returns them, summed over cases.
        with_shift: False = the temperature alone.

    Returns:
        The calibration; that which changes nothing if a class has no voxels, or the network is no better than chance.
    """
    from sklearn.linear_model import LogisticRegression

    if not counts.any(axis=1).all():
        return Calibration()
    inside = np.repeat([0, 1], len(BINS))
    model = LogisticRegression(C=np.inf, fit_intercept=with_shift)
    model.fit(np.tile(BINS, 2)[:, None], inside, sample_weight=counts.ravel())
    slope = float(model.coef_.item())
    return Calibration(1 / slope, float(np.sum(model.intercept_))) if slope > _LEAST_SLOPE else Calibration()


def calibration_error(counts: np.ndarray, calibration: Calibration, bins: int = 10) -> float:
    """Return the expected calibration error: the mean over voxels of how far a bin's frequency is from its probability.

    Args:
        counts: as :func:`count_border` returns them.
        calibration: applied to the logits first; ``Calibration()`` for the network's own probabilities.
        bins: number of bins of equal width in probability.
    """
    probabilities, total = calibration.apply(BINS), counts.sum(axis=0)
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    expected = np.bincount(place, probabilities * total, minlength=bins)
    observed = np.bincount(place, counts[1], minlength=bins)
    return float(np.abs(expected - observed).sum() / max(total.sum(), 1))


_LEAST_SLOPE = 0.05
