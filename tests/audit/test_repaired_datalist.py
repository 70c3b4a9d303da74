"""The datalist.json of a repaired copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from brats3d.audit.repaired_copy import RepairedCopy, write_repaired_copy
from brats3d.audit.whole_dataset import audit_dataset
from brats3d.cases.load import load_fold
from brats3d.labels import MODALITIES

CASE = "BraTS20_Training_002"

FOLDS = {f"BraTS20_Training_00{i}": i % 2 for i in (1, 2, 3, 4)}


def repair(root: Path | list[Path], out: Path) -> RepairedCopy:
    return write_repaired_copy(audit_dataset(root, progress=False), out, progress=False)


def write_datalist(root: Path, folds: dict[str, int], base: Path | None = None) -> dict:
    training = []
    for case_id, fold in folds.items():
        place = Path(case_id) if base is None else base / case_id
        image = [(place / f"{case_id}_{modality}.nii.gz").as_posix() for modality in MODALITIES]
        label = (place / f"{case_id}_seg.nii.gz").as_posix()
        training.append({"image": image, "label": label, "fold": fold, "case_id": case_id, "patient_id": f"p{case_id}"})
    content = {"seed": 3, "numTraining": len(training), "numTest": 0, "training": training, "testing": []}
    (root / "datalist.json").write_text(json.dumps(content))
    return content


def read_datalist(folder: Path) -> dict:
    return json.loads((folder / "datalist.json").read_text())


def case_ids(root: Path, section: str) -> list[str]:
    return [item["case_id"] for item in load_fold(root, section)]


@pytest.mark.parametrize("absolute", [False, True])
def test_the_copy_has_the_same_folds(make_dataset, tmp_path: Path, absolute: bool) -> None:
    root = make_dataset(cases=4)
    before = write_datalist(root, FOLDS, root if absolute else None)
    copy = repair(root, tmp_path / "out")
    after = read_datalist(copy.folder)
    assert after["seed"] == 3
    assert after["numTraining"] == 4
    for entry in before["training"]:
        (same,) = [each for each in after["training"] if each["case_id"] == entry["case_id"]]
        assert (same["fold"], same["patient_id"]) == (entry["fold"], entry["patient_id"])
        assert same["label"] == f"{entry['case_id']}/{entry['case_id']}_seg.nii.gz"
    for section in ("training", "validation"):
        assert case_ids(copy.folder, section) == case_ids(root, section)
    (listed,) = json.loads((copy.folder / "manifest.json").read_text())["other_files"]
    assert (listed["file"], listed["action"]) == ("datalist.json", "rewritten")


def test_dropped_cases_are_removed_and_cases_without_segmentation_are_for_testing(
    make_dataset, spoil, tmp_path: Path
) -> None:
    root = make_dataset(cases=5)
    write_datalist(root, FOLDS)
    spoil(root, "missing sequence")
    (root / "BraTS20_Training_005" / "BraTS20_Training_005_seg.nii.gz").unlink()
    copy = repair(root, tmp_path / "out")
    assert case_ids(copy.folder, "training") == ["BraTS20_Training_001", "BraTS20_Training_003"]  # fold 1
    assert case_ids(copy.folder, "validation") == ["BraTS20_Training_004"]
    after = read_datalist(copy.folder)
    assert (after["numTraining"], after["numTest"]) == (3, 1)
    assert after["testing"][0]["case_id"] == "BraTS20_Training_005"


def test_the_paths_follow_the_names_in_the_copy(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=4, root=tmp_path / "HGG")
    content = write_datalist(root, FOLDS)
    wrong = root / CASE / "W39_1998.09.19_Segm.nii.gz"
    (root / CASE / f"{CASE}_seg.nii.gz").rename(wrong)
    content["training"][1]["label"] = f"{CASE}/{wrong.name}"
    (root / "datalist.json").write_text(json.dumps(content))
    copy = repair(root, tmp_path / "out")
    (entry,) = [each for each in read_datalist(copy.folder)["training"] if each["case_id"] == CASE]
    assert entry["label"] == f"HGG/{CASE}/{CASE}_seg.nii.gz"
    assert entry["image"][0] == f"HGG/{CASE}/{CASE}_t1.nii.gz"


def test_an_invalid_datalist_is_not_copied(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=4)
    content = write_datalist(root, FOLDS)
    for entry in content["training"]:
        entry["patient_id"] = "one patient in two folds"
    (root / "datalist.json").write_text(json.dumps(content))
    copy = repair(root, tmp_path / "out")
    assert not (copy.folder / "datalist.json").exists()
    assert "datalist.json was not copied" in copy.summary()[-1]
    assert json.loads((copy.folder / "manifest.json").read_text())["notes"] == list(copy.notes)


def test_a_datalist_of_other_files_is_not_copied(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=4)
    write_datalist(root, FOLDS, make_dataset(cases=4, root=tmp_path / "elsewhere"))
    copy = repair(root, tmp_path / "out")
    assert not (copy.folder / "datalist.json").exists()
    assert "BraTS20_Training_002" in copy.notes[0]


def test_a_datalist_that_would_lose_a_fold_is_not_copied(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    write_datalist(root, {case_id: fold for case_id, fold in FOLDS.items() if not case_id.endswith("4")})
    spoil(root, "missing sequence")
    copy = repair(root, tmp_path / "out")
    assert not (copy.folder / "datalist.json").exists()
    assert "fold 0" in copy.notes[0]


def test_no_datalist_is_copied_from_several_folders(make_dataset, tmp_path: Path) -> None:
    roots = [make_dataset(cases=1, root=tmp_path / "a"), make_dataset(cases=3, root=tmp_path / "b", layout="brats2021")]
    shutil.rmtree(roots[1] / "BraTS2021_00001")  # equals the case of the first folder
    write_datalist(roots[1], {"BraTS2021_00002": 0, "BraTS2021_00003": 1})
    copy = repair(roots, tmp_path / "out")
    names = {path.name for path in copy.folder.iterdir()}
    assert names == {"BraTS20_Training_001", "BraTS2021_00002", "BraTS2021_00003", "manifest.json"}
