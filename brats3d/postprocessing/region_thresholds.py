"""Thresholds of the regions' probabilities: one for all, or one for each region."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

from brats3d.errors import UsageError
from brats3d.labels import REGIONS


def check_thresholds(threshold: float | Mapping[str, float]) -> tuple[float, ...]:
    """Return the threshold of each region, in the order of ``labels.REGIONS``.

    Args:
        threshold: one number for all regions, or a mapping of each region to its number.

    Raises:
        UsageError: if a region is missing or unknown, or a threshold is not above 0 and below 1.
    """
    by_region = threshold if isinstance(threshold, Mapping) else dict.fromkeys(REGIONS, threshold)
    if set(by_region) != set(REGIONS) or not all(map(_is_threshold, by_region.values())):
        expected = f"a number above 0 and below 1, or one for each of {', '.join(REGIONS)}"
        raise UsageError("threshold", expected=expected, found=threshold)
    return tuple(float(by_region[region]) for region in REGIONS)


class ThresholdRegionsd(MapTransform):
    """Convert probabilities to regions; MONAI's ``AsDiscreted`` has one threshold for all channels.

    Args:
        keys: keys of the probabilities, shape (3, H, W, D), channels in the order of ``labels.REGIONS``. A voxel
            belongs to a region from its threshold on: float32 in {0, 1}.
        threshold: see :func:`check_thresholds`.
        allow_missing_keys: skip missing keys.
    """

    def __init__(
        self, keys: KeysCollection, threshold: float | Mapping[str, float] = 0.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.thresholds = check_thresholds(threshold)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            probs = convert_to_tensor(out[key])
            limits = probs.new_tensor(self.thresholds)[:, None, None, None]
            out[key] = convert_to_dst_type(probs >= limits, out[key], dtype=torch.float32)[0]
        return out


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
