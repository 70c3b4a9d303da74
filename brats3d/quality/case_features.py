"""Numbers that describe how sure a network is of a segmentation, from its probabilities alone.

A network that is unsure has many voxels near its threshold, so that its volume depends on the threshold, and its
expected Dice is low. A fitted model turns these numbers into a Dice and a volume (:func:`brats3d.quality.fit_quality`).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from brats3d.evaluation import box_with_margin
from brats3d.labels import REGIONS

THRESHOLDS = (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Logits at which the volume of a region is measured."""

TEMPERATURES = (1.0, 2.0, 4.0)
"""Divisors of the logits, for which the expected Dice is computed."""

LEAST_LOGIT = -2.0
"""Voxels below this (a probability of 0.12) are background, unless they lie near others that are above it."""

MARGIN_VOXELS = 12
"""Margin around the voxels above :data:`LEAST_LOGIT`; what lies beyond it is not counted."""

FEATURES = (
    "log_volume",
    *(f"volume_above_{threshold:g}" for threshold in THRESHOLDS),
    *(f"expected_dice_{temperature:g}" for temperature in TEMPERATURES),
    "mean_logit",
    "largest_logit",
    "entropy",
    "components",
    "largest_component",
    "surface",
    "tc_in_wt",
    "et_in_tc",
)
"""The names of the numbers that :func:`case_features` returns for each region."""

_LIMIT = 7.6  # beyond it float16 cannot store the probabilities
_SMALL_ML = 0.02  # keeps ratios finite, and near 1 for volumes that are hardly seen


def case_features(probabilities: np.ndarray, regions: np.ndarray, voxel_ml: float = 0.001) -> np.ndarray:
    """Return the features of a case.

    Args:
        probabilities: shape (3, H, W, D), channels in the order of ``labels.REGIONS``; float16 suffices.
        regions: the segmentation after post-processing, bool or {0, 1}, same shape and order.
        voxel_ml: volume of a voxel; default: 1 mm³.

    Returns:
        float64, shape (3, features): a row for each region in the order of ``labels.REGIONS``, with a number for each
        of :data:`FEATURES`.
    """
    likely = probabilities > 1 / (1 + np.exp(-LEAST_LOGIT))
    box = box_with_margin(np.logical_or(likely, regions > 0).any(axis=0), MARGIN_VOXELS)
    logits, masks = to_logits(probabilities[:, *box]), regions[:, *box] > 0
    volumes = {r: np.count_nonzero(mask) * voxel_ml + _SMALL_ML for r, mask in zip(REGIONS, masks, strict=True)}
    ratios = [volumes["TC"] / volumes["WT"], volumes["ET"] / volumes["TC"]]
    pairs = zip(logits, masks, strict=True)
    return np.array([[*_region_features(each, mask, voxel_ml), *ratios] for each, mask in pairs])


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities, float32, limited to what float16 probabilities can express."""
    limit = 1 / (1 + np.exp(-_LIMIT))
    clipped = np.clip(probabilities.astype(np.float32), 1 - limit, limit)
    return np.log(clipped / (1 - clipped))


def _region_features(logits: np.ndarray, mask: np.ndarray, voxel_ml: float) -> list[float]:
    inside, small = logits[mask], _SMALL_ML / voxel_ml
    count = len(inside) + small
    above = np.array([np.count_nonzero(logits > threshold) for threshold in THRESHOLDS])
    counted = logits[mask | (logits > LEAST_LOGIT)]
    probs = 1 / (1 + np.exp(-counted))
    entropy = -(probs * np.log(probs) + (1 - probs) * np.log(1 - probs)).sum()
    return [
        np.log10(count * voxel_ml),
        *np.log((above + small) / count),
        *(_expected_dice(counted, inside, temperature, small) for temperature in TEMPERATURES),
        inside.mean() if len(inside) else LEAST_LOGIT,
        logits.max(initial=-_LIMIT),
        entropy / count,
        *_shape_features(mask),
    ]


def _expected_dice(counted: np.ndarray, inside: np.ndarray, temperature: float, small: float) -> float:
    """Return the expected Dice if each voxel belonged to the region with its probability; 1 if there are none."""
    total = _sum_of_probabilities(counted, temperature) + len(inside)
    return (2 * _sum_of_probabilities(inside, temperature) + small) / (total + small)


def _sum_of_probabilities(logits: np.ndarray, temperature: float) -> float:
    return float((1 / (1 + np.exp(-logits / temperature))).sum())


def _shape_features(mask: np.ndarray) -> list[float]:
    """Return the log number of components, the largest one's fraction, and the surface relative to a compact shape."""
    mask = mask[box_with_margin(mask, 1)]
    if not mask.any():
        return [0.0, 1.0, 0.0]
    components, number = ndimage.label(mask, np.ones((3, 3, 3)))
    size = np.count_nonzero(mask)
    surface = size - np.count_nonzero(ndimage.binary_erosion(mask))
    return [np.log(number), np.bincount(components[mask]).max() / size, np.log(surface / size ** (2 / 3))]
