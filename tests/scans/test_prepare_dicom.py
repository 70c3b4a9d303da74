"""A DICOM study through ``brats3d prepare``: the same result as from NIfTI files, and no patient."""

from __future__ import annotations

import gzip
import json
import logging
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brats3d.cli import main
from brats3d.files import write_nifti
from brats3d.phantoms import make_raw_phantom
from brats3d.scans import brain_mask
from brats3d.scans.itk_images import Grid
from tests.scans.dicom_study import write_study
from tests.scans.test_preparation import brain_in_scan

pytestmark = pytest.mark.slow

IDENTIFYING = re.compile("roe|jane|mrn-|4711|19500228|20200102|101112", re.IGNORECASE)
"""The patient and the study of :func:`tests.scans.dicom_study.write_study`."""


def exact_affine(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return a similar affine without tilt that DICOM's text and NIfTI's float32 store exactly."""
    spacing_mm = np.round(np.linalg.norm(affine[:3, :3], axis=0) * 16) / 16
    exact = np.diag([*(spacing_mm * [-1, -1, 1]), 1.0])
    exact[:3, 3] = np.round((np.array(shape) - 1) / 2 * spacing_mm) * [1, 1, -1]
    return exact


def test_a_dicom_study_is_prepared_as_nifti_files_are_and_names_no_patient(
    tmp_path: Path, monkeypatch, caplog, capsys
) -> None:
    for logger in ("", "brats3d", "pydicom"):
        caplog.set_level(logging.INFO, logger)
    raw = make_raw_phantom(12, "full")
    images = {m: (raw.images[m][0], exact_affine(raw.images[m][0].shape, raw.images[m][1])) for m in ("t1", "flair")}
    brain = brain_in_scan(raw, "t1", Grid(raw.images["t1"][0].shape, raw.images["t1"][1]))
    monkeypatch.setattr(brain_mask, "_estimate", lambda case_id, volume: brain)
    write_study(tmp_path / "dicom/case", images)
    (tmp_path / "nifti/case").mkdir(parents=True)
    for modality, (values, affine) in images.items():
        write_nifti(tmp_path / f"nifti/case/case_{modality}.nii.gz", values, affine)
    for name in ("dicom", "nifti"):
        assert main(["prepare", str(tmp_path / name), str(tmp_path / f"out_{name}")]) == 0

    folder, other = tmp_path / "out_dicom/case", tmp_path / "out_nifti/case"
    for modality in images:
        ours, theirs = (nib.load(each / f"case_{modality}.nii.gz") for each in (folder, other))
        assert ours.get_data_dtype() == theirs.get_data_dtype() == np.int16
        assert np.array_equal(ours.affine, theirs.affine)
        assert np.mean(np.not_equal(ours.dataobj, theirs.dataobj)) < 1e-3  # sums over threads differ in the last digits
        transforms = [sitk.ReadTransform(str(each / f"case_{modality}.tfm")) for each in (folder, other)]
        assert np.allclose(*(each.TransformPoint([-120.0, -110.0, 80.0]) for each in transforms), atol=1e-3)

    sequences = json.loads((folder / "preparation.json").read_text())["sequences"]
    assert [each["description"] for each in sequences.values()] == ["series 1 'AX T1'", "series 2 'AX FLAIR'"]
    files = [path for path in (tmp_path / "out_dicom").rglob("*") if path.is_file()]
    assert len(files) == 6  # two images, two transforms, a picture and a record
    texts = [caplog.text, *capsys.readouterr(), *(path.name for path in files)]
    texts += [(folder / name).read_text() for name in ("case_t1.tfm", "case_flair.tfm", "preparation.json")]
    texts += [gzip.decompress((folder / f"case_{m}.nii.gz").read_bytes())[:352].decode("latin-1") for m in images]
    texts += [(folder / "case_check.png").read_bytes()[:1000].decode("latin-1")]
    assert not any(IDENTIFYING.search(text.replace(str(tmp_path), "")) for text in texts)
