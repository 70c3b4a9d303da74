"""Plans of real data: some cases are read and some steps are trained."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from brats3d.errors import DataError, UsageError
from brats3d.files.failures import cause_of
from brats3d.plan import Timing, make_plan
from brats3d.plan.planner import PLANNED
from brats3d.plan.trial_run import Trial

TIMING = Timing(start=10, prepare=0, train=2, end_epoch=1, validate=2)

TINY = {"network_def#channels": [4, 8, 8, 8, 8], "device": "cpu", "amp": False}


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Time a few steps only, in a folder that must be empty afterwards."""
    monkeypatch.setattr("brats3d.plan.measured_times.ENOUGH_SECONDS", 0.0)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.glob("brats3d-plan-*"))


def test_a_plan_has_a_value_and_a_reason_for_every_knob(make_dataset: Callable, log) -> None:
    plan = make_plan({"dataset_dir": str(make_dataset(4)), **TINY})
    assert list(plan.knobs) == [*PLANNED, *TINY]
    assert all(choice.reason for choice in plan.knobs.values())
    assert plan.knobs["patch_size"].value == [32, 32, 32]
    assert (plan.data.training, plan.data.validation, plan.data.folds) == (3, 1, 4)
    assert plan.data.brain_box == (12, 12, 10)  # conftest's brain leaves an eighth at each side
    timing = plan.timing
    assert min(timing.start, timing.prepare, timing.train, timing.end_epoch, timing.validate) > 0


def test_trials_of_a_plan_do_not_resume_each_other(make_dataset: Callable, tmp_path: Path) -> None:
    trial = Trial({"dataset_dir": str(make_dataset(2)), **TINY}, [], [], [], [], tmp_path, time.perf_counter)
    first, second = (trial.build({}).parser["output_dir"] for _ in range(2))
    assert first != second and Path(first).parent == tmp_path


def test_given_knobs_are_kept_and_the_hours_limit_the_epochs(
    make_dataset: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats3d.plan.trial_run.Trial.time", lambda *_: TIMING)
    given = {"patch_size": [48, 32, 32], "batch_size": 1, "num_workers": 0, "val_interval": 1, "cache": 0}
    plan = make_plan({"dataset_dir": str(make_dataset(2)), **given, **TINY}, hours=1.0)
    assert {name: plan.knobs[name].value for name in given} == given
    assert all(plan.knobs[name].reason == "as given" for name in given)
    # A training and a validation case: each epoch takes 3 s and is validated in 2 s; 3,240 s are planned.
    assert plan.knobs["epochs"].value == 646
    assert plan.seconds.run == 10 + 646 * 5


def test_too_little_memory_is_an_error_before_anything_is_trained(
    make_dataset: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats3d.plan.facts.free_memory", lambda: 2**20)
    monkeypatch.setattr("brats3d.plan.trial_run.Trial.time", None)
    with pytest.raises(UsageError) as caught:
        make_plan({"dataset_dir": str(make_dataset(2)), **TINY})
    assert caught.value.subject == "memory"
    assert "patches of 32 x 32 x 32" in caught.value.problem and "0.0 GiB are free" in caught.value.problem


def test_one_patient_and_no_cases_are_errors(make_dataset: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (make_dataset(1), tmp_path / "empty"):
        with pytest.raises(RuntimeError) as caught:  # MONAI's, around the cause
            make_plan({"dataset_dir": str(folder), **TINY})
        assert isinstance(cause_of(caught.value), DataError)


@pytest.mark.parametrize(("hours", "more"), [(0, {}), (float("nan"), {}), (1.0, {"epochs": 5})])
def test_hours_that_cannot_be_used_are_refused(hours: float, more: dict) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan({"dataset_dir": "unread", **more}, hours=hours)
    assert caught.value.subject == "hours"


def test_an_interrupted_plan_leaves_nothing_behind(
    make_dataset: Callable, run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("brats3d.plan.measured_times.StepTimes._end_step", interrupt)
    out = tmp_path / "out"
    knobs = [word for name, value in TINY.items() for word in (f"--{name}", json.dumps(value))]
    code, _, _ = run("plan", make_dataset(2), "-o", out / "plan.yaml", *knobs)
    assert code == 130
    assert not list(out.iterdir())


def test_an_edited_plan_is_refused_before_anything_is_read(run: Callable, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("epochs: 3\n")
    code, _, error = run("plan", "unread", "-o", file)
    assert code == 2 and "not written by brats3d" in error
    assert run("plan", "unread", "-o", tmp_path / "plan.txt")[0] == 2


@pytest.mark.slow
def test_a_training_uses_the_plan(make_dataset: Callable, run: Callable, tmp_path: Path) -> None:
    folder, file, output = make_dataset(4), tmp_path / "plan.yaml", tmp_path / "run"
    knobs = [word for name, value in TINY.items() for word in (f"--{name}", json.dumps(value))]
    code, text, _ = run("plan", folder, "-o", file, "--epochs", 2, *knobs)
    assert code == 0 and f"brats3d train {folder} --config {file}" in text
    code, _, _ = run("train", folder, "--config", file, "--output", output)
    assert code == 0
    settings = json.loads((output / "settings.json").read_text())
    planned = yaml.safe_load(file.read_text())
    assert {name: settings[name] for name in PLANNED} == {name: planned[name] for name in PLANNED}
