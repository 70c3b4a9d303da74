"""Reading the folder of a run, intact or damaged."""

from __future__ import annotations

import json
import shutil

import pytest

from brats3d.errors import DataError, NotFoundError
from brats3d.report.run_results import read_run


def test_a_run_is_read_with_its_cases_ranked(built):
    run = read_run(built)
    assert run.epoch == 7 and run.settings["epochs"] == 50 and run.remarks == ()
    assert list(run.by_case) == [f"BraTS20_Training_{k:03d}" for k in (1, 2, 3, 4)]
    assert (
        set(run.ranked[:2]) == {f"BraTS20_Training_{k:03d}" for k in (3, 4)}
        and run.ranked[-1] == "BraTS20_Training_001"
    )
    assert run.curves["train_loss"][0] == (1, 1.0)


def test_scores_alone_are_enough(run_dir):
    for folder in ("tensorboard", "checkpoints"):
        shutil.rmtree(run_dir / folder)
    (run_dir / "settings.json").unlink()
    run = read_run(run_dir)
    assert len(run.by_case) == 4 and run.modalities == ("t1", "t1ce", "t2", "flair")
    assert ["settings.json" in run.remarks[0], "TensorBoard" in run.remarks[1], len(run.remarks)] == [True, True, 2]


def test_a_damaged_card_is_remarked(run_dir):
    (run_dir / "checkpoints" / "best.json").write_text("{")
    assert "best.json" in read_run(run_dir).remarks[0]


@pytest.mark.parametrize("content", ["{", "{}"])
def test_damaged_results_of_chosen_post_processing_are_remarked(run_dir, content):
    (run_dir / "postprocessing.json").write_text(content)
    run = read_run(run_dir)
    assert "postprocessing.json" in run.remarks[0] and run.postprocessing is None


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        read_run(tmp_path / "gone")
    assert caught.value.subject == "run_dir"
    with pytest.raises(DataError) as caught:
        read_run(tmp_path)
    assert caught.value.subject == str(tmp_path / "metrics.json") and "brats3d evaluate" in caught.value.advice


@pytest.mark.parametrize("name", ["metrics.json", "settings.json"])
@pytest.mark.parametrize("content", ['{"rows": [', "[]"])
def test_a_damaged_file_is_refused(run_dir, name, content):
    (run_dir / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_run(run_dir)
    assert caught.value.subject == str(run_dir / name)


def test_unknown_sequences_are_refused(run_dir, write_settings):
    write_settings(run_dir, modalities=["t9"])
    with pytest.raises(DataError) as caught:
        read_run(run_dir)
    assert caught.value.subject == str(run_dir / "settings.json") and "t9" in caught.value.problem


def test_impossible_scores_are_refused(run_dir):
    content = json.loads((run_dir / "metrics.json").read_text())
    del content["rows"][1]["dice"]
    (run_dir / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_run(run_dir)
    assert (caught.value.subject, caught.value.problem) == (str(run_dir / "metrics.json"), "row 2: dice")
