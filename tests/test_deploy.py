"""The MONAI Deploy application: from a DICOM study to a DICOM SEG. The App SDK is not needed here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import highdicom as hd
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine

from brats3d.errors import DataError
from brats3d.phantoms import make_raw_phantom
from tests.scans.dicom_study import write_study

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


def test_two_studies_are_refused(tmp_path, app):
    image = np.zeros((6, 5, 4), np.uint16), np.eye(4)
    for n in (1, 2):
        write_study(tmp_path / "in" / f"study{n}", {"t1": image}, StudyInstanceUID=f"1.2.{n}", PatientID=str(n))
    with pytest.raises(DataError) as caught:
        app.segment_study(tmp_path / "in", tmp_path / "out")
    assert caught.value.found == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_study_of_a_phantom_becomes_a_dicom_seg_on_the_grid_of_t1ce(tmp_path, app):
    phantom = make_raw_phantom(3)
    files = write_study(tmp_path / "study", phantom.images)
    path = app.segment_study(tmp_path / "study", tmp_path / "out")

    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files["t1ce"]]
    planes = hd.seg.segread(path).get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    found = planes.T > 0
    values, affine = phantom.images["t1ce"]
    assert found.shape == values.shape

    to_brats = np.linalg.inv(phantom.prepared.affine) @ np.linalg.inv(phantom.motions["t1ce"]) @ affine
    index = np.rint(apply_affine(to_brats, np.argwhere(np.ones(found.shape)))).astype(int)
    inside = ((index >= 0) & (index < phantom.prepared.label.shape)).all(axis=1)
    expected = np.zeros(found.size, bool)
    expected[inside] = phantom.prepared.label[tuple(index[inside].T)] > 0
    dice = 2 * np.count_nonzero(found & expected.reshape(found.shape)) / (found.sum() + expected.sum())
    assert dice >= 0.8
