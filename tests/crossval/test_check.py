"""Everything that is refused before a fold is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brats3d.bundle import run_workflow
from brats3d.crossval import CrossValidation
from brats3d.crossval.check import check
from brats3d.errors import DataError, UsageError
from brats3d.files import cause_of
from brats3d.labels import MODALITIES
from brats3d.training import resume

TINY = {"patch_size": [32, 32, 32], "network_def#channels": [4, 8, 8, 8, 8], "amp": False, "device": "cpu"}


@pytest.fixture
def crossval(make_dataset: Callable[..., Path], tmp_path: Path) -> Callable[..., CrossValidation]:
    """``crossval(cases=3, **knobs)``: a cross-validation of tiny cases."""

    def make(cases: int = 3, **knobs: Any) -> CrossValidation:
        data = make_dataset(cases)
        return CrossValidation(tmp_path / "out", {"dataset_dir": str(data), **TINY, "epochs": 1, **knobs})

    return make


def refusal(crossval: CrossValidation, **call: Any) -> Any:
    """Return the cause of a refusal, before which nothing was written."""
    before = sorted(crossval.output_dir.rglob("*"))
    with pytest.raises((ValueError, RuntimeError)) as caught:
        check(crossval, **call)
    assert sorted(crossval.output_dir.rglob("*")) == before
    return cause_of(caught.value)


def write_datalist(crossval: CrossValidation, folds: dict[str, int]) -> None:
    folder = Path(crossval.knobs["dataset_dir"])

    def entry(case_id: str, fold: int) -> dict[str, Any]:
        image = [f"{case_id}/{case_id}_{modality}.nii.gz" for modality in MODALITIES]
        return {"image": image, "label": f"{case_id}/{case_id}_seg.nii.gz", "fold": fold}

    content = {"training": [entry(*pair) for pair in folds.items()]}
    if "twice" in folds:
        content["training"] = [entry(f"BraTS20_Training_00{k}", fold) for k, fold in ((1, 0), (2, 0), (3, 1), (1, 1))]
    (folder / "datalist.json").write_text(json.dumps(content))


def test_there_is_a_fold_for_each_of_few_patients(crossval) -> None:
    made = crossval(cases=3)
    assert len(check(made).folds) == 3 and not made.output_dir.exists()


def test_a_datalist_has_its_own_folds(crossval) -> None:
    made = crossval(cases=3)
    write_datalist(made, {"BraTS20_Training_001": 0, "BraTS20_Training_002": 1, "BraTS20_Training_003": 0})
    assert len(check(made).folds) == 2


def test_folds_that_overlap_are_refused(crossval) -> None:
    made = crossval(cases=3)
    write_datalist(made, {"twice": 0})
    error = refusal(made)
    assert isinstance(error, DataError) and "BraTS20_Training_001: listed 2 times" in error.problems[0]


def test_a_single_patient_is_refused(crossval) -> None:
    assert isinstance(refusal(crossval(cases=1)), DataError)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("learning_rate", "fast"), ("patch_size", [33, 32, 32])])
def test_a_wrong_knob_is_refused(crossval, name: str, value: Any) -> None:
    error = refusal(crossval(**{name: value}))
    assert isinstance(error, UsageError) and error.subject == name


@pytest.mark.parametrize(("call", "subject"), [({"fold": 3}, "fold"), ({"minutes": -1}, "minutes")])
def test_a_wrong_option_of_the_call_is_refused(crossval, call: dict[str, Any], subject: str) -> None:
    error = refusal(crossval(), **call)
    assert isinstance(error, UsageError) and error.subject == subject


def test_other_settings_or_data_than_those_of_a_trained_fold_are_refused(crossval) -> None:
    made = crossval()
    run_workflow("train", {**made.training(1), "minutes": 1e-9})  # stops after a step
    check(made)
    error = refusal(CrossValidation(made.output_dir, {**made.knobs, "learning_rate": 0.5}))
    assert error.problems == ("learning_rate was 0.001, is 0.5",) and str(made.folder(1)) in error.problem
    check(CrossValidation(made.output_dir, {**made.knobs, "learning_rate": 0.5, "resume": "force"}))


def test_folds_that_have_changed_since_one_was_trained_are_refused(crossval) -> None:
    made = crossval()
    write_datalist(made, {"BraTS20_Training_001": 0, "BraTS20_Training_002": 1, "BraTS20_Training_003": 0})
    run_workflow("train", {**made.training(1), "minutes": 1e-9})
    check(made)
    write_datalist(made, {"BraTS20_Training_001": 0, "BraTS20_Training_002": 1, "BraTS20_Training_003": 1})
    assert refusal(made).problems == (
        "training_cases: 1 removed ['BraTS20_Training_003'], 0 new []",
        "validation_cases: 0 removed [], 1 new ['BraTS20_Training_003']",
    )


def test_only_settings_that_change_scores_need_another_evaluation(crossval) -> None:
    made = crossval()
    made_with = check(made).made_with

    def changed(**knobs: Any) -> bool:
        return check(CrossValidation(made.output_dir, {**made.knobs, **knobs})).made_with != made_with

    assert [changed(cache=0), changed(num_workers=1), changed(score_rules="brats2020"), changed(overlap=0.5)] == [
        False,
        False,
        True,
        True,
    ]


def test_comments_and_order_of_a_config_file_need_no_other_evaluation(crossval, tmp_path: Path) -> None:
    made, overlay = crossval(), tmp_path / "my.yaml"

    def made_with(text: str) -> str:
        overlay.write_text(text)
        return check(CrossValidation(made.output_dir, made.knobs, (overlay,))).made_with

    first = made_with("max_norm: 12\nseed: 1\n")
    assert made_with("# quicker\nseed: 1\nmax_norm: 12\n") == first != made_with("max_norm: 11\nseed: 1\n")


@pytest.mark.parametrize("name", ["fold", "minutes", "output_dir"])
def test_a_config_file_that_sets_what_differs_between_the_folds_is_refused(crossval, tmp_path: Path, name: str) -> None:
    made, overlay = crossval(), tmp_path / "my.yaml"
    overlay.write_text(f"epochs: 2\n{name}: 3\n")
    error = refusal(CrossValidation(made.output_dir, made.knobs, (overlay,)))
    assert error.subject == "config" and error.problem.startswith(f"{overlay} sets {name},") and name in error.advice


def test_weights_to_start_from_are_checked_unless_every_fold_has_started(crossval, tmp_path: Path) -> None:
    made = crossval(checkpoint=str(tmp_path / "start.pt"))
    assert refusal(made).subject == "checkpoint"
    (tmp_path / "ensemble").mkdir()
    card = {"modalities": MODALITIES, "regions": [], "network_def": {}, "members": ["../start.pt"]}
    (tmp_path / "ensemble" / "ensemble.json").write_text(json.dumps(card))
    (tmp_path / "start.pt").touch()
    error = refusal(CrossValidation(made.output_dir, {**made.knobs, "checkpoint": str(tmp_path / "ensemble")}))
    assert "is an ensemble of 1 networks" in error.problem
    started = CrossValidation(made.output_dir, {**made.knobs, "checkpoint": None})
    run_workflow("train", {**started.training(1), "minutes": 1e-9})
    forced = CrossValidation(made.output_dir, {**made.knobs, "resume": "force"})  # start.pt is no checkpoint
    check(forced, fold=1)
    assert refusal(forced, fold=0).subject == "checkpoint" and refusal(forced).subject == "checkpoint"


def test_the_states_of_trained_folds_are_not_read(crossval, monkeypatch: pytest.MonkeyPatch) -> None:
    made = crossval()
    run_workflow("train", {**made.training(1), "minutes": 1e-9})
    read = resume.read_content
    files: list[Path] = []
    monkeypatch.setattr(resume, "read_content", lambda path: files.append(path) or read(path))
    check(made)
    assert files == []
    (made.folder(1) / "settings.json").write_text("{")  # then the state is
    error = refusal(CrossValidation(made.output_dir, {**made.knobs, "learning_rate": 0.5}))
    assert error.problems == ("learning_rate was 0.001, is 0.5",) and len(files) == 1
