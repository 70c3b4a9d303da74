"""The cases to view are found in every kind of folder, in the order of their Dice."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from brats3d.errors import DataError, NotFoundError, UsageError
from brats3d.evaluation import read_scores
from brats3d.evaluation.score_rows import mean_dice_by_case
from brats3d.labels import MODALITIES
from brats3d.view import find_viewed_cases


def test_a_run_has_images_reference_prediction_and_true_dice_the_lowest_first(built):
    cases = find_viewed_cases(built)
    means = mean_dice_by_case(read_scores(built / "metrics.json").rows)
    assert [case.case_id for case in cases] == sorted(means, key=lambda name: means[name])
    assert [case.mean_dice for case in cases] == pytest.approx(sorted(means.values()))
    for case in cases:
        assert tuple(case.images) == MODALITIES and list(case.labels) == ["reference", "prediction"]
        assert case.prediction.path.parent == built / "segmentations" and not case.is_predicted


def test_the_images_of_an_output_folder_are_those_that_it_records(out, built):
    cases = find_viewed_cases(out)
    assert [case.mean_dice for case in cases] == pytest.approx([0.4, 0.9])
    for case in cases:
        assert case.is_predicted
        assert case.images["flair"].parent == built.parent / "data" / case.case_id
        assert case.reference.path.parent == case.images["flair"].parent


def test_images_that_have_moved_are_found_in_the_given_folder(out, built, tmp_path):
    record = out / "predictions.jsonl"
    record.write_text(record.read_text().replace(str(built.parent), str(tmp_path / "gone")))
    assert [dict(case.images) for case in find_viewed_cases(out)] == [{}, {}]
    moved = shutil.copytree(built.parent / "data", tmp_path / "moved")
    assert all(case.images["t1"].is_relative_to(moved) for case in find_viewed_cases(out, [moved]))


def test_a_folder_of_cases_is_shown_with_the_references(built):
    cases = find_viewed_cases(built.parent / "data")
    assert len(cases) == 4 and [list(case.labels) for case in cases] == [["reference"]] * 4
    assert all(case.mean_dice is None for case in cases)


def test_a_changed_json_of_a_case_gives_no_dice(out):
    for text in ("{", "[]", json.dumps({"regions": {"WT": {}}})):
        for path in out.glob("*.json"):
            path.write_text(text)
        assert [case.dice for case in find_viewed_cases(out)] == [{}, {}]


def test_folders_without_anything_to_view_are_refused(built, tmp_path):
    with pytest.raises(DataError) as caught:
        find_viewed_cases(tmp_path)
    assert caught.value.subject == str(tmp_path)
    with pytest.raises(NotFoundError):
        find_viewed_cases(tmp_path / "none")
    run = shutil.copytree(built, tmp_path / "run", ignore=shutil.ignore_patterns("segmentations"))
    with pytest.raises(DataError) as caught:
        find_viewed_cases(run)
    assert caught.value.subject == str(run) and "evaluate" in caught.value.problem
    (run / "metrics.json").unlink()
    with pytest.raises(DataError) as caught:
        find_viewed_cases(run)
    assert caught.value.subject == str(run / "metrics.json")


def test_the_label_convention_applies_where_names_state_none(built, tmp_path):
    shutil.copy(next((built / "segmentations").glob("*.nii.gz")), tmp_path / "patient.nii.gz")
    (case,) = find_viewed_cases(tmp_path)
    assert (case.prediction.convention, case.prediction.assumed) == ("brats2020", True)
    (case,) = find_viewed_cases(tmp_path, label_convention="brats2023")
    assert case.prediction.convention == "brats2023"
    assert find_viewed_cases(built, label_convention="brats2023")[0].reference.convention == "brats2020"
    with pytest.raises(UsageError):
        find_viewed_cases(tmp_path, label_convention="unknown")


def test_500_cases_are_listed_within_two_seconds(built, tmp_path):
    segmentation = next((built / "segmentations").glob("*.nii.gz"))
    for number in range(500):
        name = f"BraTS20_Training_{number:03d}"
        (folder := tmp_path / "data" / name).mkdir(parents=True)
        for modality in MODALITIES:
            (folder / f"{name}_{modality}.nii.gz").touch()  # no image is opened
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / f"{name}.nii.gz").symlink_to(segmentation)
    start = time.process_time()
    assert len(find_viewed_cases(tmp_path / "out", [tmp_path / "data"])) == 500
    assert time.process_time() - start < 2
