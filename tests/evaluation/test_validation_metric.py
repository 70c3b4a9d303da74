"""The metric of a validation, on MONAI's evaluator."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents, default_metric_cmp_fn
from torch.utils.data import DataLoader

from brats3d.errors import UsageError
from brats3d.evaluation.validation_handlers import SaveScores
from brats3d.evaluation.validation_metric import ValidationScores, is_better
from brats3d.labels import REGIONS


@pytest.fixture
def cases(samples):
    """``cases("x3")``: case x3 has 8 voxels of each region, of which the prediction has 3."""

    def make(*names: str) -> list[dict]:
        ref = samples.masks(8, 8, 8)
        return [
            {"case_id": name, "image": ref, "label": ref, "pred": samples.masks(*[int(name[1:])] * 3)} for name in names
        ]

    return make


def evaluate(
    data: list[dict], batch_size: int = 1, handlers=(), metric: ValidationScores | None = None
) -> SimpleNamespace:
    """Run an evaluator whose output is ``pred`` of the data; return its state."""

    def step(engine: Engine, batch: dict) -> dict:
        engine.state.output = {key: batch[key] for key in ("image", "label", "pred")}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=batch_size),
        network=torch.nn.Identity(),
        iteration_update=step,
        key_val_metric={"val_mean_dice": metric or ValidationScores()},
        metric_cmp_fn=is_better,
        val_handlers=list(handlers),
    )
    evaluator.run(1)
    return evaluator.state


def test_the_evaluator_gets_the_means_and_the_rows(cases):
    data = cases("a8", "b4")  # Dice 1 and 8/12 in each region
    data[0]["pred"][REGIONS.index("ET")] = 0
    state = evaluate(data)
    dice = {"val_mean_dice": (1 + 1 + 0 + 3 * 2 / 3) / 6, "val_dice_wt": 5 / 6, "val_dice_tc": 5 / 6}
    dice |= {"val_dice_et": 1 / 3}
    assert {name: state.metrics[name] for name in dice} == pytest.approx(dice)
    assert state.metrics["val_hd95_et"] > 100
    assert state.metrics["val_lesion_dice_wt"] == 1  # 8 mm³ are too small for a lesion: none to find, none missed
    assert len(state.metrics) == 1 + 3 * 3
    rows = state.metric_details["val_mean_dice"]
    assert [(r.case_id, r.region) for r in rows] == [(case, r) for case in ("a8", "b4") for r in ("WT", "TC", "ET")]
    assert (state.best_metric, state.best_metric_epoch) == (state.metrics["val_mean_dice"], 1)


@pytest.mark.parametrize("order", [("a8", "b4", "c0"), ("c0", "a8", "b4"), ("b4", "c0", "a8")], ids=str)
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_scores_do_not_depend_on_order_or_batch_size(cases, order, batch_size):
    state = evaluate(cases(*order), batch_size)
    assert state.metric_details["val_mean_dice"] == evaluate(cases("a8", "b4", "c0")).metric_details["val_mean_dice"]
    assert state.metrics["val_mean_dice"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_predicted_regions_are_nested_before_scoring(samples):
    metric = ValidationScores()
    metric.update([("a", samples.masks(et=8), samples.masks(tc=8, wt=8, et=8))])  # ET alone, without TC and WT
    assert samples.by_region(metric.rows()) == {"WT": 1, "TC": 1, "ET": 1}


def test_a_repeated_case_counts_once(cases):
    assert evaluate([*cases("a8", "b0"), *cases("a8")]).metrics["val_mean_dice"] == 0.5


def test_distances_are_computed_in_every_nth_validation(cases):
    metric = ValidationScores(val_interval=5, full_every=2)
    assert [metric.is_full(epoch) for epoch in (5, 10, 15, 20, 23)] == [False, True, False, True, False]
    assert not any(ValidationScores(full_every=0).is_full(epoch) for epoch in range(1, 30))
    assert all(ValidationScores().is_full(epoch) for epoch in range(1, 30))
    tags = {"val_mean_dice", *(f"val_dice_{region}" for region in ("wt", "tc", "et"))}
    assert evaluate(cases("a8"), metric=metric).metrics.keys() == tags


@pytest.mark.parametrize("wrong", [{"full_every": -1}, {"val_interval": True}, {"score_rules": "brats1999"}])
def test_an_argument_outside_its_range_is_refused(wrong):
    with pytest.raises(UsageError) as error:
        ValidationScores(**wrong)
    assert {error.value.subject: error.value.found} == wrong


def test_the_distance_of_a_missed_region_follows_the_rules(samples):
    metric = ValidationScores(score_rules="brats2020")
    metric.update([("a", samples.masks(), samples.masks(8, 8, 8))])
    assert metric.rows()[0].hd95_mm == pytest.approx(373.12866)


def test_a_second_validation_starts_from_zero(cases):
    metric = ValidationScores()
    evaluate(cases("a8"), metric=metric)
    assert evaluate(cases("b0"), metric=metric).metrics["val_mean_dice"] == 0.0


def test_cases_of_all_processes_are_gathered_and_counted_once(cases, monkeypatch):
    parts = [ValidationScores(), ValidationScores()]
    for metric, names in zip(parts, [("a8", "c0"), ("b4", "a8")], strict=True):
        metric.update([(case["case_id"], case["pred"], case["label"]) for case in cases(*names)])
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.all_gather", lambda _: [metric._rows for metric in parts])
    assert [row.case_id for row in parts[0].rows()] == ["a8"] * 3 + ["b4"] * 3 + ["c0"] * 3
    assert parts[0].compute() == parts[1].compute() == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_volumes_use_the_voxel_size_of_the_reference(samples):
    ref = MetaTensor(samples.masks(8, 8, 8), affine=torch.diag(torch.tensor([-2.0, 2.0, 3.0, 1.0])))
    metric = ValidationScores()
    metric.update([("a", ref.as_tensor(), ref)])
    assert metric.rows()[0].ref_volume_ml == pytest.approx(8 * 12 / 1000)


def test_no_case_is_an_error_and_not_nan():
    with pytest.raises(NotComputableError):
        ValidationScores().compute()


def test_the_handler_logs_the_means_and_writes_the_rows(cases, tmp_path, log):
    state = evaluate(cases("a8", "b4"), handlers=[SaveScores(tmp_path / "metrics.json")])
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["mean_dice"] == state.metrics["val_mean_dice"] and content["epoch"] == 1
    assert content["rows"] == [row.to_json() for row in state.metric_details["val_mean_dice"]]
    assert "mean Dice 0.833  WT 0.833  TC 0.833  ET 0.833  best 0.833" in log.text


@pytest.mark.parametrize(
    ("current", "best", "better"),
    [
        (0.5, 0.4, True),
        (0.4, 0.5, False),
        (0.5, 0.5, False),
        (math.nan, 0.1, False),
        (0.1, math.nan, True),
        (math.nan, math.nan, False),
        (0.0, -1, True),
    ],
    ids=str,
)
def test_nan_is_worse_than_any_number(current, best, better):
    assert is_better(current, best) is better


@pytest.mark.parametrize(("compare", "best"), [(is_better, (0.6, 3)), (default_metric_cmp_fn, (math.nan, 1))])
def test_a_first_nan_stays_the_best_in_monai_and_not_here(toy_run, compare, best):
    run = toy_run(epochs=3, scores={1: math.nan, 2: 0.5, 3: 0.6}, compare=compare)
    run.trainer.run()
    state = run.evaluator.state
    assert (state.best_metric, state.best_metric_epoch) == pytest.approx(best, nan_ok=True)
