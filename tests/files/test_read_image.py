"""Reading images of every format: the same voxels at the same place, and what is assumed about odd headers."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from brats3d.errors import DataError
from brats3d.files import read_header, read_volume, same_grid, write_segmentation

SHAPE = (5, 4, 3)
VALUES = np.arange(60).reshape(SHAPE)
ROTATED = np.array([[-1, 0, 0, 7], [0, -0.96, 0.28, 239], [0, 0.28, 0.96, -5], [0, 0, 0, 1]]) @ np.diag([1, 1.2, 3, 1])


def write(path: Path, dtype: str = "int16", affine: np.ndarray = ROTATED) -> Path:
    values = VALUES.astype(dtype)
    match "".join(path.suffixes):
        case ".nii" | ".nii.gz":
            nib.save(nib.Nifti1Image(values, affine, dtype=values.dtype), path)
        case ".hdr" | ".hdr.gz":
            nib.save(nib.Nifti1Pair(values, affine, dtype=values.dtype), path)
        case ".mgh" | ".mgz":
            nib.save(nib.MGHImage(values, affine), path)
        case _:
            image = sitk.GetImageFromArray(values.T)
            lps = np.diag([-1, -1, 1, 1]) @ affine
            spacing = np.linalg.norm(lps[:3, :3], axis=0)
            image.SetSpacing(spacing.tolist())
            image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
            image.SetOrigin(lps[:3, 3].tolist())
            sitk.WriteImage(image, str(path), useCompression=path.stem.endswith("packed"))
    return path


def kinds(path: Path) -> list[str]:
    """The kinds of the notes about a file; those that need no voxel are in its header already."""
    notes = read_volume(path).header.notes
    assert [note for note in notes if note.kind != "NaN background"] == list(read_header(path).notes)
    return [note.kind for note in notes]


def edit_header(path: Path, *changes: tuple[int, bytes]) -> None:
    content = bytearray(path.read_bytes())
    for position, new in changes:
        content[position : position + len(new)] = new
    path.write_bytes(content)


QFORM_CODE, SFORM_CODE, SFORM, QUATERNION = 252, 254, 280, 256

ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".mgh", ".mgz", ".mha", ".mhd", ".nrrd", ".nhdr")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize("ending", [*ENDINGS, "packed.mha", "packed.nrrd"])
def test_every_format_has_the_same_voxels_at_the_same_place(tmp_path: Path, ending: str, dtype: str) -> None:
    path = write(tmp_path / f"x_t1{ending}", dtype)
    volume = read_volume(path)
    assert np.array_equal(volume.values, VALUES)
    assert volume.values.dtype == np.dtype(dtype).newbyteorder(volume.values.dtype.byteorder)
    assert np.allclose(volume.header.affine, ROTATED, atol=1e-4)
    assert np.allclose(volume.header.nifti.get_best_affine(), ROTATED, atol=1e-4)
    assert volume.header.nifti.get_data_dtype() == volume.header.dtype.newbyteorder("=")
    assert same_grid(volume.header, read_header(path))
    assert kinds(path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_segmentation_lies_where_its_image_lies(tmp_path: Path, ending: str) -> None:
    image = write(tmp_path / f"x_t1{ending}")
    path = write_segmentation(tmp_path / "x.nii.gz", VALUES.astype(np.uint8), image)
    segmentation = nib.load(path)
    assert np.allclose(segmentation.affine, ROTATED, atol=1e-4)
    assert np.allclose(segmentation.get_qform(), ROTATED, atol=1e-4)
    assert np.array_equal(segmentation.dataobj, VALUES)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64", "uint16", "int8"])
@pytest.mark.parametrize("ending", [".nii.gz", ".hdr", ".nrrd", ".mha"])
def test_unusual_types_are_read(tmp_path: Path, ending: str, dtype: str) -> None:
    assert np.array_equal(read_volume(write(tmp_path / f"x_t1{ending}", dtype)).values, VALUES)


@pytest.mark.parametrize("axes", ["RAS", "LIA", "PSR"])
def test_permuted_axes_are_read_alike_from_every_format(tmp_path: Path, axes: str) -> None:
    base = nib.Nifti1Image(VALUES.astype(np.int16), np.diag([-1.0, -2, 3, 1]))
    turned = base.as_reoriented(ornt_transform(io_orientation(base.affine), axcodes2ornt(axes)))
    for ending in (".mgz", ".nrrd", ".mha", ".hdr"):
        path = write(tmp_path / f"x{ending}", affine=turned.affine)
        assert nib.aff2axcodes(read_header(path).affine) == tuple(axes)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("after", [(1,), (1, 1)])
def test_axes_of_length_1_after_the_third_are_dropped(tmp_path: Path, ending: str, after: tuple[int, ...]) -> None:
    path = tmp_path / f"x{ending}"
    values = VALUES.astype(np.int16).reshape(SHAPE + after)
    if ending in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(VALUES.astype(np.int16).T[None], isVector=False), str(path))
    else:
        nib.save(nib.Nifti1Image(values, ROTATED), path)
    volume = read_volume(path)
    assert np.array_equal(volume.values, VALUES)
    assert kinds(path)[0] == "one frame"
    saved = write_segmentation(tmp_path / "out.nii.gz", VALUES.astype(np.uint8), path)
    assert nib.load(saved).shape == SHAPE


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 2), (1, 5, 4, 3), (5, 4, 3, 1, 3)])
def test_other_numbers_of_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "x.nii"
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
    for read in (read_header, read_volume):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(shape) in caught.value.problem
        assert ("nib-roi" in caught.value.advice) == (shape == (5, 4, 3, 2))
        assert ("dataobj[0]" in caught.value.advice) == (shape[0] == 1)


@pytest.mark.parametrize("matrix", [0.0, 1e-20, np.nan, np.inf])
def test_a_qform_replaces_an_invalid_sform(tmp_path: Path, matrix: float) -> None:
    path = tmp_path / "x.nii"
    image = nib.Nifti1Image(VALUES.astype(np.int16), ROTATED)
    image.set_qform(ROTATED, 2)
    nib.save(image, path)
    edit_header(path, (SFORM, np.full(12, matrix, "<f4").tobytes()))
    header = read_header(path)
    assert kinds(path) == ["invalid sform"]
    assert np.allclose(header.affine, ROTATED, atol=1e-4)
    saved = nib.load(write_segmentation(tmp_path / "out.nii.gz", VALUES.astype(np.uint8), path))
    for affine, code in (saved.get_sform(coded=True), saved.get_qform(coded=True)):
        assert code == 2
        assert np.allclose(affine, ROTATED, atol=1e-4)


def test_a_sform_without_code_is_not_missed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nii")
    image = nib.load(path)
    image.set_qform(ROTATED, 1)
    image.set_sform(None, 0)
    nib.save(image, path)
    edit_header(path, (SFORM, bytes(48)))
    assert kinds(path) == []
    assert np.allclose(read_header(path).affine, ROTATED, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        [(QFORM_CODE, bytes(4))],
        [(SFORM, bytes(48))],  # its code is set, the qform's is not
        [(SFORM, bytes(48)), (QFORM_CODE, b"\x01\0"), (QUATERNION, np.full(3, np.nan, "<f4").tobytes())],
        [(SFORM_CODE, bytes(2)), (QFORM_CODE, b"\x01\0"), (QUATERNION, np.full(3, 5, "<f4").tobytes())],
    ],
)
def test_the_orientation_of_a_header_without_a_valid_affine_is_a_guess(tmp_path: Path, changes) -> None:
    path = write(tmp_path / "x.nii")
    edit_header(path, *changes)
    assert kinds(path) == ["no affine"]
    assert nib.aff2axcodes(read_header(path).affine) == ("L", "A", "S")
    assert read_header(path).spacing_mm == pytest.approx(np.linalg.norm(ROTATED[:3, :3], axis=0))


def test_analyze_nrrd_and_metaimage_files_can_lack_an_orientation(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(VALUES.astype(np.int16), None), tmp_path / "x.hdr")
    voxels = VALUES.astype("<i2").tobytes(order="F")
    nrrd = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nencoding: raw\nendian: little\n\n"
    (tmp_path / "x.nrrd").write_bytes(nrrd + voxels)
    meta = b"ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "x.mha").write_bytes(meta + voxels)
    for ending in (".hdr", ".nrrd", ".mha"):
        path = tmp_path / f"x{ending}"
        assert kinds(path) == ["no affine"]
        assert np.array_equal(read_volume(path).values, VALUES)
        assert read_header(path).nifti["sform_code"] == read_header(path).nifti["qform_code"] == 0


def test_nan_in_the_corners_is_background_and_elsewhere_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    brain = np.zeros((6, 6, 6), bool)
    brain[1:5, 1:5, 1:5] = True
    all_nan = np.full(brain.shape, np.nan)
    for name, values in (
        ("background", np.where(brain, 7, np.nan)),
        ("hole", np.where(brain, np.nan, 0)),
        ("everything", all_nan),
    ):
        nib.save(nib.Nifti1Image(values.astype(np.float32), ROTATED), path)
        volume = read_volume(path)
        if name == "background":
            assert kinds(path) == ["NaN background"]
            assert np.array_equal(volume.values, np.where(brain, 7, 0))
        else:
            assert kinds(path) == []
            assert np.array_equal(volume.values, values.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("ending", [".hdr", ".mgz", ".mha", "packed.mha", ".mhd", ".nrrd", "packed.nrrd", ".nhdr"])
def test_files_that_end_early_are_refused(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"x{ending}")
    before = set(tmp_path.iterdir())
    voxels = next(iter(before - {path}), path)
    voxels.write_bytes(voxels.read_bytes()[:-20])
    with pytest.raises(DataError):
        read_volume(path)
    if voxels != path:
        voxels.unlink()
        with pytest.raises(DataError):
            read_volume(path)
    for content in (b"", b"<html>404</html>", path.read_bytes()[:40]):
        path.write_bytes(content)
        for read in (read_header, read_volume):
            with pytest.raises(DataError) as caught:
                read(path)
            assert caught.value.subject == str(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_colours_complex_numbers_and_huge_volumes_are_refused_from_the_header(tmp_path: Path, ending: str) -> None:
    colour, numbers, huge = (tmp_path / f"{name}{ending}" for name in ("colour", "complex", "huge"))
    sitk.WriteImage(sitk.Image([5, 4, 3], sitk.sitkVectorUInt8, 3), str(colour))
    if ending == ".nrrd":
        huge.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9999 9999 9999\nencoding: gzip\n\n")
    else:
        huge.write_bytes(
            b"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nCompressedDataSize = 9\n"
            b"DimSize = 9999 9999 9999\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        )
        sitk.WriteImage(sitk.Image([5, 4, 3], sitk.sitkComplexFloat32), str(tmp_path / "complex.mha"))
    tracemalloc.start()
    for path in filter(Path.exists, (colour, numbers, huge)):
        for read in (read_header, read_volume):
            with pytest.raises(DataError):
                read(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_the_voxels_of_an_mgz_file_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mgz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_volume(path)
    path.write_bytes(gzip.compress(gzip.decompress(write(path).read_bytes()) + bytes(1 << 20)))
    with pytest.raises(DataError, match="after the last voxel"):
        read_volume(path)


def test_an_image_of_two_files_needs_both(tmp_path: Path) -> None:
    path = write(tmp_path / "x_t1.hdr")
    (tmp_path / "x_t1.img").rename(tmp_path / "x_t1.IMG")
    assert np.array_equal(read_volume(path).values, VALUES)
    (tmp_path / "x_t1.IMG").unlink()
    for read in (read_header, read_volume):
        with pytest.raises(DataError, match=r"x_t1\.img"):
            read(path)
