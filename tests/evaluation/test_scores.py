"""BraTS scores: one rule for empty regions, the same in any order, batch or number of processes."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents, default_metric_cmp_fn
from monai.metrics import DiceMetric
from torch.utils.data import DataLoader

from brats3d.evaluation.rules import RULES, get_rules
from brats3d.evaluation.scores import score_case
from brats3d.evaluation.tables import MEASURES, format_table, summarise, write_scores
from brats3d.evaluation.validation_metric import RegionScores, ReportScores, better
from brats3d.labels import REGIONS

MM = (1.0, 1.0, 1.0)


def masks(tc: int = 0, wt: int = 0, et: int = 0, start: int = 0) -> torch.Tensor:
    """Regions of so many voxels in a row from ``start``, shape (3, 8, 8, 8)."""
    flat = torch.zeros(3, 512, dtype=torch.uint8)
    for region, size in (("TC", tc), ("WT", wt), ("ET", et)):
        flat[REGIONS.index(region), start : start + size] = 1
    return flat.view(3, 8, 8, 8)


def dice_of(rows: list[dict], key: str = "dice") -> dict[str, float]:
    return {row["region"]: row[key] for row in rows}


# --- one case


def test_a_case_is_scored_by_hand():
    ref = masks(tc=4, wt=8, et=2)
    pred = masks(tc=4, wt=8, et=2, start=1)  # moved by one: overlaps of 3, 7 and 1
    rows = score_case(pred, ref, "a", (2.0, 5.0, 1.0))
    assert [row["region"] for row in rows] == ["WT", "TC", "ET"]
    assert {row["case_id"] for row in rows} == {"a"}
    assert dice_of(rows) == pytest.approx({"WT": 14 / 16, "TC": 6 / 8, "ET": 2 / 4})
    assert dice_of(rows, "ref_volume_ml") == pytest.approx({"WT": 0.08, "TC": 0.04, "ET": 0.02})  # 10 mm³ a voxel
    pred[0, 7, 7] = 1
    assert dice_of(score_case(pred, ref, "a", MM), "pred_volume_ml")["TC"] == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("pred", "ref", "dice"),
    [(0, 0, 1.0), (128, 0, 0.0), (0, 128, 0.0), (128, 128, 1.0)],
    ids=["both empty", "spurious", "missed", "equal"],
)
def test_the_rule_for_empty_regions(pred, ref, dice):
    rows = score_case(masks(et=pred), masks(et=ref), "a", MM)
    assert dice_of(rows) == {"WT": 1.0, "TC": 1.0, "ET": dice}


def test_a_missing_region_costs_what_the_challenge_says():
    missed = {name: dice_of(score_case(masks(), masks(et=9), "a", MM, get_rules(name)), "hd95_mm") for name in RULES}
    assert {name: values["ET"] for name, values in missed.items()} == pytest.approx(
        {"brats2023": 374, "brats2023-men": 374, "brats2023-met": 374, "brats2020": 373.12866}
    )
    assert {values["WT"] for values in missed.values()} == {0}
    with pytest.raises(ValueError, match=r"convention: expected one of brats2023, .*, got 'brats2019'"):
        get_rules("brats2019")


def test_sensitivity_and_specificity_are_counted_by_hand():
    row = score_case(masks(wt=10, start=4), masks(wt=8), "a", MM, rules=None)[0]
    assert row["sensitivity"] == 4 / 8
    assert row["specificity"] == (512 - 14) / (512 - 8)
    assert row["volume_error_ml"] == pytest.approx(0.002)
    assert "hd95_mm" not in row


def test_monais_default_ignores_128_false_voxels_and_ours_does_not():
    ref, pred = masks(tc=8, wt=16), masks(tc=8, wt=16, et=128)
    theirs = DiceMetric(include_background=True)
    theirs(pred[None].float(), ref[None].float())
    assert theirs.aggregate().item() == 1.0  # MONAI issue 7504
    assert dice_of(score_case(pred, ref, "a", MM)) == {"WT": 1.0, "TC": 1.0, "ET": 0.0}


@given(
    array_shapes(min_dims=3, max_dims=3, max_side=3).flatmap(
        lambda s: st.tuples(arrays(np.bool_, (3, *s)), arrays(np.bool_, (3, *s)))
    )
)
def test_dice_is_what_counting_sets_of_voxels_gives(pair):
    pred, ref = pair
    rows = dice_of(score_case(torch.from_numpy(pred), torch.from_numpy(ref), "a", MM))
    for channel, region in enumerate(REGIONS):
        a, b = set(np.flatnonzero(pred[channel])), set(np.flatnonzero(ref[channel]))
        assert rows[region] == pytest.approx(2 * len(a & b) / (len(a) + len(b)) if a | b else 1.0)


def test_shapes_that_differ_are_refused_by_case():
    with pytest.raises(
        ValueError, match=r"case_7: expected pred and ref of one shape, got \(3, 2, 2, 2\), \(3, 2, 2, 1\)"
    ):
        score_case(torch.zeros(3, 2, 2, 2), torch.zeros(3, 2, 2, 1), "case_7", MM)


def test_what_is_no_region_is_refused():
    with pytest.raises(ValueError, match=r"a: pred: expected 0 and 1, got other values \(probabilities\?\)"):
        score_case(masks(et=8) * 0.3, masks(et=8), "a", MM)
    with pytest.raises(ValueError, match=r"expected regions of shape \(3, H, W, D\), got \(3, 4, 4\)"):
        score_case(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), "a", MM)


# --- many cases


@pytest.fixture
def rows() -> list[dict]:
    """Case a has every region and is right; case b has no ET, and 0.1 ml of it is predicted."""
    return [
        *score_case(masks(tc=4, wt=8, et=2), masks(tc=4, wt=8, et=2), "a", MM),
        *score_case(masks(tc=4, wt=8, et=100), masks(tc=4, wt=8), "b", MM),
    ]


def test_a_summary_tells_cases_that_have_the_region_from_those_that_do_not(rows):
    summary = summarise(rows)
    measures = {region: values.pop("measures") for region, values in summary.items()}
    assert summary["WT"] == {"cases": 2, "dice": 1.0, "present": 2, "dice_present": 1.0, "false_volume_ml": None}
    et = {"cases": 2, "dice": 0.5, "present": 1, "dice_present": 1.0, "false_volume_ml": pytest.approx(0.1)}
    assert summary["ET"] == et
    assert list(measures["ET"]) == list(MEASURES)
    assert measures["ET"]["hd95_mm"]["mean"] == 374 / 2  # 0 where it is right, a missing one where it is false
    assert measures["ET"]["volume_error_ml"]["mean"] == pytest.approx(0.05)


def test_a_summary_has_mean_deviation_median_and_quartiles():
    volume = {"ref_volume_ml": 1.0, "pred_volume_ml": 1.0}
    rows = [{"case_id": f"c{i}", "region": "TC", "dice": i / 10, **volume} for i in (4, 1, 2, 3, 0)]
    assert summarise(rows)["TC"]["measures"] == {
        "dice": pytest.approx({"mean": 0.2, "sd": 0.1 * 2.5**0.5, "median": 0.2, "q1": 0.1, "q3": 0.3})
    }
    one = summarise(rows[:1])["TC"]["measures"]["dice"]
    assert one == {"mean": 0.4, "sd": None, "median": 0.4, "q1": 0.4, "q3": 0.4}


def test_a_summary_of_nothing_is_none_and_not_nan():
    assert summarise([])["WT"] == {
        "cases": 0,
        "dice": None,
        "present": 0,
        "dice_present": None,
        "false_volume_ml": None,
        "measures": {},
    }


def test_the_table_has_a_line_a_case_then_the_means(rows):
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


def test_scores_on_disk_hold_rows_and_summary(tmp_path, rows):
    write_scores(tmp_path / "metrics.json", rows, epoch=3)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content == {"epoch": 3, "summary": summarise(rows), "rows": rows}


def test_scores_that_are_nan_are_not_written(tmp_path, rows):
    with pytest.raises(ValueError):
        write_scores(tmp_path / "metrics.json", rows, mean_dice=math.nan)
    assert not list(tmp_path.iterdir())


# --- on MONAI's engine


def cases(*names: str) -> list[dict]:
    """A case named ``x3`` has 8 voxels of each region, of which 3 are found, and 3 more predicted elsewhere."""
    found = {name: int(name[1:]) for name in names}
    ref = masks(8, 8, 8)
    return [{"case_id": n, "image": ref, "label": ref, "pred": masks(k, k, k)} for n, k in found.items()]


def evaluate(data: list[dict], batch_size: int = 1, handlers=(), metric: RegionScores | None = None) -> SimpleNamespace:
    """The state of a real evaluator whose network says what stands in ``pred``."""

    def step(engine: Engine, batch: dict) -> dict:
        engine.state.output = {key: batch[key] for key in ("image", "label", "pred")}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=batch_size),
        network=torch.nn.Identity(),
        iteration_update=step,
        key_val_metric={"val_mean_dice": metric or RegionScores()},
        metric_cmp_fn=better,
        val_handlers=list(handlers),
    )
    evaluator.run(1)
    return evaluator.state


def test_an_evaluator_gets_the_mean_each_regions_mean_and_the_rows():
    data = cases("a8", "b4")  # Dice 1 and 8/12 in each region
    data[0]["pred"][REGIONS.index("ET")] = 0
    state = evaluate(data)
    dice = {"val_mean_dice": (1 + 1 + 0 + 3 * 2 / 3) / 6, "val_dice_wt": 5 / 6, "val_dice_tc": 5 / 6}
    dice |= {"val_dice_et": 1 / 3}
    assert {name: state.metrics[name] for name in dice} == pytest.approx(dice)
    assert state.metrics["val_hd95_et"] > 100
    assert state.metrics["val_lesion_dice_wt"] == 1  # 8 mm³ are no lesion, so there is nothing to find or to miss
    assert len(state.metrics) == 1 + 3 * 3
    assert [(r["case_id"], r["region"]) for r in state.metric_details["val_mean_dice"]] == [
        (case, region) for case in ("a8", "b4") for region in ("WT", "TC", "ET")
    ]
    assert (state.best_metric, state.best_metric_epoch) == (state.metrics["val_mean_dice"], 1)


@pytest.mark.parametrize("order", [("a8", "b4", "c0"), ("c0", "a8", "b4"), ("b4", "c0", "a8")], ids=str)
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_scores_do_not_depend_on_order_or_batch(order, batch_size):
    state = evaluate(cases(*order), batch_size)
    assert state.metric_details["val_mean_dice"] == evaluate(cases("a8", "b4", "c0")).metric_details["val_mean_dice"]
    assert state.metrics["val_mean_dice"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_predicted_regions_are_scored_nested_as_a_file_of_labels_holds_them():
    ref = masks(tc=8, wt=8, et=8)
    metric = RegionScores()
    metric.update([("a", masks(et=8), ref)])  # a network that says ET and neither TC nor WT
    assert dice_of(metric.rows()) == {"WT": 1, "TC": 1, "ET": 1}


def test_a_case_that_comes_twice_counts_once():
    assert evaluate([*cases("a8", "b0"), *cases("a8")]).metrics["val_mean_dice"] == 0.5


def test_distances_come_with_every_so_many_validations():
    metric = RegionScores(val_interval=5, full_every=2)
    assert [metric.is_full(epoch) for epoch in (5, 10, 15, 20, 23)] == [False, True, False, True, False]
    assert not any(RegionScores(full_every=0).is_full(epoch) for epoch in range(1, 30))
    assert all(RegionScores().is_full(epoch) for epoch in range(1, 30))
    assert evaluate(cases("a8"), metric=metric).metrics.keys() == {
        "val_mean_dice",
        *(f"val_dice_{r}" for r in ("wt", "tc", "et")),
    }


@pytest.mark.parametrize(
    ("wrong", "said"), [({"full_every": -1}, "from 0, got -1"), ({"val_interval": True}, "from 1, got True")]
)
def test_an_interval_that_is_none_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        RegionScores(**wrong)


def test_a_second_validation_forgets_the_first():
    metric = RegionScores()
    evaluate(cases("a8"), metric=metric)
    assert evaluate(cases("b0"), metric=metric).metrics["val_mean_dice"] == 0.0


def test_processes_gather_their_cases_and_one_that_padding_doubled_counts_once(monkeypatch):
    parts = [RegionScores(), RegionScores()]
    for metric, names in zip(parts, [("a8", "c0"), ("b4", "a8")], strict=True):
        metric.update([(c["case_id"], c["pred"], c["label"]) for c in cases(*names)])
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.all_gather", lambda _: [metric._rows for metric in parts])
    assert [row["case_id"] for row in parts[0].rows()] == ["a8"] * 3 + ["b4"] * 3 + ["c0"] * 3
    assert parts[0].compute() == parts[1].compute() == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_volumes_follow_the_references_voxel_size():
    ref = MetaTensor(masks(8, 8, 8), affine=torch.diag(torch.tensor([-2.0, 2.0, 3.0, 1.0])))
    metric = RegionScores()
    metric.update([("a", ref.as_tensor(), ref)])
    assert metric.rows()[0]["ref_volume_ml"] == pytest.approx(8 * 12 / 1000)


def test_nothing_scored_is_an_error_and_not_a_nan():
    with pytest.raises(NotComputableError):
        RegionScores().compute()


def test_a_report_logs_the_means_and_writes_the_rows(tmp_path, log):
    state = evaluate(cases("a8", "b4"), handlers=[ReportScores(tmp_path / "metrics.json")])
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["mean_dice"] == state.metrics["val_mean_dice"] and content["epoch"] == 1
    assert content["rows"] == state.metric_details["val_mean_dice"]
    assert "mean Dice 0.833  WT 0.833  TC 0.833  ET 0.833  best 0.833" in log.text


# --- which epoch is best


@pytest.mark.parametrize(
    ("current", "best", "beats"),
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
def test_better_is_more_and_never_nan(current, best, beats):
    assert better(current, best) is beats


@pytest.mark.parametrize(("compare", "best"), [(better, (0.6, 3)), (default_metric_cmp_fn, (math.nan, 1))])
def test_a_first_nan_freezes_monais_best_for_ever_and_not_ours(toy_run, compare, best):
    run = toy_run(epochs=3, scores={1: math.nan, 2: 0.5, 3: 0.6}, compare=compare)
    run.trainer.run()
    state = run.evaluator.state
    assert (state.best_metric, state.best_metric_epoch) == pytest.approx(best, nan_ok=True)
