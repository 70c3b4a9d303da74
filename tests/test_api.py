"""The Python API: predict and score."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

import brats3d
from brats3d.errors import DataError, UsageError

FAST = {"window": [32, 32, 32], "device": "cpu"}


def test_predict_returns_the_segmentation_of_each_case(make_dataset, tmp_path: Path) -> None:
    cases = make_dataset(cases=2)
    paths = brats3d.predict(cases, tmp_path / "out", **FAST)
    assert [path.name for path in paths] == ["BraTS20_Training_001.nii.gz", "BraTS20_Training_002.nii.gz"]
    for path in paths:
        image = next(cases.rglob(path.name.replace(".nii.gz", "_t1.nii.gz")))
        assert nib.load(path).shape == nib.load(image).shape
    written = [path.stat().st_mtime_ns for path in paths]
    assert brats3d.predict(cases, tmp_path / "out", **FAST) == paths
    assert [path.stat().st_mtime_ns for path in paths] == written, "finished cases are skipped"


def test_predict_accepts_a_list_of_case_folders(make_dataset, tmp_path: Path) -> None:
    folders = sorted(path for path in make_dataset(cases=3).rglob("BraTS20*") if path.is_dir())
    paths = brats3d.predict([folders[2], folders[0]], tmp_path / "out", **FAST)
    assert {path.name for path in paths} == {"BraTS20_Training_001.nii.gz", "BraTS20_Training_003.nii.gz"}


def test_predict_refuses_an_unknown_knob_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        brats3d.predict(tmp_path / "none", tmp_path / "out", overlapp=0.5)
    assert (caught.value.subject, caught.value.advice) == ("--overlapp", "did you mean --overlap?")


def test_predict_raises_the_cause_of_monais_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((DataError, UsageError)) as caught:
        brats3d.predict(tmp_path / "empty", tmp_path / "out", **FAST)
    assert str(tmp_path / "empty") in str(caught.value)


def test_score_returns_rows_and_writes_them_if_asked(make_dataset, tmp_path: Path) -> None:
    cases = make_dataset(cases=2)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for file in cases.rglob("*_seg.nii.gz"):
        (predictions / file.name).write_bytes(file.read_bytes())
    scored = brats3d.score(predictions, cases)
    assert scored.cases == 2
    assert len(scored.rows) == 6
    assert not list(tmp_path.glob("*.json"))
    brats3d.score(predictions, cases, tmp_path / "scores.json", convention="brats2020")
    assert json.loads((tmp_path / "scores.json").read_text())["rules"] == "brats2020"
    assert (tmp_path / "scores.csv").is_file()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, brats3d; print({'torch', 'monai', 'numpy', 'nibabel'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert {"predict", "score"} <= set(dir(brats3d))


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_gets_their_number(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def getpwuid(uid: int) -> None:
        raise error(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    brats3d._name_the_user()
    assert getpass.getuser() == str(os.getuid())


def test_a_user_without_a_name_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "pwd", None)
    monkeypatch.delattr(os, "getuid")
    brats3d._name_the_user()
    assert getpass.getuser() == "user"


def test_a_user_with_a_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    brats3d._name_the_user()
    assert getpass.getuser() == "ada"
