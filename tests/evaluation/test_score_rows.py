"""Score rows as JSON."""

from __future__ import annotations

import pytest

from brats3d.errors import DataError
from brats3d.evaluation.score_rows import ScoreRow, mean_dice_by_case
from brats3d.evaluation.summary import MEASURES

VALID = {"case_id": "a", "region": "WT", "dice": 0.5, "ref_volume_ml": 2, "pred_volume_ml": 1.5}


def test_json_has_the_fields_that_were_computed_in_order():
    row = ScoreRow.from_json({**VALID, "hd95_mm": 3.0, "volume_error_ml": -0.5, "missing": True, "other": 1}, "f", 0)
    assert list(row.to_json().items()) == [
        *VALID.items(),
        *(("volume_error_ml", -0.5), ("hd95_mm", 3.0), ("missing", True)),
    ]
    assert ScoreRow.from_json(VALID, "f", 0).to_json() == VALID


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"case_id": 7}, "case_id"),
        ({"case_id": ""}, "case_id"),
        ({"region": "XX"}, "region"),
        ({"region": ["WT"]}, "region"),
        ({"dice": None}, "dice"),
        ({"dice": True}, "dice"),
        ({"dice": float("nan")}, "dice"),
        ({"dice": 1.5}, "dice"),
        ({"dice": 10**400}, "dice"),
        ({"hd95_mm": "far"}, "hd95_mm"),
        ({"ref_volume_ml": -1}, "ref_volume_ml"),
        ({"pred_volume_ml": None}, "pred_volume_ml"),
    ],
)
def test_a_row_with_a_wrong_value_is_refused(change, field):
    with pytest.raises(DataError) as error:
        ScoreRow.from_json({**VALID, **change}, "scores.json", 3)
    assert (error.value.subject, error.value.problem) == ("scores.json", f"row 3: {field}")
    assert error.value.found == next(iter(change.values())) or field == "dice"


def test_a_row_must_be_a_mapping():
    with pytest.raises(DataError) as error:
        ScoreRow.from_json([1], "scores.json", 0)
    assert error.value.expected == "a mapping"


def test_measures_are_fields_of_a_row():
    assert set(MEASURES) <= set(vars(ScoreRow(**VALID)))


@pytest.mark.parametrize(
    ("measure", "before", "after", "gain"),
    [("dice", 0.5, 0.75, 0.25), ("hd95_mm", 9, 4, 5), ("volume_error_ml", 0, -50, -50), ("volume_error_ml", -5, 2, 3)],
)
def test_the_gain_of_an_error_is_how_much_smaller_it_gets(measure, before, after, gain):
    assert MEASURES[measure].gain(before, after) == gain


def test_the_mean_dice_of_a_case_is_taken_over_its_regions():
    rows = [ScoreRow(**{**VALID, "region": region, "dice": dice}) for region, dice in (("WT", 1.0), ("ET", 0.5))]
    assert mean_dice_by_case(rows) == {"a": 0.75}
