"""Regions that a network no longer predicts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from brats3d.errors import UsageError
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.training.collapse import WarnOfCollapse


def rows(**volumes: tuple[float, float]) -> list[ScoreRow]:
    """Two cases with the same (reference, predicted) volume of each region."""
    return [
        ScoreRow(case_id=case_id, region=region, dice=0.5, ref_volume_ml=reference, pred_volume_ml=predicted)
        for case_id in ("a", "b")
        for region, (reference, predicted) in volumes.items()
    ]


def validate(handler: WarnOfCollapse, **volumes: tuple[float, float]) -> None:
    handler(SimpleNamespace(state=SimpleNamespace(metric_details={"val_mean_dice": rows(**volumes)})))


FOUND, MISSED, NONE = (9.0, 5.0), (9.0, 0.0), (0.0, 0.0)


def test_a_region_missed_three_times_in_a_row_is_warned_about_once(log):
    handler = WarnOfCollapse(bce_weight=0)
    for _ in range(6):
        validate(handler, WT=FOUND, TC=MISSED, ET=MISSED)
    assert [r.getMessage() for r in log.records] == [
        f"{region} is predicted in none of the 2 validation cases that have it, for 3 validations in a row: the "
        "training may have collapsed; try --bce_weight 1: DiceLoss alone often collapses"
        for region in ("TC", "ET")
    ]


def test_the_count_restarts_when_the_region_is_predicted_again(log):
    handler = WarnOfCollapse(patience=2, bce_weight=1)
    for predicted in (MISSED, FOUND, MISSED, MISSED):
        validate(handler, WT=predicted, TC=FOUND, ET=FOUND)
    (line,) = [r.getMessage() for r in log.records]
    assert line.startswith("WT is predicted in none") and line.endswith("try a lower --learning_rate")


def test_a_region_that_no_case_has_is_not_missed(log):
    handler = WarnOfCollapse(patience=1)
    validate(handler, WT=FOUND, TC=FOUND, ET=NONE)
    assert not log.records


def test_false_positives_do_not_count(log):
    handler = WarnOfCollapse(patience=1)
    validate(handler, WT=FOUND, TC=FOUND, ET=(0.0, 3.0))
    assert not log.records


def test_a_patience_below_1_is_refused():
    with pytest.raises(UsageError) as caught:
        WarnOfCollapse(patience=0)
    assert caught.value.subject == "patience"


def test_the_count_continues_in_a_resumed_run(log):
    first, second = WarnOfCollapse(), WarnOfCollapse()
    for _ in range(2):
        validate(first, ET=MISSED)
    second.load_state_dict(first.state_dict())
    assert "collapsed" not in log.text
    validate(second, ET=MISSED)
    assert "ET is predicted in none" in log.text


def test_only_the_first_process_warns(log, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    handler = WarnOfCollapse(patience=1)
    validate(handler, ET=MISSED)
    assert not log.text and handler.state_dict()["ET"] == 1
