"""Explanations of cases that could not be loaded."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brats3d.cases.case import Case, case_to_item, make_case
from brats3d.cases.explain_failure import explain_item
from brats3d.errors import DataError


def problems(case: Case) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        explain_item(case_to_item(case))
    assert error.value.subject == f"case {case.case_id}"
    return error.value.problems


def test_a_sound_case_raises_nothing(case):
    explain_item(case_to_item(case))


def test_a_truncated_file_is_found(case):
    path = case.images["t1ce"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (problem,) = problems(case)
    assert problem.startswith(f"{path}: file ends early or is damaged")


def test_a_wrong_checksum_is_found(case):
    path = case.images["t1ce"]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1  # one bit of the last voxel, with the old checksum
    path.write_bytes(gzip.compress(bytes(content))[:-8] + path.read_bytes()[-8:])
    (problem,) = problems(case)
    assert problem.startswith(f"{path}: file ends early or is damaged: CRC check failed")


def test_nan_and_empty_images_are_reported_together(case, write_nifti):
    values = np.ones((16, 16, 12), np.float32)
    values[:2, 0, 0] = np.nan
    values[0, 0, 1] = np.inf
    write_nifti(case.images["t1"], values)
    write_nifti(case.images["t2"], np.zeros((16, 16, 12), np.int16))
    nan, empty = problems(case)
    assert nan.startswith(f"{case.images['t1']}: 3 of 3,072 voxels are NaN or Inf")
    assert empty.startswith(f"{case.images['t2']}: every voxel is 0")


def test_a_bad_file_without_a_modality_in_its_name_is_found(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "scan.nii.gz", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(DataError) as error:
        explain_item({"image": [str(path)]})
    assert error.value.problems[0].startswith(f"{path}: every voxel is 0")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_damaged_header_raises_only_a_data_error(tmp_path, case, damage):
    content = bytearray(gzip.decompress(Path(case.images["t2"]).read_bytes()))
    for position, byte in damage:
        content[position] = byte
    broken = tmp_path / "broken_t2.nii"
    broken.write_bytes(content)
    damaged = make_case(case.case_id, {**case.images, "t2": broken}, case.label)
    try:
        explain_item(case_to_item(damaged))
    except DataError as error:
        assert "broken_t2.nii" in str(error)


def test_a_file_of_all_sequences_is_not_called_damaged(tmp_path):
    path = tmp_path / "BRATS_001.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 4), np.float32), np.eye(4)), path)
    explain_item({"image": str(path)})
