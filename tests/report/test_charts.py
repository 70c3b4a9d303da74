"""Curves and box plots."""

from __future__ import annotations

from brats3d.evaluation.score_rows import ScoreRow
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ
from brats3d.report.charts import draw_boxes, draw_curves


def row(region: str, **measures: float | None) -> ScoreRow:
    return ScoreRow(case_id="a", region=region, dice=0.5, ref_volume_ml=1, pred_volume_ml=1, **measures)


def test_curves_are_drawn_for_the_tags_that_exist():
    dice = {f"val_dice_{region.lower()}": [(1, 0.2), (9, 0.8)] for region in REGIONS_TO_READ}
    many = [(step, float("nan") if step == 5 else 1 / step) for step in range(1, 3000)]
    charts = draw_curves({"train_loss": many, "learning_rate": [(1, 0.1)], **dice, "memory_gib": [(1, 3)]})
    assert list(charts) == ["train_loss", "learning_rate", "dice_curve"]
    loss = charts["train_loss"].figure.axes[0]
    assert len(loss.lines[0].get_xdata()) == 200  # means of neighbours
    assert charts["dice_curve"].alt.startswith("Dice of WT: 0.2 at iteration 1, 0.8 at iteration 9")
    colours = [line.get_color() for line in charts["dice_curve"].figure.axes[0].lines]
    assert colours == [REGION_COLOURS[region] for region in REGIONS_TO_READ]
    assert draw_curves({}) == {}


def test_a_curve_without_finite_values_is_empty():
    chart = draw_curves({"train_loss": [(1, float("nan"))]})["train_loss"]
    assert len(chart.figure.axes[0].lines[0].get_xdata()) == 0


def test_only_measures_of_every_row_have_a_box_plot():
    rows = [row(region, hd95_mm=3.0, lesion_dice=None if region == "TC" else 0.1) for region in REGIONS_TO_READ]
    charts = draw_boxes(rows)
    assert list(charts) == ["dice", "hd95_mm"]
    assert charts["dice"].alt.endswith("medians: WT 0.5, TC 0.5, ET 0.5")


def test_the_same_scores_give_the_same_bytes():
    rows = [row(region) for region in REGIONS_TO_READ]
    first, second = (draw_boxes(rows)["dice"].svg() for _ in range(2))
    assert first == second
