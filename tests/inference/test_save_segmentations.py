"""Segmentations on disk: in the case's own space, whatever that is."""

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

from brats3d.files.nifti_writing import write_segmentation
from brats3d.inference.save_segmentations import SaveSegmentations
from brats3d.labels import MODALITIES

SHAPE = (5, 4, 3)
AFFINES = {
    "RAS": np.array([[1.0, 0, 0, -3], [0, 2, 0, 4], [0, 0, 3, 5], [0, 0, 0, 1]]),
    "LPS": np.array([[-1.0, 0, 0, 3], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]),
    "SAR": np.array([[0, 0, 1.0, -9], [0, 1, 0, 8], [1, 0, 0, 7], [0, 0, 0, 1]]),
    "oblique": np.array([[0.8, -0.6, 0, 1], [0.6, 0.8, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]),
}


def write_input(path: Path, affine: np.ndarray, sform: int = 1, qform: int = 2, kind=nib.Nifti1Image) -> Path:
    """A scan of int16 whose header scales its values."""
    image = kind(np.arange(60, dtype=np.int16).reshape(SHAPE), affine)
    image.header.set_slope_inter(0.5, 100)
    image.header["cal_max"] = 130
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


@pytest.fixture
def label() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 4], SHAPE).astype(np.int64)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("codes", [(1, 2), (1, 0), (0, 1), (4, 4)], ids=str)
def test_the_geometry_is_that_of_the_input_and_the_values_are_plain_uint8(tmp_path, label, affine, codes):
    like = write_input(tmp_path / "in.nii.gz", affine, *codes)
    assert nib.load(like).dataobj.slope == 0.5  # what must not be taken over
    out = nib.load(write_segmentation(tmp_path / "out" / "a.nii.gz", label, like))
    source = nib.load(like)
    assert out.get_data_dtype() == np.uint8 and (out.dataobj.slope, out.dataobj.inter) == (1, 0)
    assert np.array_equal(np.asanyarray(out.dataobj), label)
    assert np.array_equal(out.affine, source.affine)
    for name in ("get_sform", "get_qform"):
        (a, code_a), (b, code_b) = (getattr(image, name)(coded=True) for image in (out, source))
        assert code_a == code_b and (a is b is None or np.array_equal(a, b))
    assert out.header.get_zooms() == source.header.get_zooms()
    assert out.header.get_xyzt_units()[0] == "mm"
    assert (out.header["cal_min"], out.header["cal_max"]) == (0, 0)


@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_inputs_of_either_suffix_and_nifti_version_will_do(tmp_path, label, name, kind):
    like = write_input(tmp_path / name, AFFINES["LPS"], kind=kind)
    out = nib.load(write_segmentation(tmp_path / "a.nii.gz", label, like))
    assert np.array_equal(out.affine, AFFINES["LPS"])
    assert np.array_equal(np.asanyarray(out.dataobj), label)


def test_another_shape_is_refused_and_nothing_is_written(tmp_path, label):
    like = write_input(tmp_path / "in.nii.gz", AFFINES["RAS"])
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: expected the shape of {like}, \(5, 4, 3\), got \(4, 5, 3\)"):
        write_segmentation(tmp_path / "a.nii.gz", label.transpose(1, 0, 2), like)
    assert not (tmp_path / "a.nii.gz").exists()


def test_equal_input_gives_equal_bytes(tmp_path, label, monkeypatch):
    like = write_input(tmp_path / "in.nii.gz", AFFINES["RAS"])
    first = write_segmentation(tmp_path / "a.nii.gz", label, like).read_bytes()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert write_segmentation(tmp_path / "b.nii.gz", label, like).read_bytes() == first


# --- on an engine


@pytest.fixture
def segment(make_dataset, tmp_path):
    """Runs two cases of conftest's box through an engine whose network says box, with the handler under test."""

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
        return SimpleNamespace(out=out, ids=ids, pred=pred[0].numpy(), items=items)

    return run


def test_every_case_of_a_batch_is_written_under_its_name(segment, log):
    run = segment()
    assert sorted(path.name for path in run.out.iterdir()) == [f"{case_id}.nii.gz" for case_id in run.ids]
    for case_id, item in zip(run.ids, run.items, strict=True):
        image = nib.load(run.out / f"{case_id}.nii.gz")
        assert np.array_equal(np.asanyarray(image.dataobj), run.pred)
        assert np.array_equal(image.affine, nib.load(item["image"][0]).affine)
    assert "WT 0.4 ml  TC 0.0 ml  ET 0.0 ml" in log.text  # 360, 48 and 2 mm³
    assert "t1ce" not in log.text


def test_without_t1ce_the_enhancing_tumour_is_said_to_be_a_guess(segment, log):
    segment(modalities=("t1", "flair"))
    (warning,) = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert warning.startswith("no t1ce among the sequences t1, flair: enhancing tumour cannot be told")


def blue_pixels(path: Path) -> int:
    """How many are the whole tumour's sky blue, the legend below left out."""
    picture = imread(path)[..., :3]
    above = picture[: int(0.8 * len(picture))]
    return int((above[..., 2] - above[..., 0] > 0.15).sum())


@pytest.mark.parametrize("empty", [False, True])
def test_a_preview_has_colour_where_there_is_tumour(segment, empty):
    run = segment(preview=True, empty=empty)
    blue = [blue_pixels(run.out / f"{case_id}.png") for case_id in run.ids]
    assert blue == [0, 0] if empty else min(blue) > 500


def test_a_preview_shows_the_segmentation_that_lies_beside_the_case(segment):
    run = segment(preview=True, empty=True, label=True)
    assert min(blue_pixels(run.out / f"{case_id}.png") for case_id in run.ids) > 500


def test_a_preview_of_a_case_that_lacks_sequences_shows_those_that_it_has_and_its_reference(segment):
    whole = segment(preview=True, label=True, out="whole")
    shown = imread(whole.out / f"{whole.ids[0]}.png").shape[1]
    run = segment(preview=True, label=True, files=("t2", "flair"), modalities=MODALITIES, out="part")
    assert imread(run.out / f"{run.ids[0]}.png").shape[1] == shown  # two sequences, reference, prediction
    image = nib.load(run.out / f"{run.ids[0]}.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj), run.pred)


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_case(segment, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ValueError, match="output_dir: cannot write to"):
        segment()


@pytest.mark.parametrize("content", ["image", "labels", "text"])
def test_a_file_that_is_not_ours_is_never_replaced(segment, content):
    done = segment()
    path = done.out / f"{done.ids[0]}.nii.gz"
    ours = path.read_bytes()
    segment()  # ours is
    assert path.read_bytes() == ours
    if content == "text":
        path.write_text("notes")
    else:  # the Decathlon names images and labels so
        values = np.zeros((16, 16, 12, 4) if content == "image" else (16, 16, 12), np.uint8)
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"{path} is there, and brats3d has not written it; .* --output_dir"):
        segment()
    assert path.read_bytes() == before


def test_stats_are_written_where_asked_and_never_over_what_is_not_ours(segment):
    done = segment(stats=True)
    path = done.out / f"{done.ids[0]}.json"
    said = json.loads(path.read_text())
    assert said["case_id"] == done.ids[0] and said["sequences"] == ["t1ce", "flair"] and said["weights"] is None
    assert said["regions"]["WT"]["voxels"] == np.count_nonzero(done.pred)
    segment(stats=True)  # over our own
    path.write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="is there, and brats3d has not written it"):
        segment(stats=True)
    assert path.read_text() == '{"mine": 1}'
