"""Training, evaluation and prediction from end to end, in this process, on the smallest phantoms."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.inferers import SlidingWindowInferer

from brats3d import cli
from brats3d.cases.search import find_cases
from brats3d.errors import DataError
from brats3d.evaluation.folder_scores import score_folders
from brats3d.files.failures import cause_of
from brats3d.labels import MODALITIES, REGIONS_TO_READ
from brats3d.networks import BrainInferer
from brats3d.report.curves import read_curves
from brats3d.training.run_lock import LOCK_NAME

Workflow = Callable[..., ConfigWorkflow]
TINY_NETWORK = {"network_def#channels": [4, 8, 8, 8, 8], "device": "cpu"}
AXIS_CODES = ["".join(code) for axes in itertools.permutations(("LR", "AP", "SI")) for code in itertools.product(*axes)]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    content = torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)
    return content.get("network", content)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_training_writes_the_documented_files_and_nothing_else(trained: Path) -> None:
    files = {str(p.relative_to(trained)) for p in trained.rglob("*") if p.is_file()}
    events = {f for f in files if "events.out.tfevents" in f}
    assert files - events == {
        "settings.json", "metrics.json", "checkpoints/best.pt", "checkpoints/best.json", "checkpoints/last.pt",
        "checkpoints/last.json", "checkpoints/previous.pt", LOCK_NAME,
    }  # fmt: skip
    assert {Path(f).parent.name for f in events} == {"tensorboard"}
    assert len(events) == 1


def test_metrics_have_a_row_for_every_case_and_region(trained: Path, phantoms: Path) -> None:
    scores = json.loads((trained / "metrics.json").read_text())
    assert len(scores["rows"]) == 3  # one validation case
    assert [row["region"] for row in scores["rows"]] == list(REGIONS_TO_READ)
    assert {row["case_id"] for row in scores["rows"]} <= {case.case_id for case in find_cases(phantoms)}
    assert scores["mean_dice"] == pytest.approx(np.mean([row["dice"] for row in scores["rows"]]))
    assert all(0 <= row["dice"] <= 1 for row in scores["rows"])


def test_the_last_epoch_is_always_validated(trained: Path) -> None:
    curves = read_curves(trained)  # val_interval is 5, there were 2 epochs
    assert {tag: [step for step, _ in points] for tag, points in curves.items()} == {
        tag: [4] for tag in ("val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et")
    }  # 3 cases, batch 2: 2 iterations per epoch


def test_a_finished_run_is_reported_and_not_changed(
    trained: Path, phantoms: Path, workflow: Workflow, log: pytest.LogCaptureFixture
) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.name != LOCK_NAME}
    workflow("train", dataset_dir=phantoms, output_dir=trained).run()
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.name != LOCK_NAME} == before
    assert "is finished: epoch 2" in log.text


def test_other_settings_are_refused_with_their_names(trained: Path, phantoms: Path, workflow: Workflow) -> None:
    built = workflow("train", dataset_dir=phantoms, output_dir=trained, learning_rate=0.5, num_workers=1)
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert cause_of(caught.value).problems == ("learning_rate was 0.001, is 0.5",)


def test_an_interrupted_training_resumes_to_the_same_weights(
    phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = {"dataset_dir": phantoms, "epochs": 4, "val_interval": 1}
    workflow("train", output_dir=whole, **options).run()

    stopped = workflow("train", output_dir=broken, **options)

    def stop(engine) -> None:
        if engine.state.epoch == 3:
            raise KeyboardInterrupt

    stopped.trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with contextlib.suppress(KeyboardInterrupt, RuntimeError):
        stopped.run()
    assert torch.load(broken / "checkpoints" / "last.pt", weights_only=True)["epoch"] == 2

    workflow("train", output_dir=broken, **options).run()
    assert "resuming" in log.text
    assert_same(weights(whole), weights(broken))
    assert_same(weights(whole, "best"), weights(broken, "best"))
    assert json.loads((whole / "metrics.json").read_text()) == json.loads((broken / "metrics.json").read_text())
    assert read_curves(whole) == read_curves(broken)  # each point appears once, although some were written twice


def test_workers_do_not_change_the_weights(phantoms: Path, workflow: Workflow, tmp_path: Path, trained: Path) -> None:
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run", num_workers=2, cache=0).run()
    assert_same(weights(tmp_path / "run"), weights(trained))


def test_evaluation_scores_the_best_weights(
    trained: Path, phantoms: Path, workflow: Workflow, log: pytest.LogCaptureFixture
) -> None:
    before = json.loads((trained / "metrics.json").read_text())
    workflow("evaluate", dataset_dir=phantoms, output_dir=trained, postprocess=False).run()
    after = json.loads((trained / "metrics.json").read_text())
    shared = [{key: row[key] for key in old} for row, old in zip(after["rows"], before["rows"], strict=True)]
    assert shared == before["rows"]
    assert all({"hd95_mm", "lesion_dice"} <= row.keys() for row in after["rows"])
    assert "where present" in log.text and "lesion-wise" in log.text


def test_segmentations_of_an_evaluation_have_the_same_scores(trained: Path, phantoms: Path, workflow: Workflow) -> None:
    workflow("evaluate", dataset_dir=phantoms, output_dir=trained).run()
    rows = json.loads((trained / "metrics.json").read_text())["rows"]
    of_files = score_folders(trained / "segmentations", phantoms, progress=False)
    assert {row["case_id"] for row in rows} == {row.case_id for row in of_files.rows}
    assert len(of_files.missing) > 0  # the training cases
    for ours, theirs in zip(of_files.rows, rows, strict=True):
        assert ours.to_json() == pytest.approx(theirs)


def test_evaluation_refuses_training_cases(trained: Path, phantoms: Path, workflow: Workflow) -> None:
    built = workflow("evaluate", dataset_dir=phantoms, output_dir=trained, fold=1)
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert isinstance(cause_of(caught.value), DataError) and "trained on 1" in cause_of(caught.value).problem


def test_a_run_resumes_after_its_data_moved_but_not_with_other_cases(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    moved = shutil.copytree(phantoms, tmp_path / "moved")
    workflow("train", dataset_dir=moved, output_dir=trained).run()
    assert "is finished" in log.text
    shutil.rmtree(next(path for path in sorted(moved.iterdir()) if path.is_dir()))
    with pytest.raises(RuntimeError) as caught:
        workflow("train", dataset_dir=moved, output_dir=trained).run()
    assert any("_cases: " in problem for problem in cause_of(caught.value).problems)


def test_datalist_items_of_other_tools_need_no_case_id(
    phantoms: Path, workflow: Workflow, tmp_path: Path, trained: Path
) -> None:
    case = find_cases(phantoms)[1]
    best = trained / "checkpoints" / "best.pt"
    built = workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", checkpoint=best)
    built.dataset_data = [{"image": [str(path) for path in case.images.values()]}]
    built.initialize()
    built.run()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{case.case_id}.nii.gz", "predictions.jsonl"}


def test_training_and_predicting_with_three_sequences_needs_one_knob(
    phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    three = ["t1", "t2", "flair"]
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run", modalities=three, epochs=1).run()
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    assert json.loads(best.with_suffix(".json").read_text())["modalities"] == three
    workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", modalities=three, checkpoint=best).run()
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4
    assert "without t1ce, enhancing tumour" in log.text

    four = workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "other", checkpoint=best)
    with pytest.raises(RuntimeError) as caught:
        four.run()
    assert "has modalities ['t1', 't2', 'flair']" in str(caught.value.__cause__)
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_of_another_network_is_refused(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    best = trained / "checkpoints" / "best.pt"
    other = {"network_def#channels": [4, 8, 8, 8, 16]}
    built = workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", checkpoint=best, **other)
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert "network_def {'channels': [4, 8, 8, 8, 8]}" in str(caught.value.__cause__)
    assert not (tmp_path / "out").exists()


def test_segmentations_have_the_geometry_of_the_input(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    best = trained / "checkpoints" / "best.pt"
    built = workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", checkpoint=best, preview=True)
    built.run()
    for case in find_cases(phantoms):
        image, seg = nib.load(case.images["t1"]), nib.load(tmp_path / "out" / f"{case.case_id}.nii.gz")
        assert seg.shape == image.shape
        assert seg.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(seg.affine, image.affine)
        assert set(np.unique(np.asanyarray(seg.dataobj))) <= {0, 1, 2, 4}
        assert (tmp_path / "out" / f"{case.case_id}.png").read_bytes().startswith(b"\x89PNG")


def predict_as(codes: str, phantoms: Path, best: Path, workflow: Workflow, folder: Path) -> np.ndarray:
    """Store a case in another orientation, segment it, and reorient the prediction to LPS."""
    case = find_cases(phantoms)[0]
    for modality, path in case.images.items():
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(codes))
        )
        stored = folder / codes / case.case_id / f"{case.case_id}_{modality}.nii.gz"
        stored.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image.as_reoriented(turn), stored)
    out = folder / f"out_{codes}"
    workflow("predict", dataset_dir=folder / codes, output_dir=out, checkpoint=best).run()
    seg = nib.load(out / f"{case.case_id}.nii.gz")
    assert nib.aff2axcodes(seg.affine) == tuple(codes)
    back = nib.orientations.ornt_transform(nib.io_orientation(seg.affine), nib.orientations.axcodes2ornt("LPS"))
    returned = seg.as_reoriented(back)
    np.testing.assert_allclose(returned.affine, nib.load(case.images["t1"]).affine)
    return np.asanyarray(returned.dataobj)


@pytest.mark.parametrize(
    "codes",
    ["RAS", "PSL", *(pytest.param(c, marks=pytest.mark.slow) for c in AXIS_CODES if c not in ("RAS", "PSL", "LPS"))],
)
def test_the_stored_orientation_does_not_change_the_prediction(
    codes: str, trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    best = trained / "checkpoints" / "best.pt"
    expected = predict_as("LPS", phantoms, best, workflow, tmp_path)
    assert len(np.unique(expected)) > 1, "an empty answer would be the same in every orientation"
    np.testing.assert_array_equal(predict_as(codes, phantoms, best, workflow, tmp_path), expected)


def test_all_48_orientations_are_listed() -> None:
    assert len(set(AXIS_CODES)) == 48


@pytest.mark.parametrize("window", ["brain", [32, 32, 32]], ids=str)
def test_a_segmentation_has_the_size_of_its_image(
    window: str | list[int], trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    """The shapes are larger than a window, smaller, and a single slice; the last case has thick slices."""
    case = find_cases(phantoms)[0]
    for shape, thickness in (
        ((48, 48, 40), 1),
        ((41, 45, 33), 1),
        ((30, 20, 17), 1),
        ((48, 48, 1), 1),
        ((48, 45, 8), 5),
    ):
        name = "x".join(map(str, shape))
        for modality, path in case.images.items():
            image = nib.load(path)
            middle = tuple(slice((n - size) // 2, (n + size) // 2) for n, size in zip(image.shape, shape, strict=True))
            cut = nib.Nifti1Image(np.asanyarray(image.dataobj)[middle], image.affine @ np.diag([1, 1, thickness, 1]))
            stored = tmp_path / "data" / name / f"{name}_{modality}.nii.gz"
            stored.parent.mkdir(parents=True, exist_ok=True)
            nib.save(cut, stored)
    best = trained / "checkpoints" / "best.pt"
    out = tmp_path / "out"
    workflow(
        "predict", dataset_dir=tmp_path / "data", output_dir=out, checkpoint=best, window=window, overlap=0.5
    ).run()
    for file in tmp_path.glob("data/*/*_t1.nii.gz"):
        seg, image = nib.load(out / f"{file.parent.name}.nii.gz"), nib.load(file)
        assert seg.shape == image.shape and seg.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(seg.affine, image.affine)


def test_predict_and_evaluate_use_windows_of_the_size_of_the_training_patches(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    options = {"dataset_dir": phantoms, "output_dir": tmp_path, "checkpoint": trained / "checkpoints" / "best.pt"}
    predict, evaluate = workflow("predict", **options), workflow("evaluate", patch_size=[96, 96, 96], **options)
    for inferer in (predict.evaluator.inferer, evaluate.evaluator.inferer):
        assert isinstance(inferer, BrainInferer)
        assert (inferer.window, inferer.roi_size((50, 50, 50))) == ("brain", (32, 32, 32))
    assert type(predict.inferer) is SlidingWindowInferer and predict.inferer.roi_size == [128, 128, 128]


def test_evaluate_and_predict_find_the_same_labels(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    best = trained / "checkpoints" / "best.pt"
    workflow("evaluate", dataset_dir=phantoms, output_dir=tmp_path / "run", checkpoint=best).run()
    workflow("predict", dataset_dir=phantoms, output_dir=tmp_path / "out", checkpoint=best).run()
    (evaluated,) = (tmp_path / "run" / "segmentations").glob("*.nii.gz")
    labels = [np.asanyarray(nib.load(path).dataobj) for path in (evaluated, tmp_path / "out" / evaluated.name)]
    np.testing.assert_array_equal(*labels)


def test_brats3d_train_evaluate_predict(phantoms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = ["--network_def#channels", "[4,8,8,8,8]", "--window", "[48,48,48]", "--device", "cpu"]
    training = [*tiny, "--patch_size", "[32,32,32]", "--epochs", "1"]
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    assert cli.main(["train", str(phantoms), "--output", run, *training]) == 0
    assert cli.main(["evaluate", str(phantoms), "--output", run, *training]) == 0
    cases = [str(phantoms / name) for name in ("BraTS20_Training_001", "BraTS20_Training_003")]
    weights = f"{run}/checkpoints/best.pt"
    assert cli.main(["predict", *cases, "--output", out, "--stats", *tiny, "--checkpoint", weights]) == 0
    written = [f"{Path(case).name}.{suffix}" for case in cases for suffix in ("json", "nii.gz")]
    assert sorted(p.name for p in Path(out).iterdir()) == [*written, "predictions.jsonl"]
    stats = json.loads((Path(out) / written[0]).read_text())
    assert stats["sequences"] == ["t1", "t1ce", "t2", "flair"] and stats["weights"]["file"] == "best.pt"
    label = np.asanyarray(nib.load(Path(out) / written[1]).dataobj)
    assert stats["regions"]["WT"]["voxels"] == np.count_nonzero(label)
    printed = capfd.readouterr().out
    assert printed.count("python -m monai.bundle run") == 3
    assert "where present" in printed


def test_tensorboard_serves_the_dice_curve(trained: Path) -> None:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(trained), "--port", "0", "--load_fast=false"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(word for line in server.stderr for word in line.split() if word.startswith("http://"))
            query = urllib.parse.urlencode({"run": "tensorboard", "tag": "val_dice_wt"})
            points: list = []
            deadline = time.monotonic() + 60
            while not points and time.monotonic() < deadline:
                with contextlib.suppress(urllib.error.HTTPError):  # 404 until the events are read
                    answer = urllib.request.urlopen(f"{url}data/plugin/scalars/scalars?{query}", timeout=20)
                    points = json.load(answer)
                time.sleep(0.2)
        finally:
            server.terminate()
    served = [(step, value) for _, step, value in points]
    assert served == [(step, pytest.approx(value, abs=1e-6)) for step, value in read_curves(trained)["val_dice_wt"]]
    assert len(served) == 1


def test_channels_are_assigned_to_modalities_by_name(phantoms: Path, workflow: Workflow, tmp_path: Path) -> None:
    built = workflow("train", dataset_dir=phantoms, output_dir=tmp_path, modalities=["flair", "t1", "t2", "t1ce"])
    for path, modality in zip(built.train_dataset_data[0]["image"], MODALITIES, strict=True):
        assert path.endswith(f"_{modality}.nii.gz")


def test_more_processes_than_training_cases_are_refused(workflow, phantoms, tmp_path, monkeypatch):
    built = workflow("train", dataset_dir=phantoms, output_dir=tmp_path / "run")
    monkeypatch.setattr("brats3d.training.run.idist.get_world_size", lambda: 4)
    with pytest.raises(RuntimeError) as raised:
        built.run()
    assert (cause_of(raised.value).subject, cause_of(raised.value).found) == ("nproc_per_node", 4)
    assert not (tmp_path / "run" / "checkpoints").exists()
