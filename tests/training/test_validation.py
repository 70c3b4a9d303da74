"""Regions that a training has given up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from brats3d.evaluation.score_rows import ScoreRow
from brats3d.training.validation import WarnOfCollapse


def rows(**volumes: tuple[float, float]) -> list[ScoreRow]:
    """Two cases with the same (reference, predicted) volume of each region."""
    return [
        ScoreRow(case_id=case_id, region=region, dice=0.5, ref_volume_ml=there, pred_volume_ml=found)
        for case_id in ("a", "b")
        for region, (there, found) in volumes.items()
    ]


def validate(handler: WarnOfCollapse, **volumes: tuple[float, float]) -> None:
    handler(SimpleNamespace(state=SimpleNamespace(metric_details={"val_mean_dice": rows(**volumes)})))


FOUND, LOST, NONE = (9.0, 5.0), (9.0, 0.0), (0.0, 0.0)


def test_a_region_lost_three_times_in_a_row_is_said_once(log):
    handler = WarnOfCollapse(bce_weight=0)
    for _ in range(6):
        validate(handler, WT=FOUND, TC=LOST, ET=LOST)
    assert [r.getMessage() for r in log.records] == [
        f"{region} was found in none of the 2 validation cases that have it, 3 validations in a row: the training may "
        "have collapsed; try --bce_weight 1: DiceLoss alone is prone to it"
        for region in ("TC", "ET")
    ]


def test_the_count_begins_anew_when_the_region_is_found(log):
    handler = WarnOfCollapse(patience=2, bce_weight=1)
    for found in (LOST, FOUND, LOST, LOST):
        validate(handler, WT=found, TC=FOUND, ET=FOUND)
    (said,) = [r.getMessage() for r in log.records]
    assert said.startswith("WT was found in none") and said.endswith("try a lower --learning_rate")


def test_a_region_that_no_case_has_is_nothing_to_find(log):
    handler = WarnOfCollapse(patience=1)
    validate(handler, WT=FOUND, TC=FOUND, ET=NONE)
    assert not log.records


def test_a_case_with_a_false_region_counts_only_where_it_is_there(log):
    handler = WarnOfCollapse(patience=1)
    validate(handler, WT=FOUND, TC=FOUND, ET=(0.0, 3.0))
    assert not log.records


def test_no_patience_is_refused():
    with pytest.raises(ValueError, match="patience: expected 1 validation or more, got 0"):
        WarnOfCollapse(patience=0)


def test_the_count_goes_on_when_a_run_does(log):
    first, second = WarnOfCollapse(), WarnOfCollapse()
    for _ in range(2):
        validate(first, ET=LOST)
    second.load_state_dict(first.state_dict())
    assert "collapsed" not in log.text
    validate(second, ET=LOST)
    assert "ET was found in none" in log.text


def test_the_first_process_alone_warns(log, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    handler = WarnOfCollapse(patience=1)
    validate(handler, ET=LOST)
    assert not log.text and handler.state_dict()["ET"] == 1
