"""Regions that went wrong."""

from __future__ import annotations

from brats3d.evaluation.score_rows import ScoreRow
from brats3d.report.failed_regions import find_failed_regions


def test_the_worst_and_largest_failures_come_first():
    def row(case_id, region, dice, ref, pred):
        return ScoreRow(case_id=case_id, region=region, dice=dice, ref_volume_ml=ref, pred_volume_ml=pred)

    rows = [
        row("a", "WT", 0.5, 3, 3),  # not below
        row("a", "TC", 0.49, 3, 3),
        row("a", "ET", 1.0, 0, 0),  # empty in both
        row("b", "WT", 0.0, 0, 2),
        row("b", "TC", 0.0, 30, 0),
        row("b", "ET", 0.0, 4, 4),
    ]
    failed = [(f.row.case_id, f.row.region, f.kind) for f in find_failed_regions(rows)]
    assert failed == [("b", "TC", "missed"), ("b", "ET", "poor"), ("b", "WT", "spurious"), ("a", "TC", "poor")]
