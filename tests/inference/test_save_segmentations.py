"""SaveSegmentations on an engine: segmentations, previews, stats, and files that must not be replaced."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from torch.utils.data import DataLoader

from brats3d.cases import find_cases
from brats3d.errors import UsageError
from brats3d.files import WrittenFiles, write_whole
from brats3d.inference.save_segmentations import SaveSegmentations
from brats3d.labels import MODALITIES, REGIONS
from brats3d.quality import FEATURES

FILES = (".nii.gz", ".png", ".json")
UNCALIBRATED = {region: {"temperature": 1, "shift": 0} for region in REGIONS}


@pytest.fixture
def segment(make_dataset, tmp_path):
    """``segment(...)``: run the handler on two cases of conftest's box, whose prediction is always the same box."""

    def run(
        modalities=("t1ce", "flair"), empty: bool = False, label: bool = False, files=None, out="out", **options
    ) -> SimpleNamespace:
        files = files or modalities
        root, out = make_dataset(2, root=tmp_path / f"data_{out}", modalities=files, label=label), tmp_path / out
        ids = [f"BraTS20_Training_{i:03d}" for i in (1, 2)]
        items = [{"case_id": i, "image": [str(root / i / f"{i}_{m}.nii.gz") for m in files]} for i in ids]
        pred = torch.zeros(1, 16, 16, 12, dtype=torch.uint8)
        if not empty:
            pred[0, 2:12, 4:10, 3:9] = 2
            pred[0, 4:8, 5:8, 4:8] = 1
            pred[0, 5:7, 6, 5] = 4
        handler = SaveSegmentations(out, "brats2020", modalities, items, **options)
        data = [{"case_id": i, "image": torch.zeros(1, 16, 16, 12), "pred": MetaTensor(pred.float())} for i in ids]

        def step(engine, batch):
            engine.state.output = {"pred": batch["pred"]}
            engine.fire_event(IterationEvents.MODEL_COMPLETED)
            return engine.state.output

        loader = DataLoader(data, batch_size=2)
        SupervisedEvaluator(
            torch.device("cpu"), loader, torch.nn.Identity(), iteration_update=step, val_handlers=[handler]
        ).run()
        return SimpleNamespace(out=out, ids=ids, pred=pred[0].numpy(), items=items, handler=handler)

    return run


def test_every_case_of_a_batch_is_written_under_its_name(segment, log):
    run = segment()
    assert sorted(path.name for path in run.out.glob("*.nii.gz")) == [f"{case_id}.nii.gz" for case_id in run.ids]
    for case_id, item in zip(run.ids, run.items, strict=True):
        image = nib.load(run.out / f"{case_id}.nii.gz")
        assert np.array_equal(np.asanyarray(image.dataobj), run.pred)
        assert np.array_equal(image.affine, nib.load(item["image"][0]).affine)
    assert "WT 0.4 ml  TC 0.0 ml  ET 0.0 ml" in log.text  # 360, 48 and 2 mm³
    assert "t1ce" not in log.text


def test_a_warning_is_logged_without_t1ce(segment, log):
    segment(modalities=("t1", "flair"))
    (warning,) = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert warning.startswith("the sequences are t1, flair: without t1ce")


def blue_pixels(path: Path) -> int:
    """Count the pixels in the sky blue of the whole tumour, without the legend below."""
    picture = imread(path)[..., :3]
    above = picture[: int(0.8 * len(picture))]
    return int((above[..., 2] - above[..., 0] > 0.15).sum())


@pytest.mark.parametrize("empty", [False, True])
def test_a_preview_shows_tumour_in_colour(segment, empty):
    run = segment(preview=True, empty=empty)
    blue = [blue_pixels(run.out / f"{case_id}.png") for case_id in run.ids]
    assert blue == [0, 0] if empty else min(blue) > 500


def test_a_preview_shows_the_segmentation_in_the_folder_of_the_case(segment):
    run = segment(preview=True, empty=True, label=True)
    assert min(blue_pixels(run.out / f"{case_id}.png") for case_id in run.ids) > 500


def test_a_preview_of_a_case_without_some_sequences_shows_the_others_and_the_reference(segment):
    whole = segment(preview=True, label=True, out="whole")
    shown = imread(whole.out / f"{whole.ids[0]}.png").shape[1]
    run = segment(preview=True, label=True, files=("t2", "flair"), modalities=MODALITIES, out="part")
    assert imread(run.out / f"{run.ids[0]}.png").shape[1] == shown  # two sequences, reference, prediction
    image = nib.load(run.out / f"{run.ids[0]}.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj), run.pred)


def test_a_preview_shows_a_reference_of_another_byte_order(segment):
    native = segment(preview=True, empty=True, label=True)
    for path in (native.out.parent / "data_out").rglob("*_seg.nii.gz"):
        image = nib.load(path)
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(">i2")
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).astype(">i2"), image.affine, header), path)
    picture = native.out / f"{native.ids[0]}.png"
    native.handler._previews.draw(picture, native.ids[0], np.zeros((16, 16, 12), np.uint8), write_whole)
    assert blue_pixels(picture) > 500


def test_a_case_without_a_preview_is_segmented_nevertheless(segment, monkeypatch, log):
    monkeypatch.setattr("brats3d.files.save_preview", lambda *args, **kwargs: 1 / 0)
    run = segment(preview=True)
    assert run.handler.saved == set(run.ids)
    assert all((run.out / f"{case_id}.nii.gz").exists() for case_id in run.ids)
    assert [record.levelname for record in log.records if "no preview" in record.getMessage()] == ["WARNING"] * 2


def test_a_preview_searches_a_folder_with_many_cases_only_once(segment, monkeypatch, tmp_path):
    first = segment(preview=True, empty=True, label=True, out="first")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "data_first").rglob("*.nii.gz"):
        path.rename(flat / path.name)
    for item in first.items:
        item["image"] = [str(flat / Path(path).name) for path in item["image"]]
    searched = []

    def find(folder, *arguments, **options):
        searched.append(folder)
        return find_cases(folder, *arguments, **options)

    monkeypatch.setattr("brats3d.inference.previews.find_cases", find)
    handler = SaveSegmentations(tmp_path / "second", "brats2020", ("t1ce", "flair"), first.items, preview=True)
    handler.prepare()
    for case_id in first.ids:
        handler._save(case_id, np.zeros((16, 16, 12), np.uint8))
    assert searched == [flat]
    assert min(blue_pixels(tmp_path / "second" / f"{case_id}.png") for case_id in first.ids) > 500


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_case(segment, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError) as caught:
        segment()
    assert caught.value.subject == "output_dir"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".jsonl"}


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("record", [True, False], ids=["changed", "record lost"])
def test_a_case_with_a_changed_file_is_kept_and_the_others_are_segmented(segment, suffix, record, log):
    options = {"preview": True, "stats": True}
    result = segment(**options)
    first, second = result.ids
    if not record:
        (result.out / "predictions.jsonl").unlink()
        for each in FILES:
            (result.out / f"{second}{each}").unlink()
    path = result.out / f"{first}{suffix}"
    if suffix == ".nii.gz":
        nib.save(nib.Nifti1Image(np.ones((16, 16, 12), np.uint8), np.eye(4)), path)
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    before = contents(result.out)
    again = segment(**options, empty=True)
    assert again.handler.kept == {first} and again.handler.saved == {second}
    after = contents(result.out)
    for each in FILES:
        assert after[first + each] == before[first + each]
        assert after[second + each] != before.get(second + each)
    assert [first in r.getMessage() for r in log.records if r.levelname == "WARNING"] == [True]


@pytest.mark.parametrize("suffix", [".png", ".json"])
def test_a_foreign_file_that_is_no_segmentation_is_refused_if_the_case_has_none(segment, suffix, tmp_path):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / f"BraTS20_Training_001{suffix}"
    path.write_text("notes")
    with pytest.raises(UsageError) as caught:
        segment(preview=True, stats=True)
    assert caught.value.subject == "output_dir" and str(path) in caught.value.problem
    assert path.read_text() == "notes"


def test_a_folder_of_segmentations_by_others_is_refused(segment):
    result = segment()
    (result.out / "predictions.jsonl").unlink()
    before = contents(result.out)
    with pytest.raises(UsageError) as caught:
        segment(empty=True)
    assert caught.value.subject == "output_dir" and contents(result.out) == before


def test_a_correction_saved_while_the_run_goes_on_is_kept(segment, monkeypatch):
    result = segment()
    path = result.out / f"{result.ids[0]}.nii.gz"
    prepare = SaveSegmentations.prepare

    def correct_after_the_check(self, *arguments):
        skipped = prepare(self, *arguments)
        path.write_bytes(b"corrected")
        return skipped

    monkeypatch.setattr(SaveSegmentations, "prepare", correct_after_the_check)
    again = segment(empty=True, stats=True)
    assert path.read_bytes() == b"corrected"
    assert again.handler.kept == {result.ids[0]} and again.handler.saved == {result.ids[1]}
    assert not (result.out / f"{result.ids[0]}.json").exists(), "it would describe another segmentation"


def test_the_segmentation_of_another_patient_written_by_a_run_at_the_same_time_is_kept(segment, tmp_path):
    ids = segment().ids
    out = tmp_path / "shared"
    path = out / f"{ids[0]}.nii.gz"
    prepare = SaveSegmentations.prepare

    def write_after_the_check(self, *arguments):
        skipped = prepare(self, *arguments)
        source = {"folder": "/other", "images": {"t1": "another"}}
        WrittenFiles(self.output_dir).write(path, lambda file: file.write(b"other"), source=source)
        return skipped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError):
        patch.setattr(SaveSegmentations, "prepare", write_after_the_check)
        segment(out="shared")
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize("link", ["correction", "not mounted"])
def test_a_link_to_a_correction_is_kept_and_a_broken_link_is_refused(segment, link, tmp_path):
    result = segment()
    path = result.out / f"{result.ids[0]}.nii.gz"
    path.unlink()
    path.symlink_to(tmp_path / "corrected.nii.gz")
    if link == "correction":
        nib.save(nib.Nifti1Image(np.ones((16, 16, 12), np.uint8), np.eye(4)), tmp_path / "corrected.nii.gz")
        assert segment(empty=True).handler.kept == {result.ids[0]}
    else:
        with pytest.raises(UsageError):
            segment(empty=True)
    assert path.is_symlink()


def test_stats_are_written_on_request_and_replaced_by_a_later_run(segment):
    result = segment(stats=True)
    path = result.out / f"{result.ids[0]}.json"
    content = json.loads(path.read_text())
    assert content["case_id"] == result.ids[0] and content["sequences"] == ["t1ce", "flair"]
    assert content["weights"] is None
    assert content["regions"]["WT"]["voxels"] == np.count_nonzero(result.pred)
    segment(stats=True, modalities=("t1", "flair"))
    assert json.loads(path.read_text())["sequences"] == ["t1", "flair"]


def test_a_case_is_segmented_again_for_its_stats_once_the_quality_model_was_fitted_again(segment, tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")

    def done(stats: bool, cases: int) -> int:
        quality = {"cases": cases, "features": list(FEATURES), "calibration": UNCALIBRATED, "dice": {}, "volume": {}}
        card = {"modalities": ["t1ce", "flair"], "regions": list(REGIONS), "network_def": {}, "quality": quality}
        weights.with_suffix(".json").write_text(json.dumps(card))
        out = f"out_{stats}"
        if not (tmp_path / out).exists():
            segment(stats=stats, checkpoint=weights, out=out)
        root = tmp_path / f"data_{out}"
        ids = [f"BraTS20_Training_{i:03d}" for i in (1, 2)]
        items = [{"case_id": i, "image": [str(root / i / f"{i}_{m}.nii.gz") for m in ("t1ce", "flair")]} for i in ids]
        handler = SaveSegmentations(
            tmp_path / out, "brats2020", ("t1ce", "flair"), items, stats=stats, checkpoint=weights
        )
        return len(handler.prepare(skip_done=True))

    assert [done(True, 20), done(True, 21), done(False, 20), done(False, 21)] == [2, 0, 2, 2]
