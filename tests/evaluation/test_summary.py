"""Scores summarised over cases, and text tables of them."""

from __future__ import annotations

import pytest

from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.folder_scores import FolderScores
from brats3d.evaluation.summary import MEASURES, RegionSummary, Spread, format_table, summarise


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


def test_the_table_of_an_evaluation_has_one_line_for_each_case_then_the_means(samples):
    rows = [
        *score_case(samples.masks(tc=4, wt=8, et=2), samples.masks(tc=4, wt=8, et=2), "a", (1, 1, 1)),
        *score_case(samples.masks(tc=4, wt=8, et=100), samples.masks(tc=4, wt=8), "b", (1, 1, 1)),
    ]
    lines = [line.split() for line in format_table(rows).splitlines()]
    assert lines[0] == ["Dice", "WT", "TC", "ET"]
    assert lines[2:4] == [["a", "1.000", "1.000", "1.000"], ["b", "1.000", "1.000", "0.000"]]
    assert lines[5:] == [
        ["mean", "1.000", "1.000", "0.500"],
        ["where", "present", "1.000", "1.000", "1.000"],
        ["false,", "ml", "-", "-", "0.10"],
        ["HD95,", "mm", "0.0", "0.0", "187.0"],
        ["lesion-wise", "1.000", "1.000", "0.500"],
    ]


def test_the_table_of_folders_has_the_spread_of_each_measure_and_region(samples):
    scores = FolderScores(samples.rows(0.5, 1.0, hd95_mm=3.0), (), (), "brats2023", "as given")
    lines = [line.rstrip() for line in str(scores).splitlines()]
    assert lines[0] == "2 cases, rules of brats2023; labels: as given"
    assert lines[2].split() == ["region", "mean", "sd", "median", "q1", "q3"]
    assert lines[3].split() == ["Dice", "WT", "0.7500", "0.3536", "0.7500", "0.6250", "0.8750"]
    assert lines[4].split() == ["TC", *lines[3].split()[2:]]
    assert lines[6].split() == ["HD95,", "mm", "WT", "3.00", "0.00", "3.00", "3.00", "3.00"]
    assert len(lines) == 3 + 2 * 3


def test_the_table_of_folders_lists_cases_without_a_counterpart(samples):
    listed = str(FolderScores(samples.rows(0.5), ("b",), ("c",), "brats2023", ""))
    assert listed.startswith("1 of 2 cases")
    assert "without a prediction (NOT in these figures; --missing zero counts them as 0): b" in listed
    assert "without a reference (not scored): c" in listed
    counted = str(FolderScores(samples.rows(0.5, 0.0), ("case_1",), (), "brats2023", "", True))
    assert counted.startswith("2 cases") and "without a prediction (counted as 0): case_1" in counted
