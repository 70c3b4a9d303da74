"""Reading NIfTI files: the same voxels as nibabel, a verified checksum, and no more bytes than the header announces."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brats3d.errors import DataError
from brats3d.files import read_header, read_volume, same_grid

SHAPE = (5, 4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x_t1.nii.gz"


def write(path: Path, dtype: str = "int16", affine: np.ndarray | None = None) -> np.ndarray:
    values = np.arange(60).reshape(SHAPE).astype(dtype)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -2.0, 3.0, 1.0]) if affine is None else affine), path)
    return values


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "uint16", "int32", "float32", "float64"])
def test_voxels_header_and_affine_agree_with_nibabel(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"x_t1{suffix}"
    values = write(path, dtype)
    volume = read_volume(path)
    image = nib.load(path)
    assert np.array_equal(volume.values, values)
    assert volume.header.dtype == image.get_data_dtype()
    assert volume.values.dtype == image.get_data_dtype()
    assert np.array_equal(volume.header.affine, image.affine)
    assert volume.header.shape == SHAPE
    assert volume.header.spacing_mm == (1, 2, 3)
    assert same_grid(volume.header, read_header(path))


def test_scaled_values_agree_with_nibabel(path: Path) -> None:
    image = nib.Nifti1Image(np.linspace(0, 1, 60).reshape(SHAPE), np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, path)
    assert nib.load(path).dataobj.slope != 1
    assert np.array_equal(read_volume(path).values, nib.load(path).get_fdata())


def test_nifti_2_is_read(path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti2Image(values, np.eye(4)), path)
    assert np.array_equal(read_volume(path).values, values)
    assert read_header(path).nifti.sizeof_hdr == 540


def test_several_gzip_members_form_one_file(path: Path) -> None:
    values = write(path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(b"".join(gzip.compress(part) for part in (content[:100], content[100:400], content[400:])))
    assert np.array_equal(read_volume(path).values, values)
    half = len(content) // 2  # the last member may have the length of the whole
    path.write_bytes(gzip.compress(b"") + gzip.compress(content) + bytes(7))
    assert np.array_equal(read_volume(path).values, values)
    path.write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:])[:-9])
    with pytest.raises(DataError):
        read_volume(path)


def test_a_wrong_checksum_that_nibabel_does_not_notice_is_refused(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((60, 60, 60), np.int16), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    nib.load(path).get_fdata()
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert "CRC" in caught.value.problem and caught.value.expected == "216,000 voxels"


def test_a_few_bytes_after_the_last_voxel_are_accepted_and_a_bomb_is_not_unpacked(path: Path) -> None:
    values = write(path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + b"notes"))
    assert np.array_equal(read_volume(path).values, values)
    path.write_bytes(gzip.compress(content + bytes(200 << 20), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="after the last voxel"):
        read_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_a_header_that_announces_terabytes_is_refused(path: Path) -> None:
    write(path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(content))
    for read in (read_header, read_volume):
        with pytest.raises(DataError) as caught:
            read(path)
        assert "35,181,150,961,663 voxels" in caught.value.problem
        assert "at most 268,435,456 voxels" in caught.value.expected
    content[42:48] = np.array([600] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(content))
    read_header(path)
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert caught.value.expected == "216,000,000 voxels"


def test_a_forged_length_does_not_unpack_the_rest(path: Path) -> None:
    write(path)
    content = gzip.decompress(path.read_bytes())
    forged = bytearray(gzip.compress(content + bytes(200 << 20), 1))
    forged[-4:] = len(content).to_bytes(4, "little")
    path.write_bytes(forged)
    tracemalloc.start()
    with pytest.raises(DataError, match="after the last voxel"):
        read_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("after", [0, 1, 65_536, 65_537])
def test_bytes_after_the_last_voxel_are_counted_over_all_gzip_members(path: Path, after: int) -> None:
    values = write(path)
    content = gzip.decompress(path.read_bytes()) + bytes(after)
    for cut in (len(content), 400, len(content) - after):
        path.write_bytes(b"".join(gzip.compress(part) for part in (content[:cut], content[cut:])))
        if after > 65_536:
            with pytest.raises(DataError):
                read_volume(path)
        else:
            assert np.array_equal(read_volume(path).values, values)


def test_bytes_after_the_last_voxel_of_a_plain_file_are_not_read(tmp_path: Path) -> None:
    plain = tmp_path / "x_t1.nii"
    values = write(plain)
    with plain.open("r+b") as file:
        file.truncate(1 << 30)  # sparse
    tracemalloc.start()
    assert np.array_equal(read_volume(plain).values, values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize(("position", "number"), [(116, np.nan), (108, np.inf), (108, np.nan), (108, -np.inf)])
def test_invalid_numbers_in_a_header_are_refused(path: Path, position: int, number: float) -> None:
    write(path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:116] = np.float32(1).tobytes()  # scl_slope
    content[position : position + 4] = np.float32(number).tobytes()  # scl_inter, vox_offset
    path.write_bytes(gzip.compress(content))
    messages = []
    for read in (read_header, read_volume):
        with pytest.raises(DataError) as error:
            read(path)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_suffix_that_contradicts_the_content_is_refused(tmp_path: Path, path: Path) -> None:
    write(path)
    wrong = path.rename(tmp_path / "x_t1.nii")
    for read in (read_header, read_volume):
        with pytest.raises(DataError) as caught:
            read(wrong)
        assert caught.value.advice == "rename it"
    write(wrong)
    wrong.rename(path)
    for read in (read_header, read_volume):
        with pytest.raises(DataError) as caught:
            read(path)
        assert caught.value.advice == "rename it"


def test_folders_empty_files_and_broken_links_are_refused(tmp_path: Path, path: Path) -> None:
    for make, text in (
        (path.mkdir, "a folder"),
        (path.touch, "0 bytes"),
        (lambda: path.symlink_to("gone"), "a link to a file that does not exist"),
        (lambda: path.symlink_to(path), "cannot be read"),
    ):
        make()
        for read in (read_header, read_volume):
            with pytest.raises(DataError, match=text) as error:
                read(path)
            assert "\n" not in str(error.value)
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match="no such file"):
        read_volume(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 471), st.integers(0, 255)), max_size=6), st.integers(0, 472), st.booleans())
def test_damage_only_raises_a_data_error_that_names_the_file(tmp_path, damage, length, packed) -> None:
    plain = tmp_path / "whole.nii"
    write(plain)
    content = bytearray(plain.read_bytes())
    for position, byte in damage:
        content[position] = byte
    broken = tmp_path / ("broken.nii.gz" if packed else "broken.nii")
    broken.write_bytes(gzip.compress(content)[:length] if packed else content[:length])
    for read in (read_header, read_volume):
        try:
            read(broken)
        except DataError as error:
            assert error.subject == str(broken)
