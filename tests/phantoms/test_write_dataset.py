"""Data sets of phantoms on disk: named and stored as in a release, and never half written."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from brats3d.errors import UsageError
from brats3d.labels import MODALITIES
from brats3d.phantoms import write_dataset
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.phantom import make_phantom as make_uncached_phantom
from brats3d.phantoms.raw_phantom import make_raw_phantom
from brats3d.phantoms.settings import Contrasts, Setting
from brats3d.phantoms.write_dataset import LAYOUTS, case_seed, write_phantoms

make_phantom = cache(make_uncached_phantom)

BELOW_0 = Setting(rings=1, ringing=(0.5, 0.5), blurred=0, contrasts=Contrasts(t1_csf=(0.01, 0.02)))


@pytest.fixture(autouse=True)
def make_each_phantom_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_dataset, "make_phantom", make_phantom)


def write(folder: Path, layout: str, cases: int = 1, seed: int = 3, setting: str | Setting = "plain") -> list[Path]:
    return write_phantoms(folder, cases, seed, "small", layout=layout, setting=setting, progress=False)


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_written_cases_have_the_layout_of_brats2020(tmp_path):
    folders = write_phantoms(tmp_path / "data", cases=2, seed=7, size="small", progress=False)
    names = ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert folders == [tmp_path / "data" / name for name in names]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == names  # and no hidden file
    kinds = ("flair", "seg", "t1", "t1ce", "t2")
    assert sorted(p.name for p in folders[0].iterdir()) == [f"{names[0]}_{kind}.nii.gz" for kind in kinds]
    case = make_phantom(case_seed(7, 1), "small")
    for name, array in {**case.images, "seg": case.label}.items():
        image = nib.load(folders[1] / f"{names[1]}_{name}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
        assert image.get_data_dtype() == array.dtype
        np.testing.assert_array_equal(image.affine, case.affine)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
        np.testing.assert_allclose(image.header.get_qform(), case.affine)
        assert image.header.get_zooms() == (1, 1, 1)


def test_a_case_does_not_depend_on_the_number_of_cases(tmp_path):
    one, two = write(tmp_path / "one", "brats2020"), write(tmp_path / "two", "brats2020", cases=2)
    for kind in (*MODALITIES, "seg"):
        first, same, other = (voxels(next(folder.glob(f"*_{kind}.nii.gz"))) for folder in (*one, *two))
        np.testing.assert_array_equal(first, same)
        assert (same != other).any()


@pytest.mark.parametrize("setting", SETTINGS)
def test_cases_are_drawn_from_the_setting(tmp_path, setting):
    (folder,) = write(tmp_path, "brats2020", setting=setting)
    case = make_phantom(case_seed(3, 0), "small", setting=setting)
    for name, array in {**case.images, "seg": case.label}.items():
        np.testing.assert_array_equal(voxels(folder / f"{folder.name}_{name}.nii.gz"), array)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cases": 0},
        {"size": "large"},
        {"setting": "plane"},
        {"layout": "msd7"},
        {"seed": -1},
        {"device": "foo"},
        {"device": "meta"},
        {"device": "cuda:99"},
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(tmp_path, arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(UsageError) as error:
        write_phantoms(tmp_path / "data", **{"cases": 1, "size": "small", **arguments})
    assert (error.value.subject, error.value.found) == (name, value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


def test_an_existing_case_is_not_overwritten(tmp_path):
    taken = tmp_path / "BraTS20_Training_002"
    taken.mkdir()
    with pytest.raises(UsageError) as error:
        write_phantoms(tmp_path, cases=2, size="small", progress=False)
    assert error.value.subject == "output_dir"
    assert str(taken) in error.value.problem
    assert list(tmp_path.iterdir()) == [taken]


def test_a_failed_case_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(image: nib.Nifti1Image, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="No space"):
        write_phantoms(tmp_path, cases=1, size="small", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("brats2021", ["BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"]),
        ("brats2023", ["BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00002-001"]),
        ("brats2024", ["BraTS-GLI-00001-100", "BraTS-GLI-00002-100", "BraTS-GLI-00002-101"]),
    ],
)
def test_cases_are_named_as_in_their_release(tmp_path, layout, names):
    folders = write(tmp_path / "data", layout, cases=3)
    assert folders == [tmp_path / "data" / name for name in names]
    newer = layout != "brats2021"
    suffixes = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg") if newer else ("_t1", "_t1ce", "_t2", "_flair", "_seg")
    files = [folders[0] / f"{names[0]}{suffix}.nii.gz" for suffix in suffixes]
    assert sorted(folders[0].iterdir()) == sorted(files)
    case = make_phantom(case_seed(3, 0), "small", setting="plain")
    for file, modality in zip(files, MODALITIES, strict=False):
        np.testing.assert_array_equal(voxels(file), case.images[modality])


def test_newer_releases_label_enhancing_tumour_3_and_resection_cavities_4(tmp_path):
    label = make_phantom(case_seed(3, 0), "small", setting="plain").label
    assert set(np.unique(label)) == {0, 1, 2, 4}
    of_2023 = voxels(next(write(tmp_path / "a", "brats2023")[0].glob("*-seg.nii.gz")))
    np.testing.assert_array_equal(of_2023, np.where(label == 4, 3, label))
    of_2024 = voxels(next(write(tmp_path / "b", "brats2024")[0].glob("*-seg.nii.gz")))
    cavity = of_2024 == 4
    assert 0 < cavity.sum() < (label == 1).sum()
    assert (label[cavity] == 1).all()
    np.testing.assert_array_equal(np.where(cavity, 1, of_2024), of_2023)


def test_brats2018_sorts_by_grade(tmp_path):
    folders = write(tmp_path, "brats2018", cases=4)
    assert {folder.parent.name for folder in folders} == {"HGG", "LGG"}
    for number, folder in enumerate(folders, 1):
        assert folder.name == f"Brats18_SYN_{number:03d}_1"
        label = voxels(folder / f"{folder.name}_seg.nii.gz")
        assert folder.parent.name == ("HGG" if (label == 4).any() else "LGG")
    with pytest.raises(UsageError, match="Brats18_SYN_001_1"):
        write(tmp_path, "brats2018")


def test_msd_is_4d_in_ras_with_the_labels_of_dataset_json(tmp_path):
    (path,) = write(tmp_path, "msd")
    task = tmp_path / "Task01_BrainTumour"
    assert path == task / "imagesTr" / "BRATS_001.nii.gz"
    assert sorted(str(p.relative_to(task)) for p in task.rglob("*") if p.is_file()) == [
        "dataset.json",
        "imagesTr/BRATS_001.nii.gz",
        "labelsTr/BRATS_001.nii.gz",
    ]
    description = json.loads((task / "dataset.json").read_text())
    assert description["modality"] == {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    assert description["labels"]["1"] == "edema"
    assert description["training"] == [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}]
    assert description["test"] == []
    case = make_phantom(case_seed(3, 0), "small", setting="plain")
    image = nib.load(path)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    expected = nib.as_closest_canonical(nib.Nifti1Image(case.images["t1ce"], case.affine))
    np.testing.assert_array_equal(image.affine, expected.affine)
    np.testing.assert_array_equal(voxels(path)[..., 2], expected.dataobj)
    label = voxels(task / "labelsTr" / "BRATS_001.nii.gz")[::-1, ::-1]
    np.testing.assert_array_equal(label == 1, case.label == 2)
    np.testing.assert_array_equal(label == 2, case.label == 1)
    np.testing.assert_array_equal(label == 3, case.label == 4)


def test_h5_has_kaggles_files(tmp_path):
    paths = write(tmp_path, "h5", cases=2)
    folder = tmp_path / "BraTS2020_training_data/content/data"
    assert paths == [folder / "volume_1_slice_0.h5", folder / "volume_2_slice_0.h5"]
    slices = [f"volume_{v}_slice_{s}.h5" for v in (1, 2) for s in range(40)]
    tables = ["meta_data.csv", "name_mapping.csv", "survival_info.csv"]
    assert sorted(p.name for p in folder.iterdir()) == sorted([*slices, *tables])
    case = make_phantom(case_seed(3, 1), "small", setting="plain")
    with h5py.File(folder / "volume_2_slice_20.h5") as file:
        image, mask = file["image"][()], file["mask"][()]
        assert {d.compression for d in file.values()} == {"gzip"}
    assert (image.dtype, mask.dtype) == (np.float64, np.uint8)
    for channel, modality in enumerate(("flair", "t1", "t1ce", "t2")):
        original = case.images[modality][..., 20].astype(float)
        np.testing.assert_allclose(image[..., channel], (original - original.mean()) / original.std(), atol=1e-12)
    np.testing.assert_array_equal(mask @ np.array([1, 2, 4]), case.label[..., 20])
    with (folder / "meta_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    middle = rows[60]
    assert (middle["volume"], middle["slice"], middle["target"]) == ("2", "20", str(int(mask.any())))
    assert int(middle["label1_pxl_cnt"]) == mask[..., 1].sum()


def test_negative_intensities_are_raised_above_the_background_in_h5(tmp_path):
    write(tmp_path, "h5", setting=BELOW_0)
    case = make_phantom(case_seed(3, 0), "small", setting=BELOW_0)
    below = case.images["t1"] < 0
    s = int(below.sum((0, 1)).argmax())
    assert below[..., s].any()
    with h5py.File(tmp_path / f"BraTS2020_training_data/content/data/volume_1_slice_{s}.h5") as file:
        image = file["image"][..., 1]
    background = case.images["t1"][..., s] == 0
    assert (image[background] == image.min()).all()
    assert (image[~background] > image.min()).all()


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_no_layout_overwrites_cases_or_leaves_anything_half_written(tmp_path, layout, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("brats3d.files.atomic_write.os.fsync", fail)
        with pytest.raises(OSError, match="No space"):
            write(tmp_path, layout)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    write(tmp_path, layout)
    assert not list(tmp_path.rglob(".*"))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path, layout)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_raw_holds_scans_with_true_motions_and_the_prepared_cases(tmp_path):
    (folder,) = write(tmp_path, "raw")
    assert folder == tmp_path / "scans" / "raw_001"
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    prepared = [f"prepared/raw_001/raw_001_{kind}.nii.gz" for kind in ("flair", "seg", "t1", "t1ce", "t2")]
    scans = [f"scans/raw_001/{name}" for name in (*(f"{m}.nii.gz" for m in sorted(MODALITIES)), "true_motions.json")]
    assert files == prepared + scans
    raw = make_raw_phantom(case_seed(3, 0), "small", setting="plain")
    motions = json.loads((folder / "true_motions.json").read_text())
    for name, (values, affine) in raw.images.items():
        image = nib.load(folder / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.dataobj, values)
        np.testing.assert_allclose(image.affine, affine, atol=1e-4)
        np.testing.assert_allclose(image.header.get_qform(), affine, atol=1e-3)
        np.testing.assert_array_equal(motions[name], raw.motions[name])
    np.testing.assert_array_equal(voxels(tmp_path / prepared[1]), raw.prepared.label)
