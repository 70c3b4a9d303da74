"""Two scorings, case by case."""

from __future__ import annotations

import json
from itertools import product

import pytest
from matplotlib.image import imread

from brats3d.comparing import compare_scores, format_comparison, read_scores, save_comparison

REGIONS = ("WT", "TC", "ET")


def rows(*dice: float, **more: float) -> list[dict]:
    """A case each, with this Dice in every region."""
    return [{"case_id": f"case_{k}", "region": r, "dice": d, **more} for (k, d), r in product(enumerate(dice), REGIONS)]


def test_differences_are_paired_by_case_whatever_the_order():
    first, second = rows(0.5, 0.7, 0.9), rows(0.6, 0.7, 0.8)
    wt = compare_scores(first, second[::-1])[0]
    assert wt.case_ids == ("case_0", "case_1", "case_2")
    assert wt.differences == pytest.approx((0.1, 0, -0.1))


def test_the_test_is_wilcoxons_worked_by_hand():
    """All eight better by different amounts: 2 of 2**8 signs are as extreme, so p is 2/256."""
    first = [0.5] * 8
    second = [0.5 + 0.01 * k for k in range(1, 9)]
    assert compare_scores(rows(*first), rows(*second))[0].p_value == pytest.approx(2 / 256)
    assert compare_scores(rows(*first), rows(*first))[0].p_value == 1


def test_the_table_says_how_many_cases_are_better_equal_and_worse():
    lines = format_comparison(compare_scores(rows(0.5, 0.7, 0.9), rows(0.6, 0.7, 0.9)), "dice", ("old", "new"))
    assert "new against old, 3 cases" in lines
    wt = next(line for line in lines.splitlines() if line.startswith("WT")).split()
    assert wt[1:] == ["0.7000", "0.7333", "+0.0333", "+0.0000", "1", "2", "0", "1"]


def test_of_a_distance_less_is_better():
    first, second = (rows(1, 1, hd95_mm=mm) for mm in (9.0, 4.0))
    found = compare_scores(first, second, "hd95_mm")
    wt = next(line for line in format_comparison(found, "hd95_mm").splitlines() if line.startswith("WT")).split()
    assert wt[1:4] == ["9.0000", "4.0000", "-5.0000"]
    assert wt[5:8] == ["2", "0", "0"]


@pytest.mark.parametrize(
    ("second", "measure", "said"),
    [
        (rows(0.5), "dice", "1 are not in both scorings: case_1; expected the same cases"),
        (rows(0.5, 0.6), "hd95_mm", "the first scores have no hd95_mm of case_0, WT"),
        (rows(0.5, 0.6), "f1", r"measure: expected one of dice, hd95_mm, .*, got 'f1'"),
    ],
)
def test_what_cannot_be_compared_is_refused(second, measure, said):
    with pytest.raises(ValueError, match=said):
        compare_scores(rows(0.5, 0.6), second, measure)


def test_the_plot_is_a_picture_with_a_panel_a_region(tmp_path):
    found = compare_scores(rows(0.5, 0.7, 0.9), rows(0.6, 0.7, 0.95))
    picture = imread(save_comparison(tmp_path / "c.png", found, "dice"))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert (picture[..., :3].std(axis=-1) > 0.1).sum() > 300  # coloured lines


def test_scores_are_read_back_or_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"rows": rows(0.5)}))
    assert read_scores(file) == rows(0.5)
    with pytest.raises(FileNotFoundError, match="no such file; expected the JSON that brats3d score"):
        read_scores(tmp_path / "b.json")
    for content, said in (("{", "cannot be read as JSON"), ("[]", "holds no scores"), ('{"rows": [{}]}', "no scores")):
        file.write_text(content)
        with pytest.raises(ValueError, match=said):
            read_scores(file)
