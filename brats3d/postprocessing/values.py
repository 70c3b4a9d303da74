"""The values of the post-processing as one record, which the card of weights may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.errors import DataError, UsageError
from brats3d.labels import REGIONS
from brats3d.postprocessing.region_rules import RegionRules, apply_region_rules
from brats3d.postprocessing.region_thresholds import check_thresholds


@dataclass(frozen=True)
class PostprocessingValues:
    """Everything that turns probabilities into regions.

    Args:
        thresholds: threshold of each region, in the order of ``labels.REGIONS``.
        rules: the volumes of components, regions and holes.
    """

    thresholds: tuple[float, ...]
    rules: RegionRules

    def apply(self, probs: np.ndarray, voxel_ml: float) -> np.ndarray:
        """Return regions, bool (3, H, W, D), from probabilities of the same shape."""
        limits = np.array(self.thresholds, probs.dtype)[:, None, None, None]
        return apply_region_rules(probs >= limits, self.rules, voxel_ml)

    def by_name(self) -> dict[str, float]:
        """Return ``{"threshold TC": number, ..., "min_wt_ml": ml, ...}``."""
        thresholds = {f"threshold {region}": n for region, n in zip(REGIONS, self.thresholds, strict=True)}
        return {**thresholds, **asdict(self.rules)}

    def to_json(self) -> dict[str, Any]:
        """Return ``{"threshold": {region: number}, "region_rules": {rule: ml}}``."""
        return {
            "threshold": dict(zip(REGIONS, self.thresholds, strict=True)),
            "region_rules": asdict(self.rules),
        }

    @classmethod
    def from_json(cls, content: Any, path: str | Path) -> PostprocessingValues:
        """Check values that were read from a file; rules that it lacks are off.

        Raises:
            DataError: naming ``path``, if a key is missing or a value is invalid.
        """
        try:
            return cls(check_thresholds(content["threshold"]), RegionRules(**content["region_rules"]))
        except (KeyError, TypeError, UsageError) as error:
            expected = "a threshold for each region and volumes of region_rules in ml"
            raise DataError(path, f"invalid 'postprocessing' ({error})", expected=expected, found=content) from error


def describe_values(content: Mapping[str, Any]) -> str:
    """Return a card's ``postprocessing`` in one line, such as ``threshold TC 0.5 WT 0.4 ET 0.5, min_wt_ml 1``."""
    thresholds = " ".join(f"{region} {number:g}" for region, number in content["threshold"].items())
    return ", ".join([f"threshold {thresholds}", *(f"{k} {v:g}" for k, v in content["region_rules"].items())])
