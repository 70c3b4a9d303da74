"""Reading one NIfTI file: the same voxels as nibabel's, gzip's checksum verified, no more than the header announces."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brats3d.files.nifti import read_header, read_volume, same_grid

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
def test_voxels_header_and_affine_are_nibabels(tmp_path: Path, suffix: str, dtype: str) -> None:
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


def test_scaled_values_are_what_nibabel_gives(path: Path) -> None:
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


def test_several_gzip_members_are_one_file(path: Path) -> None:
    values = write(path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(b"".join(gzip.compress(part) for part in (content[:100], content[100:400], content[400:])))
    assert np.array_equal(read_volume(path).values, values)
    half = len(content) // 2  # the last member's length is that of the whole by accident
    path.write_bytes(gzip.compress(b"") + gzip.compress(content) + bytes(7))
    assert np.array_equal(read_volume(path).values, values)
    path.write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:])[:-9])
    with pytest.raises(ValueError, match="ended before the end-of-stream marker"):
        read_volume(path)


def test_a_wrong_checksum_is_seen_where_nibabel_sees_none(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((60, 60, 60), np.int16), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    nib.load(path).get_fdata()
    with pytest.raises(ValueError, match="CRC check failed; expected 216,000 voxels"):
        read_volume(path)


def test_little_after_the_last_voxel_is_let_pass_and_a_bomb_ends_early(path: Path) -> None:
    values = write(path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + b"notes"))
    assert np.array_equal(read_volume(path).values, values)
    path.write_bytes(gzip.compress(content + bytes(200 << 20), 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="goes on for more than 65,536 bytes after the last voxel"):
        read_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_a_header_that_promises_terabytes_costs_nothing(path: Path) -> None:
    write(path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(content))
    for read in (read_header, read_volume):
        with pytest.raises(
            ValueError,
            match=r"has shape \(32767, 32767, 32767\) .*: 35,181,150,961,663 voxels .* at most 268,435,456 voxels",
        ):
            read(path)
    content[42:48] = np.array([600] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(content))
    read_header(path)
    with pytest.raises(ValueError, match="packed bytes are too few; expected 216,000,000 voxels"):
        read_volume(path)


def test_a_forged_length_does_not_unpack_the_rest(path: Path) -> None:
    write(path)
    content = gzip.decompress(path.read_bytes())
    forged = bytearray(gzip.compress(content + bytes(200 << 20), 1))
    forged[-4:] = len(content).to_bytes(4, "little")
    path.write_bytes(forged)
    tracemalloc.start()
    with pytest.raises(ValueError, match="goes on for more than 65,536 bytes after the last voxel"):
        read_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("after", [0, 1, 65_536, 65_537])
def test_the_slack_is_counted_to_the_byte_over_all_members(path: Path, after: int) -> None:
    values = write(path)
    content = gzip.decompress(path.read_bytes()) + bytes(after)
    for cut in (len(content), 400, len(content) - after):
        path.write_bytes(b"".join(gzip.compress(part) for part in (content[:cut], content[cut:])))
        if after > 65_536:
            with pytest.raises(ValueError, match="goes on for more than"):
                read_volume(path)
        else:
            assert np.array_equal(read_volume(path).values, values)


def test_what_follows_the_last_voxel_of_a_plain_file_is_not_read(tmp_path: Path) -> None:
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
def test_odd_numbers_in_a_header_are_one_error_for_header_and_volume(path: Path, position: int, number: float) -> None:
    write(path)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:116] = np.float32(1).tobytes()  # scl_slope
    content[position : position + 4] = np.float32(number).tobytes()  # scl_inter, vox_offset
    path.write_bytes(gzip.compress(content))
    messages = []
    for read in (read_header, read_volume):
        with pytest.raises(ValueError, match=r"x_t1.nii.gz: cannot be read as NIfTI") as error:
            read(path)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_name_that_does_not_fit_the_content_is_named(tmp_path: Path, path: Path) -> None:
    write(path)
    wrong = path.rename(tmp_path / "x_t1.nii")
    for read in (read_header, read_volume):
        with pytest.raises(ValueError, match=r"x_t1.nii: is compressed, but its name does not end in .gz; rename it"):
            read(wrong)
    write(wrong)
    wrong.rename(path)
    for read in (read_header, read_volume):
        with pytest.raises(ValueError, match=r"x_t1.nii.gz: cannot be read as NIfTI: Not a gzipped file"):
            read(path)


def test_folders_empty_files_and_broken_links_are_named(tmp_path: Path, path: Path) -> None:
    for make, text in (
        (path.mkdir, "a folder"),
        (path.touch, "0 bytes"),
        (lambda: path.symlink_to("gone"), "a link to a file that is not there"),
        (lambda: path.symlink_to(path), "cannot be read as NIfTI"),
    ):
        make()
        for read in (read_header, read_volume):
            with pytest.raises(ValueError, match=text) as error:
                read(path)
            assert "\n" not in str(error.value)
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match="no such file"):
        read_volume(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 471), st.integers(0, 255)), max_size=6), st.integers(0, 472), st.booleans())
def test_damage_raises_nothing_but_a_value_error_that_names_the_file(tmp_path, damage, length, packed) -> None:
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
        except ValueError as error:
            assert str(broken) in str(error)
