"""The MONAI Deploy application: from DICOM studies to DICOM SEG objects. The App SDK is not needed here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import brats3d
from brats3d.errors import DataError

APP = Path(__file__).parents[1] / "docs" / "deploy" / "app.py"


@pytest.fixture
def app(monkeypatch) -> ModuleType:
    """The module of the application, with stand-ins for the classes of the App SDK."""
    for name in ("monai.deploy", "monai.deploy.conditions", "monai.deploy.core"):
        module = ModuleType(name)
        for kind in ("CountCondition", "Application", "Operator", "OperatorSpec"):
            setattr(module, kind, type(kind, (), {}))
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("deploy_app", APP)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_the_dicom_objects_leave_the_application(tmp_path, app, monkeypatch):
    def predict(studies: Path, output: str) -> None:
        assert studies == tmp_path / "in"
        for name in ("a.nii.gz", "a.seg.dcm", "b.seg.dcm"):
            (Path(output) / name).write_text(name)

    monkeypatch.setattr(brats3d, "predict", predict)
    written = app.segment_studies(tmp_path / "in", tmp_path / "out")
    assert written == sorted((tmp_path / "out").iterdir())
    assert [path.read_text() for path in written] == ["a.seg.dcm", "b.seg.dcm"]


def test_nothing_is_written_if_a_study_fails(tmp_path, app, monkeypatch):
    def predict(studies: Path, output: str) -> None:
        raise DataError("study", "has no T1 and no T1ce")

    monkeypatch.setattr(brats3d, "predict", predict)
    with pytest.raises(DataError):
        app.segment_studies(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
