"""Scores summarised, printed and written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.files import write_whole
from brats3d.labels import REGIONS_TO_READ

MEASURES = ("dice", "hd95_mm", "lesion_dice", "lesion_hd95_mm", "sensitivity", "specificity", "volume_error_ml")
"""What is averaged over cases, in the order in which people read it."""


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is said of a region over all cases.

    Args:
        rows: as :func:`score_case` returns them, of any number of cases.

    Returns:
        ``{region: {cases, dice, present, dice_present, false_volume_ml, measures}}``: the mean Dice over all cases; how
        many cases have the region and the mean Dice over them; where the reference has none, the mean volume predicted
        all the same; and for each of :data:`MEASURES` that every row has, ``{mean, sd, median, q1, q3}`` over all
        cases. A mean over no case, and a deviation over fewer than two, are None.
    """
    rows = list(rows)
    summary = {}
    for region in REGIONS_TO_READ:
        mine = [row for row in rows if row["region"] == region]
        present = [row for row in mine if row["ref_volume_ml"] > 0]
        absent = [row for row in mine if row["ref_volume_ml"] == 0]
        summary[region] = {
            "cases": len(mine),
            "dice": _mean(row["dice"] for row in mine),
            "present": len(present),
            "dice_present": _mean(row["dice"] for row in present),
            "false_volume_ml": _mean(row["pred_volume_ml"] for row in absent),
            "measures": {
                name: _spread([row[name] for row in mine])
                for name in MEASURES
                if mine and all(name in row for row in mine)
            },
        }
    return summary


def format_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as a text table: a line a case with its Dice, then the means."""
    rows = list(rows)
    by_case: dict[str, dict[str, float]] = {}
    for row in rows:
        by_case.setdefault(row["case_id"], {})[row["region"]] = row["dice"]
    width = max([len("where present"), *map(len, by_case)])
    lines = [f"{'Dice':<{width}}" + "".join(f"{region:>9}" for region in REGIONS_TO_READ)]
    lines.append("-" * len(lines[0]))
    lines += [
        f"{case_id:<{width}}" + "".join(f"{by_case[case_id][region]:9.3f}" for region in REGIONS_TO_READ)
        for case_id in sorted(by_case)
    ]
    lines.append("-" * len(lines[0]))
    summary = summarise(rows)
    means = [("mean", "dice", 3), ("where present", "dice_present", 3), ("false, ml", "false_volume_ml", 2)]
    cells = [(title, [summary[region][key] for region in REGIONS_TO_READ], digits) for title, key, digits in means]
    for title, name, digits in (("HD95, mm", "hd95_mm", 1), ("lesion-wise", "lesion_dice", 3)):
        if rows and name in summary["WT"]["measures"]:
            cells.append((title, [summary[region]["measures"][name]["mean"] for region in REGIONS_TO_READ], digits))
    for title, values, digits in cells:
        lines.append(f"{title:<{width}}" + "".join("        -" if v is None else f"{v:9.{digits}f}" for v in values))
    return "\n".join(lines)


def write_scores(path: str | Path, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Write ``{**more, summary, rows}`` as JSON, whole or not at all."""
    content = json.dumps({**more, "summary": summarise(rows), "rows": list(rows)}, indent=2, allow_nan=False)
    write_whole(path, lambda file: file.write(content.encode()))


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else None
    return {"mean": statistics.fmean(ordered), "sd": deviation, "median": median, "q1": q1, "q3": q3}
