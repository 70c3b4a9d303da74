"""The file that holds an image's voxels."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.files import image_files, is_packed, voxel_file


@pytest.mark.parametrize(
    ("name", "content", "voxels"),
    [
        ("x_t1.hdr", b"", "x_t1.img"),
        ("x_t1.hdr", b"", "x_t1.img.gz"),
        ("x_t1.HDR", b"", "x_t1.IMG"),
        ("x_t1.mhd", b"NDims = 3\r\nElementDataFile = other.raw\r\n", "other.raw"),
        ("x_t1.nhdr", b"NRRD0004\ndata file: x.raw.gz\n", "x.raw.gz"),
        ("x_t1.nhdr", b"NRRD0004\ndatafile: x.raw\n", "x.raw"),
        ("x_t1.mhd", b"ElementDataFile = LOCAL\n", "x_t1.mhd"),
        ("x_t1.mhd", b"\xff\x00", "x_t1.mhd"),
        ("x_t1.nii.gz", b"", "x_t1.nii.gz"),
    ],
)
def test_the_voxels_are_beside_the_header_or_in_the_file_itself(tmp_path: Path, name, content, voxels) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (tmp_path / voxels).touch()
    assert voxel_file(path) == tmp_path / voxels
    assert image_files(path) == ([path] if name == voxels else [path, tmp_path / voxels])


def test_a_missing_file_is_no_error(tmp_path: Path) -> None:
    assert voxel_file(tmp_path / "gone.mhd") == tmp_path / "gone.mhd"
    assert voxel_file(tmp_path / "gone.hdr") == tmp_path / "gone.img"


def test_names_of_compressed_files() -> None:
    assert [is_packed(Path(name)) for name in ("x.nii.gz", "x.MGZ", "x.mgh", "x.nii")] == [True, True, False, False]
