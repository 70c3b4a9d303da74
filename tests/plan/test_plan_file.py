"""The overlay and the text of a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from brats3d.config_reader import read_knobs
from brats3d.files import ChangedFileError
from brats3d.plan import Estimate, Timing, TrainingPlan, plan_text, write_plan
from brats3d.plan.choice import Choice
from brats3d.plan.plan_file import format_seconds

KNOBS = {
    "patch_size": Choice([128, 128, 112], "no larger than the brain"),
    "cache": Choice(0.5, "all fit"),
    "network_def#channels": Choice([8, 16], "as given"),
    "output_dir": Choice("$'runs/' + str(@fold)", "as given"),
    "minutes": Choice(None, "as given"),
}


@pytest.fixture
def plan(data: Callable, machine: Callable) -> TrainingPlan:
    return TrainingPlan(data(), machine(gpu=24), KNOBS, Timing(10, 1), Estimate(310, 600, 30, 36_000))


def test_the_overlay_has_a_commented_line_per_knob(plan: TrainingPlan, tmp_path: Path) -> None:
    file = write_plan(tmp_path / "plan.yaml", plan, "brats3d train DIR --config plan.yaml")
    assert yaml.safe_load(file.read_text()) == {name: choice.value for name, choice in KNOBS.items()}
    assert {knob.name: knob.comment for knob in read_knobs([file])}["patch_size"] == "no larger than the brain"
    assert "#   brats3d train DIR --config plan.yaml\n" in file.read_text()


def test_an_edited_plan_is_not_replaced(plan: TrainingPlan, tmp_path: Path) -> None:
    file = write_plan(tmp_path / "plan.yaml", plan, "train")
    write_plan(file, plan, "train")
    file.write_text(file.read_text() + "seed: 1  # mine\n")
    with pytest.raises(ChangedFileError):
        write_plan(file, plan, "train")
    assert "mine" in file.read_text()


def test_the_text_has_facts_knobs_and_durations(plan: TrainingPlan) -> None:
    text = plan_text(plan)
    for part in (
        "240 training and 60 validation cases, 5 folds; median brain box 140 x 175 x 139 voxels of 1 x 1 x 1 mm",
        "2 CPU cores, 20.0 GiB of RAM free, GPU with 24.0 GiB free",
        "patch_size [128, 128, 112]",
        "Expected: 10 hours for one fold, 50 hours for 5 folds one after another.",
        "5.2 minutes before the first epoch, 10 minutes per epoch, 30 s per validation",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.31, "0.3 s"), (48, "48 s"), (119, "119 s"), (120, "2.0 minutes"), (3000, "50 minutes"), (7200, "2.0 hours")],
)
def test_durations_have_two_digits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
