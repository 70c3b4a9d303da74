"""Raw scans in predict: found among prepared cases, prepared, and segmented in their own space."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from nibabel.affines import apply_affine

import brats3d
from brats3d.cases import load_cases, scan_cases
from brats3d.errors import DataError, UsageError
from brats3d.evaluation import read_probabilities
from brats3d.files import Failures, make_header, read_volume, scratch_folder, to_grid, write_nifti
from brats3d.inference import SaveSegmentations
from brats3d.labels import MODALITIES, get_convention
from brats3d.phantoms import make_raw_phantom, write_phantoms
from brats3d.scans import RawScans
from brats3d.scans.itk_images import Grid
from brats3d.scans.preparation import PreparedCase, PreparedSequence
from tests.scans.dicom_study import oblique_affine, write_study

CUBE = np.arange(6 * 5 * 4, dtype=np.uint16).reshape(6, 5, 4)


@pytest.fixture
def raw_scans(tmp_path, monkeypatch) -> RawScans:
    """Raw scans whose preparation only crops the volumes."""

    def prepare(case_id, scans) -> PreparedCase:
        class Condition:
            def describe(self) -> str:
                return "not at 1 mm"

        if case_id == "bad":
            raise DataError(case_id, "no brain found")
        grid = Grid((4, 4, 4), np.diag([1.5, 1.5, 1.5, 1]))
        values = np.ones(grid.shape, np.int16)
        return PreparedCase(Condition(), grid, {m: PreparedSequence(scan, values, values) for m, scan in scans.items()})

    monkeypatch.setattr("brats3d.scans.prepare_folder.prepare_case", prepare)
    return RawScans(tmp_path / "out", Failures(tmp_path / "out"))


@pytest.fixture
def dataset(tmp_path) -> Path:
    write_phantoms(tmp_path / "in", 2, size="small")
    return tmp_path / "in"


def load(raw_scans: RawScans, folder, **options) -> list[dict]:
    options = {"absent_sequences": True, "failures": raw_scans.failures, "shard": raw_scans.shard} | options
    return load_cases(folder, search=raw_scans.search, **options)


def test_cases_of_brats_are_found_as_without_raw_scans(raw_scans, dataset):
    assert load(raw_scans, dataset) == load_cases(dataset, absent_sequences=True)
    assert raw_scans.search(dataset) == scan_cases(dataset)
    assert not raw_scans.folder.exists()


def test_a_dicom_study_beside_cases_of_brats_is_prepared(raw_scans, dataset):
    write_study(dataset / "P07", dict.fromkeys(MODALITIES, (CUBE, oblique_affine())))
    items = load(raw_scans, dataset)
    assert [item["case_id"] for item in items] == ["BraTS20_Training_001", "BraTS20_Training_002", "P07"]
    folder = raw_scans.folder / "P07"
    assert items[-1]["image"] == [str(folder / f"P07_{modality}.nii.gz") for modality in MODALITIES]
    assert "P07" in raw_scans
    assert "BraTS20_Training_001" not in raw_scans


def test_a_case_with_one_unusual_name_is_prepared_with_all_its_sequences(raw_scans, tmp_path):
    (tmp_path / "in/P07").mkdir(parents=True)
    for name in ("T1", "T1 POST", "T2", "FLAIR"):
        write_nifti(tmp_path / f"in/P07/{name}.nii.gz", CUBE, oblique_affine())
    (item,) = load(raw_scans, tmp_path / "in", absent_sequences=False)
    assert len(item["image"]) == 4


def test_a_stray_image_above_cases_of_brats_is_ignored(raw_scans, dataset):
    write_nifti(dataset / "atlas_T1.nii.gz", CUBE, oblique_affine())
    assert [case.case_id for case in raw_scans.search(dataset).cases] == [
        "BraTS20_Training_001",
        "BraTS20_Training_002",
    ]


def test_shards_prepare_only_their_cases(raw_scans, dataset):
    for name in ("x", "y"):
        images = dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine()))
        write_study(dataset / name, images, StudyInstanceUID=f"1.2.{ord(name)}")
    raw_scans.shard = "2/2"
    assert [item["case_id"] for item in load(raw_scans, dataset)] == ["BraTS20_Training_002", "y"]
    assert [path.name for path in raw_scans.folder.iterdir()] == ["y"]


def test_a_case_that_cannot_be_prepared_is_a_failure_and_the_others_go_on(raw_scans, dataset):
    write_study(dataset / "bad", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    assert len(load(raw_scans, dataset)) == 2
    assert [(failure.case_id, failure.error) for failure in raw_scans.failures] == [("bad", "no brain found")]


def test_a_prepared_case_is_used_again_only_for_the_same_scans(raw_scans, tmp_path):
    write_study(tmp_path / "in" / "P07", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    load(raw_scans, tmp_path / "in")
    record = raw_scans.folder / "P07" / "preparation.json"
    written = record.stat().st_mtime_ns
    assert len(load(raw_scans, tmp_path / "in")) == 1
    assert record.stat().st_mtime_ns == written
    shutil.rmtree(tmp_path / "in")
    write_study(tmp_path / "in" / "P07", dict.fromkeys(("t1", "t1ce"), (CUBE + 7, oblique_affine())))
    assert load(raw_scans, tmp_path / "in") == []
    (failure,) = raw_scans.failures
    assert "not prepared from these scans" in failure.error


def test_sequences_that_the_weights_require_must_be_there(raw_scans, tmp_path):
    write_study(tmp_path / "in", {"t1": (CUBE, oblique_affine()), "flair": (CUBE, oblique_affine())})
    assert load(raw_scans, tmp_path / "in", absent_sequences=False) == []
    (failure,) = raw_scans.failures
    assert "t1ce, t2" in failure.error


def test_the_sequence_of_the_native_space_must_be_there(raw_scans, tmp_path):
    write_study(tmp_path / "in", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    raw_scans.native_space = "flair"
    assert load(raw_scans, tmp_path / "in") == []
    (failure,) = raw_scans.failures
    assert "flair" in failure.error
    with pytest.raises(UsageError, match="native_space"):
        RawScans("out", raw_scans.failures, native_space="t3")


def test_an_output_folder_among_the_scans_is_refused(raw_scans, tmp_path):
    write_study(tmp_path / "in", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    raw_scans.folder = tmp_path / "in" / "out" / "prepared"
    with pytest.raises(UsageError, match="output_dir"):
        load(raw_scans, tmp_path / "in")
    assert not raw_scans.folder.exists()


def test_without_pydicom_dicom_files_beside_cases_of_brats_are_ignored_with_a_warning(
    raw_scans, dataset, monkeypatch, caplog
):
    write_study(dataset / "P07", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with caplog.at_level("WARNING", "brats3d"):
        assert len(load(raw_scans, dataset)) == 2
    assert 'pip install "brats3d[scans]"' in caplog.text
    with pytest.raises(UsageError, match="brats3d\\[scans\\]"):
        load(raw_scans, dataset / "P07")


def test_without_highdicom_a_dicom_study_fails_before_it_is_prepared(raw_scans, tmp_path, monkeypatch):
    write_study(tmp_path / "in" / "P07", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    assert load(raw_scans, tmp_path / "in") == []
    (failure,) = raw_scans.failures
    assert 'pip install "brats3d[scans]"' in failure.error
    assert not list(raw_scans.folder.iterdir())


def test_a_subset_of_the_sequences_is_loaded_and_another_may_be_the_native_space(raw_scans, tmp_path):
    write_study(tmp_path / "P07", dict.fromkeys(MODALITIES, (CUBE, oblique_affine())))
    raw_scans.native_space = "t2"
    (item,) = load(raw_scans, tmp_path / "P07", modalities=("flair", "t1"))
    assert item["image"] == [str(raw_scans.folder / "P07" / f"P07_{name}.nii.gz") for name in ("t1", "flair")]
    native, _ = raw_scans.to_native("P07", np.ones((4, 4, 4), np.uint8), get_convention("brats2020"))
    assert native.shape == CUBE.shape


def test_all_sequences_of_a_raw_case_are_prepared_whichever_are_loaded(raw_scans, tmp_path):
    (tmp_path / "P07").mkdir()
    head = np.random.default_rng(0).integers(1, 500, (60, 60, 60)).astype(np.int16)
    for name in MODALITIES:
        write_nifti(tmp_path / "P07" / f"P07_{name}.nii.gz", head, np.diag([2, 2, 2, 1]))
    (item,) = load(raw_scans, tmp_path / "P07", modalities=("t2", "flair"))
    assert item["image"] == [str(raw_scans.folder / "P07" / f"P07_{name}.nii.gz") for name in ("t2", "flair")]
    assert len(load(raw_scans, tmp_path / "P07")[0]["image"]) == 4


def test_a_single_image_beside_cases_is_ignored_with_one_warning(raw_scans, dataset, caplog):
    (dataset / "odd").mkdir()
    write_nifti(dataset / "odd" / "hello_t1.nii.gz", CUBE.astype(np.int16), np.eye(4))
    with caplog.at_level("WARNING", "brats3d"):
        assert len(load(raw_scans, dataset)) == 2
    (message,) = [record.getMessage() for record in caplog.records]
    assert "hello_t1.nii.gz: ignored" in message
    assert not raw_scans.folder.exists()


def test_images_named_for_their_series_are_not_reported_as_ignored(raw_scans, dataset, caplog):
    (dataset / "P07").mkdir()
    for name in ("003_AX_T1", "005_AX_T1_POST"):
        write_nifti(dataset / "P07" / f"{name}.nii.gz", CUBE.astype(np.int16), oblique_affine())
    with caplog.at_level("WARNING", "brats3d"):
        assert len(load(raw_scans, dataset)) == 3
    assert "ignored" not in caplog.text


def test_a_study_with_the_name_of_another_case_fails_but_a_link_to_it_does_not(raw_scans, dataset, tmp_path):
    images = dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine()))
    write_study(tmp_path / "more" / "P07", images)
    (tmp_path / "link").symlink_to(tmp_path / "more")
    assert len(load(raw_scans, [dataset, tmp_path / "more", tmp_path / "link"])) == 3
    write_study(tmp_path / "others" / "P07", images)
    write_study(tmp_path / "others" / "BraTS20_Training_001", images, StudyInstanceUID="1.2.3")
    items = load(raw_scans, [dataset, tmp_path / "more", tmp_path / "others"])
    assert [item["case_id"] for item in items] == ["BraTS20_Training_002"]
    assert all("found in 2 folders" in failure.error for failure in raw_scans.failures)


def test_what_a_killed_run_left_behind_is_removed(raw_scans, tmp_path):
    write_study(tmp_path / "in" / "P07", dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine())))
    raw_scans.folder.mkdir(parents=True)
    with scratch_folder(raw_scans.folder / "P07") as hidden:
        load(raw_scans, tmp_path / "in")
        assert not hidden.exists()


def test_a_study_without_an_identifier_gets_all_but_the_dicom_seg(raw_scans, tmp_path):
    images = dict.fromkeys(("t1", "t1ce"), (CUBE, oblique_affine()))
    write_study(tmp_path / "in" / "P07", images, StudyInstanceUID=None)
    items = load(raw_scans, tmp_path / "in", modalities=("t1", "t1ce"))
    out, failures = tmp_path / "out", raw_scans.failures
    saver = SaveSegmentations(
        out, "brats2020", ("t1", "t1ce"), items, stats=True, failures=failures, raw_scans=raw_scans
    )
    saver.prepare()
    batch, output = [{"case_id": "P07"}], [{"pred": torch.ones(1, 4, 4, 4)}]
    saver(SimpleNamespace(state=SimpleNamespace(batch=batch, output=output)))
    (failure,) = failures
    assert "StudyInstanceUID" in failure.error
    assert saver.saved == set()
    assert {path.name for path in out.glob("P07*")} == {"P07.nii.gz", "P07.json"}
    assert (out / "brats_space" / "P07.nii.gz").exists()


def test_the_segmentation_gets_the_geometry_of_the_scan(raw_scans, tmp_path):
    (tmp_path / "in").mkdir()
    affine = oblique_affine()
    for name in ("003_AX_T1", "005_AX_T1_POST"):
        write_nifti(tmp_path / "in" / f"{name}.nii.gz", CUBE.astype(np.int16), affine)
    write_study(tmp_path / "P07", dict.fromkeys(("t1", "t1ce"), (CUBE, affine)))
    for item in load(raw_scans, [tmp_path / "in", tmp_path / "P07"]):
        label = np.full((4, 4, 4), 2, np.uint8)
        native, header = raw_scans.to_native(item["case_id"], label, get_convention("brats2020"))
        assert native.shape == header.shape == CUBE.shape
        assert np.allclose(header.affine, affine, atol=1e-4)
        assert len(raw_scans.dicom_files(item["case_id"])) == (4 if item["case_id"] == "P07" else 0)


@pytest.mark.slow
def test_a_dicom_study_of_a_phantom_is_segmented_in_native_space_and_as_dicom_seg(tmp_path):
    phantom = make_raw_phantom(3)
    files = write_study(tmp_path / "P07", phantom.images)
    (path,) = brats3d.predict(tmp_path / "P07", tmp_path / "out", stats=True, save_probabilities=True)

    values, affine = phantom.images["t1ce"]
    label = to_grid(read_volume(path), make_header(path, values.shape, affine, values.dtype))
    assert label is not None  # the order of the slices may differ
    to_brats = np.linalg.inv(phantom.prepared.affine) @ np.linalg.inv(phantom.motions["t1ce"]) @ affine
    index = np.rint(apply_affine(to_brats, np.argwhere(np.ones(label.shape)))).astype(int)
    inside = ((index >= 0) & (index < phantom.prepared.label.shape)).all(axis=1)
    expected = np.zeros(label.size, bool)
    expected[inside] = phantom.prepared.label[tuple(index[inside].T)] > 0
    expected = expected.reshape(label.shape)
    assert 2 * np.count_nonzero((label > 0) & expected) / (np.count_nonzero(label) + expected.sum()) >= 0.8
    stats = json.loads((tmp_path / "out" / "P07.json").read_text())
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    assert stats["regions"]["WT"]["volume_ml"] == pytest.approx(np.count_nonzero(label) * voxel_ml, rel=1e-3)
    in_brats_space = np.asanyarray(nib.load(tmp_path / "out" / "brats_space" / "P07.nii.gz").dataobj)
    probabilities = read_probabilities(tmp_path / "out" / "probabilities" / "P07.npz")
    assert probabilities.shape == (3, *in_brats_space.shape) == (3, 240, 240, 155)
    assert probabilities.max(0)[in_brats_space > 0].min() > 0.4

    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files["t1ce"]]
    planes = hd.seg.segread(tmp_path / "out" / "P07.seg.dcm").get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(planes.T, np.where(label == 4, 3, label))

    # A second run has nothing to do; a removed segmentation is made again from the prepared case.
    written = (tmp_path / "out" / "prepared" / "P07" / "preparation.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "out" / "brats_space")
    assert brats3d.predict(tmp_path / "P07", tmp_path / "out", stats=True, save_probabilities=True) == [path]
    assert (tmp_path / "out" / "brats_space" / "P07.nii.gz").exists()
    assert (tmp_path / "out" / "prepared" / "P07" / "preparation.json").stat().st_mtime_ns == written
