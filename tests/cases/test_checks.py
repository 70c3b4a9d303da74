"""What is said about bad headers, voxels and labels."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brats3d.cases.case import Case, find_cases, make_case
from brats3d.cases.checks import check_headers, check_labels, check_voxels, header_warnings, whole_labels
from brats3d.labels import BRATS2020, BRATS2023

CASE_1 = "BraTS20_Training_001"


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- headers


@pytest.fixture
def case(tmp_path, write_case) -> Case:
    write_case(tmp_path / CASE_1)
    return find_cases(tmp_path)[0]


def test_a_sound_case_passes_and_warns_of_nothing(case):
    check_headers(case)
    check_voxels(case)
    assert header_warnings(case) == []


def test_a_4d_file_is_refused(case, write_nifti):
    write_nifti(case.images["t2"], np.ones((16, 16, 12, 1), np.int16))
    with pytest.raises(ValueError, match=r"_t2.nii.gz: is 4-D, of shape \(16, 16, 12, 1\); expected 3-D") as error:
        check_headers(case)
    one_line(error)


def test_shapes_that_differ_within_a_case_are_refused(case, write_nifti):
    write_nifti(case.label, np.zeros((16, 16, 11), np.uint8))
    with pytest.raises(
        ValueError, match=r"_seg.nii.gz: has shape \(16, 16, 11\); expected \(16, 16, 12\) as in .*_t1.nii.gz"
    ):
        check_headers(case)


def test_affines_that_differ_within_a_case_are_refused_beyond_the_tolerance(case, write_nifti):
    values = np.ones((16, 16, 12), np.int16)
    affine = nib.load(case.images["t1"]).affine
    affine[0, 3] = 0.0005
    write_nifti(case.images["flair"], values, affine)
    check_headers(case)
    affine[0, 3] = 2
    write_nifti(case.images["flair"], values, affine)
    with pytest.raises(
        ValueError, match=r"_flair.nii.gz: its affine differs from that of .*_t1.nii.gz by up to 2 "
    ) as error:
        check_headers(case)
    one_line(error)


def test_every_bad_header_of_a_case_is_reported_at_once(case, write_nifti):
    case.images["t1ce"].write_bytes(b"")
    case.images["t2"].write_bytes(case.images["t2"].read_bytes()[:40])
    case.images["flair"].unlink()
    case.label.write_text("<html>404</html>")
    with pytest.raises(ValueError) as error:
        check_headers(case)
    summary, empty, short, absent, foreign, _advice = str(error.value).splitlines()
    assert summary == f"case {CASE_1}: 4 problems"
    assert "_t1ce.nii.gz: cannot be read as NIfTI: the file is empty (0 bytes)" in empty
    assert "_t2.nii.gz: cannot be read as NIfTI" in short
    assert "_flair.nii.gz: no such file" in absent
    assert "_seg.nii.gz: cannot be read as NIfTI" in foreign


def test_a_link_to_nothing_is_named(case):
    case.images["t1"].unlink()
    case.images["t1"].symlink_to("gone.nii.gz")
    with pytest.raises(ValueError, match=r"_t1.nii.gz: a link to a file that is not there"):
        check_headers(case)


def test_a_truncated_plain_file_is_seen_without_reading_it(tmp_path, write_case):
    folder = write_case(tmp_path / CASE_1, ".nii")
    path = folder / f"{CASE_1}_t1.nii"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"_t1.nii: file ends early: 6,495 bytes; expected 6,496"):  # 352 + 2*16*16*12
        check_headers(find_cases(tmp_path)[0])


def test_colour_voxels_and_a_singular_affine_are_refused(case, write_nifti):
    write_nifti(case.images["t1"], np.zeros((16, 16, 12), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    with pytest.raises(ValueError, match="expected one 3-D volume in NIfTI format with integer or float voxels"):
        check_headers(case)
    image = nib.Nifti1Image(np.ones((16, 16, 12), np.int16), None)
    image.header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), case.images["t1"])
    with pytest.raises(ValueError, match="places no voxel in space"):
        check_headers(case)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_damaged_header_raises_nothing_but_a_value_error(tmp_path, write_case, damage):
    folder = tmp_path / CASE_1
    if not folder.exists():
        write_case(folder, ".nii")
    case = find_cases(tmp_path)[0]
    content = bytearray(Path(case.images["t2"]).read_bytes())
    for position, byte in damage:
        content[position] = byte
    broken = tmp_path / "broken.nii"
    broken.write_bytes(content)
    case = make_case(CASE_1, {**case.images, "t2": broken}, case.label)
    try:
        check_voxels(case)
    except ValueError as error:
        assert "broken.nii" in str(error)


def test_voxels_more_than_a_tenth_off_1_mm_are_warned_of(case, write_nifti):
    path = case.images["t1"]
    write_nifti(path, np.ones((16, 16, 12), np.int16), np.diag([-1.0, -1.09, 1.1, 1.0]))
    assert header_warnings(case) == []
    write_nifti(path, np.ones((16, 16, 12), np.int16), np.diag([-1.0, -1.0, 3.0, 1.0]))
    (warning,) = header_warnings(case)
    assert warning.startswith(f"{path}: voxels are 1.00 x 1.00 x 3.00 mm; the network was trained at 1 mm")


# --- voxels


def test_a_truncated_gzip_is_explained(case):
    path = case.images["t1ce"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"_t1ce.nii.gz: file ends early or is damaged.*; download") as e:
        check_headers(case)  # by its last four bytes, but for one in thousands
        check_voxels(case)
    one_line(e)


def test_a_gzip_whose_checksum_fails_is_explained(case):
    path = case.images["t1ce"]
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1  # one bit of the last voxel, while the checksum stays
    path.write_bytes(gzip.compress(bytes(content))[:-8] + path.read_bytes()[-8:])
    with pytest.raises(ValueError, match=r"_t1ce.nii.gz: file ends early or is damaged: CRC check failed"):
        check_voxels(case)


def test_nan_and_empty_images_are_counted_and_reported_together(case, write_nifti):
    values = np.ones((16, 16, 12), np.float32)
    values[:2, 0, 0] = np.nan
    values[0, 0, 1] = np.inf
    write_nifti(case.images["t1"], values)
    write_nifti(case.images["t2"], np.zeros((16, 16, 12), np.int16))
    with pytest.raises(ValueError) as error:
        check_voxels(case)
    _, nan, empty, _ = str(error.value).splitlines()
    assert "_t1.nii.gz: 3 of 3,072 voxels are NaN or Inf" in nan
    assert "_t2.nii.gz: every voxel is 0" in empty


def test_labels_of_another_convention_are_named_with_counts(case, write_nifti):
    label = np.zeros((16, 16, 12), np.uint8)
    label[0, 0, :3] = 1
    label[1, 0, :4] = 2
    label[2, 0, :5] = 3
    write_nifti(case.label, label)
    with pytest.raises(ValueError) as error:
        check_voxels(case, case.convention)
    assert (
        f"{case.label}: holds labels {{0, 1, 2, 3}}, 3 in 5 voxels; expected brats2020's labels {{0, 1, 2, 4}}"
        in one_line(error)
    )
    assert "they fit brats2023 {0, 1, 2, 3} or brats2024-gli {0, 1, 2, 3, 4}" in one_line(error)


def test_a_probability_map_as_label_is_named(case, write_nifti):
    label = np.zeros((16, 16, 12), np.float32)
    label[0, 0, :2] = 0.25, 0.75
    write_nifti(case.label, label)
    with pytest.raises(ValueError, match=r"2 voxels are not whole numbers \(from 0.25 to 0.75\): a probability map\?"):
        check_voxels(case, case.convention)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_of_the_convention_pass_in_every_dtype(dtype):
    check_labels(np.array([0, 1, 2, 4], dtype), BRATS2020, "x")
    check_labels(np.array([[[0, 1, 2, 3]]], dtype), BRATS2023, "x")


def test_labels_a_rounding_off_whole_are_whole():
    scaled = np.array([0, 60, 120, 240], np.uint8) * np.float64(np.float32(1 / 60))
    assert (scaled != np.round(scaled)).any()
    for dtype in (np.float32, np.float64):
        check_labels(scaled.astype(dtype), BRATS2020, "x")
        assert whole_labels(scaled.astype(dtype)).tolist() == [0, 1, 2, 4]
    assert whole_labels(np.array([1.999999, 1.99999, np.nan])).tolist()[:2] == [2, 1.99999]
    assert whole_labels(np.array([2], np.uint8)).dtype == np.uint8
    with pytest.raises(ValueError, match="1 voxels are not whole numbers"):
        check_labels(np.array([0, 1.99999]), BRATS2020, "x")
    with pytest.raises(ValueError, match=r"holds labels \{0, 3\}, 3 in 1 voxels"):
        check_labels(np.array([0, 2.9999999]), BRATS2020, "x")


def test_labels_outside_every_convention_give_no_hint():
    with pytest.raises(ValueError, match=r"x: holds labels \{0, 7\}, 7 in 2 voxels; expected .*\{0, 1, 2, 4\}$"):
        check_labels(np.array([0, 7, 7]), BRATS2020, "x")
    with pytest.raises(ValueError, match="1 voxels are NaN or Inf"):
        check_labels(np.array([0, np.nan]), BRATS2020, "x")


def test_many_foreign_values_are_not_all_listed():
    with pytest.raises(ValueError) as error:
        check_labels(np.arange(5000), BRATS2020, "x")
    assert len(str(error.value)) < 1000
