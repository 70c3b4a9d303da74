"""Malicious files are refused at once, in one line and with little memory; they write nothing elsewhere."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from brats3d.cases.case import Case
from brats3d.cases.duplicates import identical_files
from brats3d.cases.load import load_fold
from brats3d.cases.name_mapping import read_name_mappings
from brats3d.cases.text import natural_key
from brats3d.convert.decathlon import DATASET_JSON
from brats3d.convert.kaggle_h5 import find_volumes
from brats3d.errors import DataError, NotFoundError
from brats3d.evaluation.comparison import compare_scores
from brats3d.evaluation.score_files import read_scores
from brats3d.files import read_header, read_volume
from brats3d.files.bounded_read import MAX_DEPTH, MAX_TEXT_BYTES, read_json
from brats3d.networks.checkpoint_card import read_card
from brats3d.networks.checkpoint_file import MAX_CHECKPOINT_BYTES, read_checkpoint
from brats3d.report.run_results import read_run

CASE = "BraTS20_Training_001"
DEEP = "[" * 100_000 + "]" * 100_000
NOT_ORDINARY = "pipe"
"""Word in the problem of a file that is a pipe, a socket or a device."""
CARD = {"modalities": ["t1"], "regions": ["TC", "WT", "ET"], "network_def": {}}


# --- volumes


def change_header(path: Path, at: int, value: np.ndarray) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[at : at + value.nbytes] = value.tobytes()
    path.write_bytes(gzip.compress(content))


def bomb(path: Path) -> None:
    """Append 64 MiB of zeros to the voxels; the compressed file has 300 kB."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [packer.compress(gzip.decompress(path.read_bytes())), *(packer.compress(bytes(1 << 22)) for _ in range(16))]
    path.write_bytes(b"".join(parts) + packer.flush())


def huge_shape(path: Path) -> None:
    change_header(path, 42, np.array([10_000] * 3, "<i2"))


def far_voxels(path: Path) -> None:
    """Move the first voxel far away: nibabel would read everything before it."""
    change_header(path, 108, np.array([1e9], "<f4"))


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def circular_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


HOSTILE_VOLUMES = {
    "gzip bomb": (bomb, "67,115,360"),
    "huge shape": (huge_shape, "1,000,000,000,000 voxels"),
    "far voxels": (far_voxels, "1,000,000,000"),
    "pipe": (pipe, NOT_ORDINARY),
    "device": (device, NOT_ORDINARY),
    "circular link": (circular_link, "symbolic links"),
}
"""Name -> (what is done to a file, key words of the problem)."""


@pytest.mark.parametrize(("harm", "problem"), HOSTILE_VOLUMES.values(), ids=HOSTILE_VOLUMES)
def test_a_malicious_image_is_reported_and_not_segmented(make_dataset, run, tmp_path, harm, problem):
    data = make_dataset(2)
    path = data / CASE / f"{CASE}_t1.nii.gz"
    harm(path)
    code, _, err = run("predict", data, "--output", tmp_path / "out")
    assert code == 1
    assert any(str(path) in line and problem in line for line in err.splitlines()), err
    errors = []
    for section in ("training", "validation"):  # the case is in one of them
        try:
            load_fold(data, section)
        except DataError as error:
            errors.append(error)
    (error,) = errors
    assert path.name in error.subject + error.problem
    assert problem in error.problem
    code, printed, _ = run("audit", data, "--all")
    assert code == 1
    assert "unreadable" in printed
    assert not list((tmp_path / "out").glob(f"{CASE}*"))


@pytest.mark.parametrize("name", [name for name in HOSTILE_VOLUMES if name != "circular link"])
def test_score_and_split_name_a_malicious_segmentation(make_dataset, run, tmp_path, name):
    data = make_dataset(2)
    pred = shutil.copytree(data, tmp_path / "pred")
    harm, _ = HOSTILE_VOLUMES[name]
    harm(pred / CASE / f"{CASE}_seg.nii.gz")
    for arguments in (("score", pred, data), ("split", pred)):
        code, _, err = run(*arguments, "--output", tmp_path / "out.json")
        assert code == 1
        assert re.search(rf"^brats3d: error: .*{CASE}_seg\.nii\.gz: ", err, re.MULTILINE), err
    assert not (tmp_path / "out.json").exists()


def test_a_gzip_bomb_with_a_false_length_is_not_unpacked(make_dataset):
    path = make_dataset(1) / CASE / f"{CASE}_t1.nii.gz"
    size = len(gzip.decompress(path.read_bytes()))
    voxels = read_volume(path).values
    bomb(path)
    path.write_bytes(path.read_bytes()[:-4] + size.to_bytes(4, "little"))
    tracemalloc.start()
    read_header(path)
    assert np.array_equal(np.asarray(nib.load(path).dataobj), voxels)  # what a config's LoadImaged does
    with pytest.raises(DataError) as error:
        read_volume(path)
    assert error.value.subject == str(path) and "65,536" in error.value.problem
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_hundred_thousand_empty_gzip_members_are_read_quickly(make_dataset):
    path = make_dataset(1) / CASE / f"{CASE}_t1.nii.gz"
    voxels = read_volume(path).values
    path.write_bytes(path.read_bytes() + gzip.compress(b"") * 100_000)
    assert np.array_equal(read_volume(path).values, voxels)  # minutes if the time were quadratic


def test_a_compressed_file_much_larger_than_its_voxels_is_not_read(make_dataset):
    path = make_dataset(1) / CASE / f"{CASE}_t1.nii.gz"
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(DataError) as error:
        read_volume(path)
    assert error.value.subject == str(path) and "1,099,511,627,776" in error.value.problem


def test_a_preview_omits_a_malicious_reference(make_dataset, run, tmp_path):
    data = make_dataset(1)
    huge_shape(data / CASE / f"{CASE}_seg.nii.gz")
    code, _, err = run("predict", data, "--output", tmp_path / "out", "--window", "[32,32,32]", "--preview")
    assert code == 0, err
    assert (tmp_path / "out" / f"{CASE}.png").is_file()


def test_pipes_are_not_compared(tmp_path):
    pipe(tmp_path / "a.nii")
    with pytest.raises(DataError) as error:
        identical_files([tmp_path / "a.nii", tmp_path / "b.nii"])
    assert "a.nii" in error.value.subject and NOT_ORDINARY in error.value.problem


# --- names


@pytest.mark.parametrize(
    "case_id", ["a/b", "../../x", "..", ".hidden", "a\0b", "a\nb", "\x1b[31m", "a\u2028b", "x" * 201, "", "9" * 5000]
)
def test_a_case_id_that_is_not_a_safe_file_name_is_refused(make_dataset, case_id):
    with pytest.raises(DataError) as error:
        Case(case_id, "p", {}, None, "brats2020")
    assert (error.value.subject, error.value.found) == ("case_id", case_id)
    assert len(str(error.value)) < 300
    data = make_dataset(2)
    entries = [
        {
            "image": [f"{c}/{c}_{m}.nii.gz" for m in ("t1", "t1ce", "t2", "flair")],
            "label": f"{c}/{c}_seg.nii.gz",
            "fold": k,
        }
        for k, c in enumerate((CASE, "BraTS20_Training_002"))
    ]
    if case_id:  # an empty one counts as missing
        (data / "datalist.json").write_text(json.dumps({"training": [entries[0] | {"case_id": case_id}, entries[1]]}))
        with pytest.raises(DataError) as error:
            load_fold(data, "training")
        assert error.value.subject == str(data / "datalist.json")
        assert "training[0]" in error.value.problem and "case_id" in error.value.problem


@pytest.mark.parametrize("case_id", ["-rf", "x" * 200, "é" * 100, "a b", "٣"])
def test_an_unusual_but_safe_case_id_is_accepted(case_id):
    assert Case(case_id, "p", {}, None, "brats2020").case_id == case_id


def test_names_with_any_digits_can_be_sorted():
    names = ["a10", "9" * 5000, "a9", "٣", "", "a009", "10"]
    assert sorted(names, key=natural_key) == ["", "10", "9" * 5000, "a009", "a9", "a10", "٣"]


def test_control_characters_in_a_file_name_are_escaped(tmp_path, run):
    (tmp_path / "x\x1b[2J.nii.gz").touch()
    code, _, err = run("predict", tmp_path, "--output", tmp_path / "out")
    assert code == 1
    assert r"x\x1b[2J.nii.gz" in err
    assert "\x1b" not in err


# --- JSON and CSV


@pytest.mark.parametrize(
    "text",
    [DEEP, "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), '{"a":' * 900 + "1" + "}" * 900, "1" * 5000, "\xff"],
    ids=["very deep", "one level too deep", "deep mappings", "long number", "not JSON"],
)
def test_deep_or_invalid_json_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError):  # callers add the path
        read_json(path)


def test_json_of_ordinary_depth_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("\ufeff" + "[" * MAX_DEPTH + "]" * MAX_DEPTH, encoding="utf-8")
    assert str(read_json(path)) == "[" * MAX_DEPTH + "]" * MAX_DEPTH


def test_a_huge_text_is_not_read(tmp_path):
    path = tmp_path / "x.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ValueError, match=f"{MAX_TEXT_BYTES:,}"):
        read_json(path)
    path.rename(tmp_path / "name_mapping.csv")
    with pytest.raises(DataError) as error:
        read_name_mappings([tmp_path])
    assert error.value.subject == str(tmp_path / "name_mapping.csv") and "1,099,511" in error.value.problem


@pytest.mark.parametrize("harm", [pipe, device])
def test_a_mapping_that_is_a_pipe_or_device_is_refused(tmp_path, harm):
    harm(tmp_path / "name_mapping.csv")
    with pytest.raises(DataError) as error:
        read_name_mappings([tmp_path])
    assert error.value.subject == str(tmp_path / "name_mapping.csv") and NOT_ORDINARY in error.value.problem


def test_a_mapping_of_empty_cells_is_refused(tmp_path):
    (tmp_path / "name_mapping.csv").write_text(",,,\n,,\n")
    with pytest.raises(DataError) as error:
        read_name_mappings(tmp_path)
    assert error.value.subject == str(tmp_path / "name_mapping.csv")


@pytest.mark.parametrize("change", [{"dice": 10**400}, {"dice": float("nan")}, {"region": ["WT"]}, {"case_id": 7}])
def test_invalid_values_in_scores_are_refused(tmp_path, change):
    path = tmp_path / "scores.json"
    row = {"case_id": "a", "region": "WT", "dice": 0.5, "ref_volume_ml": 1, "pred_volume_ml": 1, **change}
    path.write_text(json.dumps({"rows": [row]}))
    with pytest.raises(DataError) as error:
        read_scores(path)
    assert (error.value.subject, error.value.problem) == (str(path), f"row 1: {next(iter(change))}")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("rules", ["9" * 5000, ["brats2023"] * 1000])
def test_the_error_about_unknown_rules_is_short(tmp_path, rules):
    for name, given in (("a", rules), ("b", "brats2023")):
        rows = [
            {"case_id": "a", "region": region, "dice": 0.5, "ref_volume_ml": 1, "pred_volume_ml": 1}
            for region in ("WT", "TC", "ET")
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps({"rules": given, "rows": rows}))
    with pytest.raises(DataError) as error:
        compare_scores(read_scores(tmp_path / "a.json"), read_scores(tmp_path / "b.json"), "dice")
    assert len(str(error.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("data/datalist.json", ["train", "data"]),
        ("a.json", ["compare", "a.json", "a.json"]),
        ("run/metrics.json", ["report", "run"]),
        ("msd/dataset.json", ["convert", "msd", "converted"]),
        ("a.json", ["audit", "data", "--json", "a.json"]),
    ],
)
def test_every_command_refuses_deep_json_in_one_line(make_dataset, run, tmp_path, monkeypatch, place, arguments):
    make_dataset(2)
    monkeypatch.chdir(tmp_path)
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).write_text(DEEP)
    code, _, err = run(*arguments)
    assert code in (1, 2)
    assert Path(place).name in err.splitlines()[-1]
    assert "RecursionError" not in err


@pytest.mark.parametrize("name", [f"{CASE}.nii.gz", f"{CASE}.json"])
def test_an_output_that_is_a_pipe_is_not_opened(make_dataset, run, tmp_path, name):
    data, out = make_dataset(1), tmp_path / "out"
    out.mkdir()
    pipe(out / name)
    code, _, err = run("predict", data, "--output", out, "--stats", "--window", "[32,32,32]")
    assert code == 2
    assert f"{name} was not written by brats3d" in err
    assert [path.name for path in out.iterdir()] == [name]


@pytest.mark.parametrize("harm", [pipe, lambda path: os.truncate(path, 1 << 40)])
def test_unreadable_curves_are_a_remark_of_the_report(tmp_path, harm):
    rows = [
        {"case_id": "a", "region": region, "dice": 0.5, "ref_volume_ml": 1, "pred_volume_ml": 1}
        for region in ("WT", "TC", "ET")
    ]
    (tmp_path / "metrics.json").write_text(json.dumps({"rows": rows}))
    events = tmp_path / "tensorboard" / "events.out.tfevents.1"
    events.parent.mkdir()
    events.touch()
    harm(events)
    assert any("TensorBoard events cannot be read" in remark for remark in read_run(tmp_path).remarks)


# --- conversion


def write_task(folder: Path, image: str = "./imagesTr/BRATS_001.nii.gz") -> Path:
    for name, shape in (("imagesTr", (8, 8, 8, 4)), ("labelsTr", (8, 8, 8))):
        (folder / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), folder / name / "BRATS_001.nii.gz")
    listed = {"training": [{"image": image, "label": "./labelsTr/BRATS_001.nii.gz"}], "test": []}
    (folder / "dataset.json").write_text(json.dumps({**DATASET_JSON, **listed}))
    return folder / "imagesTr" / "BRATS_001.nii.gz"


@pytest.mark.parametrize(
    "image", ["../../x.nii.gz", "/etc/x.nii.gz", "imagesTr/a\nb.nii.gz", "a\0.nii.gz", "x" * 201, "9" * 5000]
)
def test_a_task_that_would_write_outside_the_output_is_refused(tmp_path, run, image):
    write_task(tmp_path / "msd", image)
    code, _, err = run("convert", tmp_path / "msd", tmp_path / "out", "--workers", 1)
    assert code == 1
    assert "dataset.json: " in err
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


@pytest.mark.parametrize("shape", [(10_000, 10_000, 10_000, 4), (1300, 1300, 1300, 4)])
def test_a_task_with_a_huge_shape_is_refused_before_it_is_read(tmp_path, run, shape):
    change_header(write_task(tmp_path / "msd"), 42, np.array(shape, "<i2"))
    code, printed, _ = run("convert", tmp_path / "msd", tmp_path / "out", "--workers", 1)
    assert code == 1
    assert re.search(rf"BRATS_001: .*\({shape[0]}, ", printed)


def test_pipes_and_circular_links_in_a_task_are_not_opened(tmp_path, run):
    pipe(write_task(tmp_path / "msd"))
    (tmp_path / "msd" / "circle").symlink_to("circle")
    code, printed, _ = run("convert", tmp_path / "msd", tmp_path / "out", "--workers", 1)
    assert code == 1
    assert NOT_ORDINARY in printed


def write_slice(path: Path, shape: tuple[int, int] = (100, 100), **options) -> None:
    with h5py.File(path, "w") as file:
        for name, channels, dtype in (("image", 4, "f8"), ("mask", 3, "u1")):
            file.create_dataset(name, (*shape, channels), dtype, chunks=(100, 100, channels), **options)


@pytest.mark.parametrize("shape", [(60_000, 60_000), (2000, 2000)])
def test_slices_with_a_huge_shape_are_refused_before_they_are_read(tmp_path, shape):
    path = tmp_path / "volume_1_slice_0.h5"
    write_slice(path, shape)  # 2 kB, because chunks that were not written take no space
    (volume,) = find_volumes([path])
    with pytest.raises(DataError) as error:
        volume.read()
    assert error.value.subject == str(path) and str(shape[0]) in error.value.problem


def test_a_slice_number_of_eleven_digits_is_refused(tmp_path):
    path = tmp_path / "volume_1_slice_99999999999.h5"
    write_slice(path)
    (volume,) = find_volumes([path])
    with pytest.raises(DataError) as error:
        volume.read()
    assert error.value.found == 100_000_000_000


def test_a_slice_with_values_in_other_files_is_refused(tmp_path):
    path, other = tmp_path / "volume_1_slice_0.h5", tmp_path / "other.h5"
    write_slice(other)
    with h5py.File(path, "w") as file:
        file["image"] = h5py.ExternalLink(other.name, "image")
        file["mask"] = h5py.ExternalLink(other.name, "mask")
    with pytest.raises(DataError) as error:
        find_volumes([path])[0].read()
    assert error.value.subject == str(path) and "image" in error.value.problem
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset("image", (8, 8, 4), "f8", external=[("/etc/passwd", 0, 2048)])
    with pytest.raises(DataError) as error:
        find_volumes([path])[0].read()
    assert error.value.subject == str(path) and "image" in error.value.problem


# --- checkpoints


class Touch:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Memory:
    """An object whose pickle allocates 32 GiB when it is loaded, with a function that torch allows."""

    def __reduce__(self):
        return bytearray, (32 << 30,)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "best.pt"
    torch.save({"a": torch.arange(6.0)}, path)
    path.with_suffix(".json").write_text(json.dumps(CARD))
    assert read_checkpoint(path)[1] == CARD
    return path


def deflate(path: Path) -> None:
    """Add a record that unpacks to 64 MiB."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("best/data/1", bytes(64 << 20))


def overlap(path: Path) -> None:
    """Store one record under many names (Fifield, "A better zip bomb", WOOT 2019)."""
    torch.save({"a": torch.zeros(100_000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for k in range(9):
            copy = zipfile.ZipInfo(f"best/data/1{k}")
            source = archive.getinfo("best/data/0")
            copy.file_size = copy.compress_size = source.file_size
            copy.CRC, copy.header_offset = source.CRC, source.header_offset
            archive.filelist.append(copy)
        archive._didModify = True


HOSTILE_CHECKPOINTS = {
    "code": (lambda p: torch.save({"a": Touch(p.with_name("ran"))}, p), "it refers to posix.mkdir"),
    "memory": (lambda p: torch.save({"a": Memory()}, p), "it refers to bytearray"),
    "compressed": (deflate, "larger than the file"),
    "overlapping": (overlap, "larger than the file"),
    "sparse": (lambda p: os.truncate(p, 1 << 40), f"at most {MAX_CHECKPOINT_BYTES:,}"),
    "old format": (lambda p: torch.save({"a": torch.zeros(1)}, p, _use_new_zipfile_serialization=False), "zip"),
}


@pytest.mark.parametrize(("harm", "reason"), HOSTILE_CHECKPOINTS.values(), ids=HOSTILE_CHECKPOINTS)
def test_a_malicious_checkpoint_is_refused_before_it_is_loaded(checkpoint, harm, reason):
    harm(checkpoint)
    tracemalloc.start()
    with pytest.raises(DataError) as error:
        read_checkpoint(checkpoint)
    assert error.value.subject == str(checkpoint) and reason in error.value.problem
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert not checkpoint.with_name("ran").exists()


def test_a_checkpoint_that_is_a_pipe_is_refused(checkpoint):
    pipe(checkpoint)
    with pytest.raises(NotFoundError) as error:
        read_checkpoint(checkpoint)
    assert error.value.subject == "checkpoint"


@pytest.mark.parametrize(
    "change",
    [
        {"modalities": [["t1"]]},
        {"modalities": {"t1": 1}},
        {"network_def": []},
        {"network_def": {"in_channels": {"a": 1}}},
        {"network_def": {"in_channels": "9" * 5000}},
        {"best_metric": "best"},
        {"regions": [1]},
        {"patch_size": [0, 1, 2]},
        {"epoch": float("nan")},
        {"absent_sequences": "yes"},
    ],
)
def test_a_card_with_values_of_wrong_types_is_refused(checkpoint, change):
    checkpoint.with_suffix(".json").write_text(json.dumps(CARD | change))
    with pytest.raises(DataError) as error:
        read_card(checkpoint)
    assert error.value.subject == str(checkpoint.with_suffix(".json"))
    assert len(str(error.value)) < 500
