"""The predicted quality of the cases of a run beside their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brats3d.cases import natural_key
from brats3d.evaluation import ScoreRow
from brats3d.labels import REGIONS_TO_READ
from brats3d.quality import RegionQuality, review_reason
from brats3d.report.run_results import Run


@dataclass(frozen=True)
class ComparedRegion:
    """A region of a case.

    Args:
        quality: what was predicted.
        row: its scores.
    """

    quality: RegionQuality
    row: ScoreRow

    @property
    def error(self) -> float:
        """Predicted minus true Dice."""
        return self.quality.predicted_dice - self.row.dice

    @property
    def is_inside(self) -> bool:
        """True if the interval contains the volume of the reference, up to the rounding of the interval."""
        low, high = self.quality.volume_interval_ml
        return low - 0.01 <= self.row.ref_volume_ml <= high + 0.01


@dataclass(frozen=True)
class ComparedCase:
    """A case.

    Args:
        case_id: the case.
        review: why a person should look at it first; empty if there is no reason.
        regions: region -> comparison, in the order WT, TC, ET.
    """

    case_id: str
    review: str
    regions: Mapping[str, ComparedRegion]


def compare_quality(run: Run) -> list[ComparedCase]:
    """Return the cases with a predicted quality: those to look at first, then the others, each by predicted Dice."""
    cases = [
        ComparedCase(
            case_id,
            review_reason(run.quality[case_id]),
            {region: ComparedRegion(run.quality[case_id][region], rows[region]) for region in REGIONS_TO_READ},
        )
        for case_id, rows in run.by_case.items()
        if case_id in run.quality
    ]
    return sorted(
        cases,
        key=lambda case: (not case.review, case.regions["WT"].quality.predicted_dice, natural_key(case.case_id)),
    )


def mean_error(cases: Sequence[ComparedCase], region: str) -> float:
    """Return the mean absolute error of the predicted Dice of a region."""
    return float(np.mean([abs(case.regions[region].error) for case in cases]))


def coverage(cases: Sequence[ComparedCase], region: str) -> float:
    """Return the fraction of cases whose interval contains the volume of the reference."""
    return float(np.mean([case.regions[region].is_inside for case in cases]))
