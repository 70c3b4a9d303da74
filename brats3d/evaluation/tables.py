"""Text tables of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from brats3d.cases import name_some
from brats3d.evaluation.measures import MEASURES
from brats3d.evaluation.score_rows import ScoreRow, group_by_case
from brats3d.evaluation.summary import summarise
from brats3d.labels import REGIONS_TO_READ

if TYPE_CHECKING:
    from brats3d.evaluation.folder_scores import FolderScores


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


def format_scores(scores: FolderScores) -> str:
    """Format mean, standard deviation, median and quartiles of each measure and region, and list missing cases."""
    skipped = 0 if scores.counts_missing else len(scores.missing)
    cases = f"{scores.cases} of {scores.cases + skipped} cases" if skipped else f"{scores.cases} cases"
    width = max(len(measure.title) for measure in MEASURES.values())
    lines = [
        f"{cases}, rules of {scores.rules}; labels: {scores.labels}",
        "",
        f"{'':<{width}}  region" + "".join(f"{head:>10}" for head in ("mean", "sd", "median", "q1", "q3")),
    ]
    summary = summarise(scores.rows)
    for name, measure in MEASURES.items():
        digits = 2 if name.endswith(("_mm", "_ml")) else 4
        title = measure.title
        for region, each in summary.items():
            if name in each.measures:
                values = astuple(each.measures[name])
                cells = "".join(f"{'-':>10}" if value is None else f"{value:>10.{digits}f}" for value in values)
                lines.append(f"{title:<{width}}  {region:<6}{cells}")
                title = ""
    if scores.missing:
        how = "NOT in these figures; --missing zero counts them as 0" if skipped else "counted as 0"
        lines += ["", f"without a prediction ({how}): {name_some(scores.missing, 20)}"]
    if scores.extra:
        lines += ["", f"without a reference (not scored): {name_some(scores.extra, 20)}"]
    return "\n".join(lines)
