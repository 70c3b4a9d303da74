"""Compare two sets of scores of the same cases, case by case: ``brats3d compare``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.cases import name_some, natural_key
from brats3d.errors import DataError, UsageError
from brats3d.evaluation.score_files import Scores
from brats3d.evaluation.summary import MEASURES
from brats3d.files import write_whole
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ


@dataclass(frozen=True)
class Comparison:
    """The paired differences of one region.

    Args:
        measure: key of :data:`brats3d.evaluation.MEASURES`.
        region: WT, TC or ET.
        case_ids: the cases, in natural order.
        before: value of each case in the first scores.
        after: value of each case in the second scores.
        p_value: of the two-sided Wilcoxon signed-rank test; 1 if all differences are 0.
    """

    measure: str
    region: str
    case_ids: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    p_value: float

    @property
    def differences(self) -> tuple[float, ...]:
        """Second minus first value of each case."""
        return tuple(b - a for a, b in zip(self.before, self.after, strict=True))

    @property
    def gains(self) -> tuple[float, ...]:
        """Improvement of each case from the first value to the second; negative if worse."""
        measure = MEASURES[self.measure]
        return tuple(measure.gain(a, b) for a, b in zip(self.before, self.after, strict=True))


def compare_scores(first: Scores, second: Scores, measure: str = "dice") -> list[Comparison]:
    """Pair the rows of two sets of scores by case and region, and test the differences.

    The test is Wilcoxon's signed-rank test ("Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945)
    from scipy. Zero differences are dropped, as in the original test. With few cases the p-value cannot be small: with
    five it is at least 1/16.

    Args:
        first: scores of some cases.
        second: other scores of the same cases.
        measure: key of :data:`brats3d.evaluation.MEASURES`.

    Raises:
        UsageError: if the measure is unknown.
        DataError: if a row lacks the measure, or the cases or the rules differ.
    """
    from scipy.stats import wilcoxon

    if measure not in MEASURES:
        raise UsageError("measure", expected=f"one of {', '.join(MEASURES)}", found=measure)
    if first.rules and second.rules and first.rules != second.rules:
        raise DataError("rules", expected=f"{first.rules!r:.80} in both, as in the first scores", found=second.rules)
    values = [_values(scores, measure, name) for name, scores in (("first", first), ("second", second))]
    unpaired = sorted({case_id for case_id, _ in values[0].keys() ^ values[1].keys()}, key=natural_key)
    if unpaired:
        found = name_some(unpaired, 5)
        raise DataError("cases", f"{len(unpaired)} in only one of the files: {found}", expected="the same cases")
    case_ids = tuple(sorted({case_id for case_id, _ in values[0]}, key=natural_key))
    comparisons = []
    for region in REGIONS_TO_READ:
        before, after = (tuple(of_row[case_id, region] for case_id in case_ids) for of_row in values)
        p_value = float(wilcoxon(before, after).pvalue) if before != after else 1.0
        comparisons.append(Comparison(measure, region, case_ids, before, after, p_value))
    return comparisons


def format_comparison(comparisons: Sequence[Comparison], names: tuple[str, str] = ("A", "B")) -> str:
    """Format one line for each region."""
    heads = ["mean A", "mean B", "difference", "median", "better", "equal", "worse", "p"]
    lines = [f"{comparisons[0].measure}, {len(comparisons[0].case_ids)} cases, A = {names[0]}, B = {names[1]}", ""]
    lines.append("region  " + "".join(f"{head:>12}" for head in heads))
    for each in comparisons:
        cells = (
            f"{statistics.fmean(each.before):.4f}",
            f"{statistics.fmean(each.after):.4f}",
            f"{statistics.fmean(each.differences):+.4f}",
            f"{statistics.median(each.differences):+.4f}",
            sum(gain > 0 for gain in each.gains),
            sum(gain == 0 for gain in each.gains),
            sum(gain < 0 for gain in each.gains),
            f"{each.p_value:.3g}",
        )
        lines.append(f"{each.region:<8}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def save_comparison(path: str | Path, comparisons: Sequence[Comparison], names: tuple[str, str] = ("A", "B")) -> Path:
    """Write a PNG with a line for each case, from its first value to its second, and a panel for each region.

    The median is a thick line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.8 * len(comparisons), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    labels = [name.replace("$", r"\$") for name in names]  # matplotlib reads formulas between dollars
    panels = figure.subplots(1, len(comparisons), sharey=True, squeeze=False)[0]
    for axes, each in zip(panels, comparisons, strict=True):
        colour = REGION_COLOURS[each.region]
        for pair in zip(each.before, each.after, strict=True):
            axes.plot((0, 1), pair, color=colour, alpha=0.5, linewidth=1, marker="o", markersize=3)
        medians = statistics.median(each.before), statistics.median(each.after)
        axes.plot((0, 1), medians, color="black", linewidth=2, marker="s", markersize=5)
        axes.set(title=f"{each.region}, p = {each.p_value:.2g}", xticks=(0, 1), xticklabels=labels, xlim=(-0.3, 1.3))
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel(comparisons[0].measure)
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=120))


def _values(scores: Scores, measure: str, name: str) -> dict[tuple[str, str], float]:
    values = {}
    for row in scores.rows:
        value = row.value(measure)
        if value is None:
            raise DataError(
                f"the {name} scores",
                f"no {measure} for {row.case_id}, {row.region}",
                advice="score again with brats3d score, which computes every measure",
            )
        values[row.case_id, row.region] = float(value)
    return values
