"""Two scorings, case by case."""

from __future__ import annotations

import json
from itertools import product

import pytest
from matplotlib.image import imread

from brats3d.evaluation.comparison import Scores, compare_scores, format_comparison, read_scores, save_comparison

REGIONS = ("WT", "TC", "ET")


def scores(*dice: float, **more: float) -> Scores:
    return Scores(rows(*dice, **more))


def rows(*dice: float, **more: float) -> list[dict]:
    """A case each, with this Dice in every region."""
    return [{"case_id": f"case_{k}", "region": r, "dice": d, **more} for (k, d), r in product(enumerate(dice), REGIONS)]


def test_differences_are_paired_by_case_whatever_the_order():
    first, second = scores(0.5, 0.7, 0.9), rows(0.6, 0.7, 0.8)
    wt = compare_scores(first, Scores(second[::-1]))[0]
    assert wt.case_ids == ("case_0", "case_1", "case_2")
    assert wt.differences == pytest.approx((0.1, 0, -0.1))


def test_the_test_is_wilcoxons_worked_by_hand():
    """All eight better by different amounts: 2 of 2**8 signs are as extreme, so p is 2/256."""
    first = [0.5] * 8
    second = [0.5 + 0.01 * k for k in range(1, 9)]
    assert compare_scores(scores(*first), scores(*second))[0].p_value == pytest.approx(2 / 256)
    assert compare_scores(scores(*first), scores(*first))[0].p_value == 1


def test_the_table_says_how_many_cases_are_better_equal_and_worse():
    lines = format_comparison(compare_scores(scores(0.5, 0.7, 0.9), scores(0.6, 0.7, 0.9)), ("old", "new"))
    assert lines.startswith("dice, 3 cases, A = old, B = new")
    wt = next(line for line in lines.splitlines() if line.startswith("WT")).split()
    assert wt[1:] == ["0.7000", "0.7333", "+0.0333", "+0.0000", "1", "2", "0", "1"]


def test_of_a_distance_less_is_better():
    first, second = (scores(1, 1, hd95_mm=mm) for mm in (9.0, 4.0))
    found = compare_scores(first, second, "hd95_mm")
    wt = next(line for line in format_comparison(found).splitlines() if line.startswith("WT")).split()
    assert wt[1:4] == ["9.0000", "4.0000", "-5.0000"]
    assert wt[5:8] == ["2", "0", "0"]


@pytest.mark.parametrize(
    ("second", "measure", "said"),
    [
        (scores(0.5), "dice", "1 are not in both scorings: case_1; expected the same cases"),
        (scores(0.5, 0.6), "hd95_mm", "the first scores have no hd95_mm of case_0, WT"),
        (scores(0.5, 0.6), "f1", r"measure: expected one of dice, hd95_mm, .*, got 'f1'"),
    ],
)
def test_what_cannot_be_compared_is_refused(second, measure, said):
    with pytest.raises(ValueError, match=said):
        compare_scores(scores(0.5, 0.6), second, measure)


def test_the_plot_is_a_picture_with_a_panel_a_region(tmp_path):
    found = compare_scores(scores(0.5, 0.7, 0.9), scores(0.6, 0.7, 0.95))
    picture = imread(save_comparison(tmp_path / "c.png", found))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert (picture[..., :3].std(axis=-1) > 0.1).sum() > 300  # coloured lines


def test_of_a_volumes_error_its_size_counts():
    first, second = (Scores(rows(1, 1, volume_error_ml=ml)) for ml in (0.0, 50.0))
    wt = format_comparison(compare_scores(first, second, "volume_error_ml")).splitlines()[3].split()
    assert wt[5:8] == ["0", "0", "2"]


def test_scores_under_other_rules_are_not_compared():
    with pytest.raises(ValueError, match="rules: 'brats2023' in the first scores, 'brats2023-met' in the second"):
        compare_scores(Scores(rows(1), "brats2023"), Scores(rows(1), "brats2023-met"))


def test_a_name_between_dollars_is_no_formula(tmp_path):
    assert save_comparison(tmp_path / "c.png", compare_scores(scores(1), scores(1)), (r"$\q$", "b")).is_file()


def test_scores_are_read_back(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"rules": "brats2023", "rows": rows(0.5)}))
    assert read_scores(file) == Scores(rows(0.5), "brats2023")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds no scores"),
        ('{"rows": 7}', "holds no scores"),
        ({"rows": [{}]}, "row 0: no case_id"),
        ({"rows": rows(0.5)[:1]}, "a case lacks a region"),
        ({"rows": rows(0.5) * 2}, "row 3: case_0, WT stands there twice"),
        ({"rows": rows(float("nan"))}, "row 0: dice is nan"),
        ({"rows": rows(None)}, "row 0: dice is None"),
        ({"rows": rows(0.5, hd95_mm="far")}, "row 0: hd95_mm is 'far'"),
        ({"rows": [{**row, "case_id": 7} for row in rows(0.5)]}, "row 0: no case_id"),
        ({"rows": [{**row, "region": "XX"} for row in rows(0.5)]}, "row 0: region 'XX'"),
    ],
)
def test_what_is_no_scoring_is_refused_in_one_line(tmp_path, content, said):
    file = tmp_path / "a.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=said) as error:
        read_scores(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_scores_that_are_not_there_are_missed(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; expected the JSON that brats3d score"):
        read_scores(tmp_path / "b.json")
