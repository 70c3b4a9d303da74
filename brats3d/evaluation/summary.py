"""The measures, their summaries over cases, and tables of both."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from brats3d.evaluation.score_rows import ScoreRow, group_by_case
from brats3d.labels import REGIONS_TO_READ


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


def format_table(rows: Sequence[ScoreRow]) -> str:
    """Format one line for each case with its Dice, then the means."""
    cases = group_by_case(rows)
    summary = summarise(rows)
    width = max([len("where present"), *map(len, cases)])
    rule = "-" * (width + 9 * len(REGIONS_TO_READ))

    def line(title: str, values: Sequence[float | None], digits: int = 3) -> str:
        return f"{title:<{width}}" + "".join(f"{'-':>9}" if v is None else f"{v:9.{digits}f}" for v in values)

    lines = [f"{'Dice':<{width}}" + "".join(f"{region:>9}" for region in REGIONS_TO_READ), rule]
    lines += [line(case_id, [cases[case_id][region].dice for region in REGIONS_TO_READ]) for case_id in sorted(cases)]
    lines += [
        rule,
        line("mean", [each.dice for each in summary.values()]),
        line("where present", [each.dice_present for each in summary.values()]),
        line("false, ml", [each.false_volume_ml for each in summary.values()], digits=2),
    ]
    for title, name, digits in (("HD95, mm", "hd95_mm", 1), ("lesion-wise", "lesion_dice", 3)):
        if all(name in each.measures for each in summary.values()):
            lines.append(line(title, [each.measures[name].mean for each in summary.values()], digits))
    return "\n".join(lines)
