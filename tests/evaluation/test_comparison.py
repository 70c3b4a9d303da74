"""Two scorings of the same cases, compared."""

from __future__ import annotations

import pytest
from matplotlib.image import imread

from brats3d.errors import DataError, UsageError
from brats3d.evaluation.comparison import compare_scores, format_comparison, save_comparison
from brats3d.evaluation.score_files import Scores


@pytest.fixture
def scores(samples):
    return lambda *dice, **more: Scores(samples.rows(*dice, **more))


def wt_line(comparisons) -> list[str]:
    return next(line for line in format_comparison(comparisons).splitlines() if line.startswith("WT")).split()


def test_differences_are_paired_by_case_in_any_order(scores):
    first, second = scores(0.5, 0.7, 0.9), scores(0.6, 0.7, 0.8)
    wt = compare_scores(first, Scores(second.rows[::-1]))[0]
    assert wt.case_ids == ("case_0", "case_1", "case_2")
    assert wt.differences == pytest.approx((0.1, 0, -0.1))


def test_the_p_value_is_that_of_wilcoxons_test(scores):
    """All eight improve by different amounts: 2 of 2**8 sign patterns are as extreme, so p is 2/256."""
    first = [0.5] * 8
    second = [0.5 + 0.01 * k for k in range(1, 9)]
    assert compare_scores(scores(*first), scores(*second))[0].p_value == pytest.approx(2 / 256)
    assert compare_scores(scores(*first), scores(*first))[0].p_value == 1


def test_the_table_counts_better_equal_and_worse_cases(scores):
    comparisons = compare_scores(scores(0.5, 0.7, 0.9), scores(0.6, 0.7, 0.9))
    assert format_comparison(comparisons, ("old", "new")).startswith("dice, 3 cases, A = old, B = new")
    assert wt_line(comparisons)[1:] == ["0.7000", "0.7333", "+0.0333", "+0.0000", "1", "2", "0", "1"]


@pytest.mark.parametrize(
    ("measure", "before", "after", "counts"),
    [("hd95_mm", 9.0, 4.0, ["2", "0", "0"]), ("volume_error_ml", 0.0, -50.0, ["0", "0", "2"])],
)
def test_a_smaller_error_is_better(scores, measure, before, after, counts):
    first, second = (scores(1, 1, **{measure: value}) for value in (before, after))
    line = wt_line(compare_scores(first, second, measure))
    assert line[1:4] == [f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"]
    assert line[5:8] == counts


def test_an_unknown_measure_is_refused(scores):
    with pytest.raises(UsageError) as error:
        compare_scores(scores(0.5), scores(0.5), "f1")
    assert (error.value.subject, error.value.found) == ("measure", "f1")


def test_scorings_that_cannot_be_paired_are_refused(scores, samples):
    with pytest.raises(DataError) as error:
        compare_scores(scores(0.5, 0.6), scores(0.5))
    assert error.value.subject == "cases" and "case_1" in error.value.problem
    with pytest.raises(DataError) as error:
        compare_scores(scores(0.5), scores(0.5), "hd95_mm")
    assert error.value.problem == "no hd95_mm for case_0, WT"
    with pytest.raises(DataError) as error:
        compare_scores(Scores(samples.rows(1), "brats2023"), Scores(samples.rows(1), "brats2023-met"))
    assert (error.value.subject, error.value.found) == ("rules", "brats2023-met")


def test_the_plot_has_one_panel_for_each_region(scores, tmp_path):
    comparisons = compare_scores(scores(0.5, 0.7, 0.9), scores(0.6, 0.7, 0.95))
    picture = imread(save_comparison(tmp_path / "c.png", comparisons))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert (picture[..., :3].std(axis=-1) > 0.1).sum() > 300  # coloured lines


def test_dollars_in_a_name_are_not_a_formula(scores, tmp_path):
    assert save_comparison(tmp_path / "c.png", compare_scores(scores(1), scores(1)), (r"$\q$", "b")).is_file()
