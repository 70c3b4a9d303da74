"""Summaries of scores over cases."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from brats3d.evaluation.measures import MEASURES
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.labels import REGIONS_TO_READ


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (None for a single case), median and quartiles of a measure over cases."""

    mean: float
    sd: float | None
    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class RegionSummary:
    """The scores of a region over all cases. A mean over no case is None.

    Args:
        cases: number of cases.
        dice: mean Dice over all cases.
        present: number of cases whose reference has the region.
        dice_present: mean Dice over these.
        false_volume_ml: mean volume predicted where the reference lacks the region.
        measures: the spread of each of :data:`brats3d.evaluation.MEASURES` that every row has.
    """

    cases: int
    dice: float | None
    present: int
    dice_present: float | None
    false_volume_ml: float | None
    measures: Mapping[str, Spread] = field(hash=False)


def summarise(rows: Iterable[ScoreRow]) -> dict[str, RegionSummary]:
    """Summarise rows of any number of cases.

    Returns:
        Region -> its summary, in the order WT, TC, ET.
    """
    rows = list(rows)
    summary = {}
    for region in REGIONS_TO_READ:
        of_region = [row for row in rows if row.region == region]
        present = [row for row in of_region if row.ref_volume_ml > 0]
        absent = [row for row in of_region if row.ref_volume_ml == 0]
        measures = {}
        for name in MEASURES:
            values = [value for row in of_region if (value := row.value(name)) is not None]
            if values and len(values) == len(of_region):
                measures[name] = _spread(values)
        summary[region] = RegionSummary(
            cases=len(of_region),
            dice=_mean([row.dice for row in of_region]),
            present=len(present),
            dice_present=_mean([row.dice for row in present]),
            false_volume_ml=_mean([row.pred_volume_ml for row in absent]),
            measures=measures,
        )
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else None
    return Spread(statistics.fmean(ordered), deviation, median, q1, q3)
