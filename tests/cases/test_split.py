"""``brats3d split``: the datalist.json that it writes, its readers, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.auto3dseg import datafold_read
from monai.data import load_decathlon_datalist

from brats3d.cases.datalist import write_datalist
from brats3d.cases.load import load_fold
from brats3d.cases.name_mapping import NameMapping
from brats3d.cases.search import find_cases
from brats3d.cases.split import match_patients, measure_cases, split_dataset
from brats3d.cases.stratify import MeasuredCase
from brats3d.errors import DataError, UsageError

MAPPING = (
    "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\n"
    "HGG,Brats18_CBICA_AAB_1,BraTS20_Training_001\n"
    "LGG,NA,BraTS20_Training_002\n"
)


def split(root: Path, output: Path | None = None, **options):
    return split_dataset(root, output or root / "datalist.json", progress=False, **options)


def read(root: Path) -> dict:
    return json.loads((root / "datalist.json").read_text())


def folds_of(root: Path) -> dict[str, int]:
    return {entry["case_id"]: entry["fold"] for entry in read(root)["training"]}


# --- the file


def test_the_file_has_monais_form(make_dataset, write_case) -> None:
    root = make_dataset(3)
    write_case(root / "BraTS20_Validation_001", label=False)
    (root / "name_mapping.csv").write_text(MAPPING)
    result = split(root, folds=2, seed=4)
    content = read(root)
    assert [len(content["training"]), content["numTraining"], content["numTest"], content["seed"]] == [3, 3, 1, 4]
    assert content["modality"] == {"0": "t1", "1": "t1ce", "2": "t2", "3": "flair"}
    assert content["labels"] == {"0": "background", "1": "NCR/NET", "2": "ED", "4": "ET"}
    entry = next(e for e in content["training"] if e["case_id"] == "BraTS20_Training_002")
    stem = "BraTS20_Training_002/BraTS20_Training_002"
    assert entry == {
        "image": [f"{stem}_{m}.nii.gz" for m in ("t1", "t1ce", "t2", "flair")],
        "label": f"{stem}_seg.nii.gz",
        "case_id": "BraTS20_Training_002",
        "patient_id": "BraTS20_Training_002",
        "fold": entry["fold"],
        "label_convention": "brats2020",
        "grade": "LGG",
    }
    assert "grade" not in next(e for e in content["training"] if e["case_id"] == "BraTS20_Training_003")
    assert [e["case_id"] for e in content["testing"]] == ["BraTS20_Validation_001"]
    assert "label" not in content["testing"][0]
    assert {measured.case.case_id: k for k, fold in enumerate(result.folds) for measured in fold} == folds_of(root)


def test_brats3d_reads_the_file(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(5)
    split(root, tmp_path / "lists" / "other.json", folds=2)
    seen = [load_fold(root, "validation", fold=k, datalist=tmp_path / "lists" / "other.json") for k in (0, 1)]
    assert sorted(item["case_id"] for items in seen for item in items) == [
        f"BraTS20_Training_{i:03d}" for i in range(1, 6)
    ]
    training = load_fold(root, "training", fold=0, datalist=tmp_path / "lists" / "other.json")
    assert [item["case_id"] for item in training] == [item["case_id"] for item in seen[1]]


def test_monai_reads_the_file(make_dataset) -> None:
    root = make_dataset(4)
    split(root, folds=2)
    items = load_decathlon_datalist(str(root / "datalist.json"), True, "training", str(root))
    assert len(items) == 4
    assert all(Path(path).is_file() for item in items for path in (*item["image"], item["label"]))
    assert {item["fold"] for item in items} == {0, 1}


def test_auto3dseg_reads_the_file(make_dataset) -> None:
    root = make_dataset(4)
    split(root, folds=2)
    training, validation = datafold_read(str(root / "datalist.json"), str(root), fold=1)
    assert len(training) == len(validation) == 2
    assert all(Path(path).is_file() for item in training + validation for path in (*item["image"], item["label"]))


def test_volumes_are_measured_in_ml(make_dataset, write_nifti) -> None:
    root = make_dataset(2)
    label = np.zeros((16, 16, 12), np.uint8)
    label[:10, :10, :5] = 2
    label[:5, :5, :4] = 1
    label[0, 0, :3] = 4
    for file in (root / "BraTS20_Training_001").glob("*.nii.gz"):  # voxels of 2 mm³
        values = label if "seg" in file.name else np.asanyarray(nib.load(file).dataobj)
        write_nifti(file, values, np.diag([-2.0, -1.0, 1.0, 1.0]))
    cases = find_cases(root)
    (first, _), doubts = measure_cases(cases, progress=False)
    assert doubts == []
    assert (first.wt_ml, first.tc_ml, first.et_ml) == pytest.approx((1.0, 0.2, 0.006))


def test_the_file_is_the_same_in_another_process_and_place(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(6)
    contents = set()
    for seed in ("1", "2"):
        other = shutil.copytree(root, tmp_path / f"place{seed}")
        subprocess.run(
            [sys.executable, "-m", "brats3d", "split", str(other), "-o", str(other / "datalist.json"), "--folds", "3"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        contents.add((other / "datalist.json").read_bytes())
    split(root, folds=3)
    assert contents == {(root / "datalist.json").read_bytes()}


def test_names_in_any_script_are_kept(make_dataset, write_case, tmp_path: Path) -> None:
    root = make_dataset(1, root=tmp_path / "größe 脳")
    write_case(root / "Fälle" / "Fall_ß1", seed=9)
    split(root)
    assert {item["case_id"] for item in load_fold(root, "validation")} < {"Fall_ß1", "BraTS20_Training_001"}


# --- patients


def test_time_points_of_a_patient_stay_together(tmp_path: Path, write_case) -> None:
    names = [f"Brats18_CBICA_{who}_{point}" for who in ("AAB", "AAL", "AAP") for point in (1, 2)]
    for i, name in enumerate(names):
        write_case(tmp_path / "HGG" / name, seed=i)
    split(tmp_path, folds=3)
    folds = folds_of(tmp_path)
    assert all(folds[name] == folds[f"{name[:-1]}2"] for name in names)
    assert {entry["grade"] for entry in read(tmp_path)["training"]} == {"HGG"}


def test_one_patient_in_two_releases_stays_together(make_dataset, write_case) -> None:
    root = make_dataset(4)
    write_case(root / "Brats18_CBICA_AAB_1", seed=77)
    (root / "name_mapping.csv").write_text(MAPPING)
    assert split(root, folds=5).notes[0] == "only 4 folds instead of 5, because there are 4 patients"
    folds = folds_of(root)
    assert folds["Brats18_CBICA_AAB_1"] == folds["BraTS20_Training_001"]
    patients = {entry["case_id"]: entry["patient_id"] for entry in read(root)["training"]}
    assert patients["Brats18_CBICA_AAB_1"] == "BraTS20_Training_001"


def test_several_releases_without_a_mapping_are_reported(make_dataset, write_case) -> None:
    root = make_dataset(2)
    write_case(root / "Brats18_CBICA_AAB_1", seed=77)
    (note,) = split(root, folds=3).notes
    assert "several releases (brats2018, brats2020) and no name_mapping.csv" in note


def test_cases_that_share_an_image_stay_together(make_dataset, write_case) -> None:
    root = make_dataset(3)
    write_case(root / "Copy_9", seed=2)  # the seed of case 2: the same noise
    note = split(root).notes[0]
    assert note == "BraTS20_Training_002 and Copy_9 share t1, t1ce, t2, flair: kept in one fold"
    assert folds_of(root)["Copy_9"] == folds_of(root)["BraTS20_Training_002"]
    assert len(set(folds_of(root).values())) == 3


def test_equal_segmentations_do_not_unite_cases(make_dataset) -> None:
    cases = find_cases(make_dataset(3))  # all with the same label
    assert match_patients(cases, NameMapping()) == (cases, [])


def test_unlabelled_cases_of_patients_in_the_folds_are_reported(make_dataset, write_case) -> None:
    root = make_dataset(3)
    write_case(root / "BraTS20_Validation_007", seed=2, label=False)
    notes = split(root, folds=3).notes
    assert "1 case(s) without a segmentation" in notes[1]
    assert notes[1].endswith(": BraTS20_Validation_007")
    assert read(root)["testing"][0]["patient_id"] == "BraTS20_Training_002"


# --- refusals


def test_another_split_is_replaced_only_with_overwrite(make_dataset) -> None:
    root = make_dataset(4)
    assert split(root, folds=2).written
    before = (root / "datalist.json").read_bytes()
    assert not split(root, folds=2).written
    with pytest.raises(UsageError) as error:
        split(root, folds=3)
    assert error.value.subject == "output"
    assert "--overwrite" in error.value.advice
    assert (root / "datalist.json").read_bytes() == before
    assert split(root, folds=3, overwrite=True).written


def test_all_bad_labels_are_reported_together(make_dataset, write_nifti) -> None:
    root = make_dataset(3)
    for name in ("BraTS20_Training_001", "BraTS20_Training_003"):
        write_nifti(root / name / f"{name}_seg.nii.gz", np.full((16, 16, 12), 7, np.uint8))
    with pytest.raises(DataError) as error:
        split(root)
    first, third = error.value.problems
    assert "001_seg.nii.gz: contains labels {7}" in first
    assert "003_seg.nii.gz: contains labels {7}" in third


def test_an_undecided_label_convention_must_be_given(tmp_path: Path, write_nifti, write_case) -> None:
    for i in (1, 2):
        name = f"BraTS-PED-0000{i}-000"
        for modality, number in (("t1n", 10), ("t1c", 20), ("t2w", 30), ("t2f", 40)):
            write_nifti(tmp_path / name / f"{name}-{modality}.nii.gz", np.full((8, 8, 8), number + i, np.int16))
        write_nifti(tmp_path / name / f"{name}-seg.nii.gz", np.arange(512).reshape(8, 8, 8).astype(np.uint8) % 4)
    with pytest.raises(UsageError) as error:
        split(tmp_path)
    assert error.value.subject == "label_convention"
    split(tmp_path, label_convention="brats2023")
    assert {entry["label_convention"] for entry in read(tmp_path)["training"]} == {"brats2023"}
    assert read(tmp_path)["labels"]["3"] == "ET"


def test_one_patient_or_one_fold_is_refused(make_dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        split(make_dataset(1))
    with pytest.raises(UsageError) as error:
        split(make_dataset(2, root=tmp_path / "two"), folds=1)
    assert error.value.subject == "folds"


@pytest.mark.parametrize("name", ["", "list.txt", "taken/datalist.json"])
def test_an_unusable_output_is_refused(make_dataset, tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match=r"^output: "):
        split(make_dataset(2), tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="a drive is needed")
def test_a_path_on_another_drive_is_absolute(make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset(2)
    folds = [[MeasuredCase(case, 1, 1, 1)] for case in find_cases(root)]

    def no_relation(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", no_relation)
    write_datalist(folds, tmp_path / "list.json", root)
    assert json.loads((tmp_path / "list.json").read_text())["training"][0]["label"].startswith(root.as_posix())


# --- the command


def test_the_command_prints_a_table_and_the_next_command(run, make_dataset, tmp_path: Path) -> None:
    root = make_dataset(4)
    code, out, _ = run("split", root, "--output", root / "datalist.json", "--folds", 2)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"4 cases in 2 folds: {root / 'datalist.json'}"
    assert lines[2].split()[:3] == ["0", "2", "2"]
    assert lines[-1] == f"next: brats3d train {root} --fold 0"
    assert "(unchanged)" in run("split", root, "--output", root / "datalist.json", "--folds", 2)[1]
    out = run("split", root, "-o", tmp_path / "my list.json", "--seed", 3, "--modalities", "['t1','flair']")[1]
    assert out.splitlines()[-1] == f"next: brats3d train {root} --datalist '{tmp_path / 'my list.json'}' --fold 0"


def test_the_command_reports_errors_on_one_line(run, make_dataset) -> None:
    root = make_dataset(3)
    (root / "datalist.json").write_text("{}")
    code, _, err = run("split", root, "--output", root / "datalist.json")
    assert code == 2
    assert "--overwrite" in err.splitlines()[-1]
    assert run("split", root)[0] == 2
    assert run("split", root, "-o", root / "datalist.json", "--overwrite")[0] == 0
