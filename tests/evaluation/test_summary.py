"""Scores summarised over cases."""

from __future__ import annotations

import pytest

from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.measures import MEASURES
from brats3d.evaluation.summary import RegionSummary, Spread, summarise


def test_cases_with_and_without_a_region_are_counted_separately(samples):
    """Case a has every region and is right; case b has no ET, and 0.1 ml of it is predicted."""
    pairs = {
        "a": (samples.masks(tc=4, wt=8, et=2), samples.masks(tc=4, wt=8, et=2)),
        "b": (samples.masks(tc=4, wt=8, et=100), samples.masks(tc=4, wt=8)),
    }
    summary = summarise([row for name, pair in pairs.items() for row in score_case(*pair, name, (1, 1, 1))])
    wt, et = summary["WT"], summary["ET"]
    assert (wt.cases, wt.dice, wt.present, wt.dice_present, wt.false_volume_ml) == (2, 1.0, 2, 1.0, None)
    assert (et.cases, et.dice, et.present, et.dice_present) == (2, 0.5, 1, 1.0)
    assert et.false_volume_ml == pytest.approx(0.1)
    assert list(et.measures) == list(MEASURES)
    assert et.measures["hd95_mm"].mean == 374 / 2  # 0 mm if right, 374 mm if spurious
    assert et.measures["volume_error_ml"].mean == pytest.approx(0.05)


def test_the_spread_has_mean_deviation_median_and_quartiles(samples):
    spread = summarise(samples.rows(0.4, 0.1, 0.2, 0.3, 0.0))["TC"].measures["dice"]
    assert vars(spread) == pytest.approx({"mean": 0.2, "sd": 0.1 * 2.5**0.5, "median": 0.2, "q1": 0.1, "q3": 0.3})
    assert summarise(samples.rows(0.4))["TC"].measures == {"dice": Spread(0.4, None, 0.4, 0.4, 0.4)}


def test_a_measure_that_some_rows_lack_is_not_summarised(samples):
    rows = [*samples.rows(0.5, hd95_mm=3.0), *samples.rows(0.5)]
    assert list(summarise(rows)["WT"].measures) == ["dice"]


def test_no_rows_give_none_instead_of_nan():
    assert summarise([])["WT"] == RegionSummary(0, None, 0, None, None, {})
