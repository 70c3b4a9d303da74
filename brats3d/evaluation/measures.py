"""The measures of segmentations: names, titles, and whether higher or lower is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Measure:
    """A measure.

    Args:
        title: its name on pages and in tables, with the unit.
        is_error: a smaller absolute value is better.
    """

    title: str
    is_error: bool = False

    def gain(self, before: float, after: float) -> float:
        """Return by how much ``after`` is better than ``before``; negative if it is worse."""
        return abs(before) - abs(after) if self.is_error else after - before


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "dice": Measure("Dice"),
        "hd95_mm": Measure("HD95, mm", is_error=True),
        "lesion_dice": Measure("lesion-wise Dice"),
        "lesion_hd95_mm": Measure("lesion-wise HD95, mm", is_error=True),
        "sensitivity": Measure("sensitivity"),
        "specificity": Measure("specificity"),
        "volume_error_ml": Measure("volume error, ml", is_error=True),
    }
)
"""Field of :class:`brats3d.evaluation.ScoreRow` -> measure. These are averaged over cases, in this order."""
