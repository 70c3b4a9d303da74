"""Two scorings of the same cases, case by case: what ``brats3d compare`` does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brats3d.cases import name_some, natural_key
from brats3d.evaluation.tables import MEASURES
from brats3d.files import read_json, write_whole
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ

LESS_IS_BETTER = ("hd95_mm", "lesion_hd95_mm", "volume_error_ml")
"""Of an error it is its size."""


@dataclass(frozen=True)
class Comparison:
    """One region's paired differences.

    Args:
        measure: one of :data:`brats3d.evaluation.MEASURES`.
        region: WT, TC or ET.
        case_ids: the cases, in natural order.
        before: of each case in the first scoring.
        after: of each case in the second.
        p_value: of Wilcoxon's signed-rank test, two-sided; 1 where no case differs.
    """

    measure: str
    region: str
    case_ids: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    p_value: float

    @property
    def differences(self) -> tuple[float, ...]:
        """The second less the first, a case each."""
        return tuple(b - a for a, b in zip(self.before, self.after, strict=True))


@dataclass(frozen=True)
class Scores:
    """A scoring on disk.

    Args:
        rows: as :func:`brats3d.evaluation.score_case` returns them.
        rules: whose were followed, where the file says it.
    """

    rows: Sequence[Mapping[str, Any]]
    rules: str | None = None


def compare_scores(first: Scores, second: Scores, measure: str = "dice") -> list[Comparison]:
    """Pair the rows of two scorings by case and region.

    The test is Wilcoxon's ("Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945), as scipy has it.
    Cases that do not differ are left out of it, as he did. Of few cases it cannot be small: of five at least 1/16.

    Args:
        first: a scoring.
        second: another of the same cases.
        measure: one of :data:`brats3d.evaluation.MEASURES`.

    Raises:
        ValueError: if the measure is unknown or not in every row, or the cases or the rules are not the same.
    """
    from scipy.stats import wilcoxon

    if measure not in MEASURES:
        raise ValueError(f"measure: expected one of {', '.join(MEASURES)}, got {measure!r}")
    if first.rules and second.rules and first.rules != second.rules:
        raise ValueError(
            f"rules: {first.rules!r:.80} in the first scores, {second.rules!r:.80} in the second; expected the same"
        )
    tables = []
    for name, rows in (("first", first.rows), ("second", second.rows)):
        if lacking := next((row for row in rows if measure not in row), None):
            raise ValueError(
                f"measure: the {name} scores have no {measure} of {lacking.get('case_id')}, {lacking.get('region')}; "
                "expected it in every row; score again with brats3d score"
            )
        tables.append({(row["case_id"], row["region"]): float(row[measure]) for row in rows})
    if odd := sorted({case_id for case_id, _ in tables[0].keys() ^ tables[1].keys()}, key=natural_key):
        raise ValueError(
            f"cases: {len(odd)} are not in both scorings: {name_some(odd, 5)}; expected the same cases in both"
        )
    found = []
    for region in REGIONS_TO_READ:
        case_ids = sorted((case_id for case_id, each in tables[0] if each == region), key=natural_key)
        before, after = (tuple(table[case_id, region] for case_id in case_ids) for table in tables)
        differs = any(a != b for a, b in zip(before, after, strict=True))
        p_value = float(wilcoxon(before, after).pvalue) if differs else 1.0
        found.append(Comparison(measure, region, tuple(case_ids), before, after, p_value))
    return found


def format_comparison(comparisons: Sequence[Comparison], names: tuple[str, str] = ("A", "B")) -> str:
    """The table: a line a region."""
    heads = ["mean A", "mean B", "difference", "median", "better", "equal", "worse", "p"]
    lines = [f"{comparisons[0].measure}, {len(comparisons[0].case_ids)} cases, A = {names[0]}, B = {names[1]}", ""]
    lines.append("region  " + "".join(f"{head:>12}" for head in heads))
    for each in comparisons:
        gains = [_gain(each.measure, a, b) for a, b in zip(each.before, each.after, strict=True)]
        cells = (
            *(f"{value:.4f}" for value in (statistics.fmean(each.before), statistics.fmean(each.after))),
            *(f"{value:+.4f}" for value in (statistics.fmean(each.differences), statistics.median(each.differences))),
            *(str(sum(test)) for test in zip(*((g > 0, g == 0, g < 0) for g in gains), strict=True)),
            f"{each.p_value:.3g}",
        )
        lines.append(f"{each.region:<8}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def save_comparison(path: str | Path, comparisons: Sequence[Comparison], names: tuple[str, str] = ("A", "B")) -> Path:
    """A PNG: each case as a line from the first scoring to the second, a panel a region; the median is drawn thick."""
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


def read_scores(path: str | Path) -> Scores:
    """What ``score`` or ``evaluate`` has written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or does not hold each region of every case once, with finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the JSON that brats3d score or evaluate writes")
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as JSON: {error}; expected what brats3d score writes") from None
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: holds no scores; expected the JSON that brats3d score or evaluate writes")
    seen = set()
    for number, row in enumerate(rows):
        if problem := _wrong_with(row):
            raise ValueError(f"{path}: row {number}: {problem}; expected what brats3d score writes")
        if (key := (row["case_id"], row["region"])) in seen:
            raise ValueError(f"{path}: row {number}: {key[0]}, {key[1]} stands there twice; expected once")
        seen.add(key)
    if len(seen) != len(REGIONS_TO_READ) * len({case_id for case_id, _ in seen}):
        raise ValueError(f"{path}: a case lacks a region; expected {', '.join(REGIONS_TO_READ)} of every case")
    if not isinstance(rules := content.get("rules"), str | None):
        raise ValueError(f"{path}: rules: expected a name, got {rules!r:.80}; expected what brats3d score writes")
    return Scores(rows, rules)


_LARGEST = 1e12  # the report's limit too; a whole number of JSON can be larger than any float


def _gain(measure: str, before: float, after: float) -> float:
    if measure in LESS_IS_BETTER:
        return abs(before) - abs(after)
    return after - before


def _wrong_with(row: Any) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get("case_id"), str):
        return "no case_id"
    if row.get("region") not in REGIONS_TO_READ:
        return f"region {row.get('region')!r:.40}"
    for name in MEASURES:
        value = row.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            return f"{name} is {value!r:.40}"
    return None if "dice" in row else "no dice"
