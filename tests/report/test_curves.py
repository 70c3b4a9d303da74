"""Curves, read from TensorBoard events and drawn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from brats3d.errors import DataError
from brats3d.labels import REGION_COLOURS
from brats3d.report.curves import read_curves, read_scalars, save_curve


def test_the_curves_of_a_run_are_read_back(built):
    assert set(read_curves(built)) == {"val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et"}
    scalars = read_scalars(built)
    assert [step for step, _ in scalars["val_dice_wt"]] == [1, 2, 3, 4, 5] and scalars["train_loss"][1] == (2, 0.5)


def test_a_folder_without_events_has_no_curves(tmp_path):
    with pytest.raises(DataError) as caught:
        read_curves(tmp_path)
    assert caught.value.subject == str(tmp_path / "tensorboard")


@pytest.mark.parametrize("points", [[(1, 0.5), (2, 0.6)], []], ids=["points", "none"])
def test_a_curve_is_drawn(tmp_path, points):
    path = save_curve(tmp_path / "curve.png", {"val_dice_wt": points, "val_mean_dice": [(1, 0.3)]}, title="run")
    assert imread(path).shape[2] == 4


def test_another_model_is_drawn_as_dashed_lines(tmp_path):
    plain, baseline = (
        imread(
            save_curve(tmp_path / f"{name}.png", {"val_mean_dice": [(1, 0.3)]}, baseline=levels, baseline_name="other")
        )
        for name, levels in (("plain", None), ("baseline", {"ET": 0.9}))
    )
    colour = [int(REGION_COLOURS["ET"][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    near = [(np.abs(picture[..., :3] - colour).max(-1) < 0.02).sum() for picture in (plain, baseline)]
    assert near[0] == 0 and near[1] > 200
