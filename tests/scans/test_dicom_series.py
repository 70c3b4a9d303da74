"""DICOM series: order of slices, geometry and values as SimpleITK and nibabel read them; series that are refused."""

from __future__ import annotations

import locale
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from nibabel.nicom.dicomwrappers import wrapper_from_file
from pydicom.uid import EnhancedMRImageStorage, JPEGLSLossless, RLELossless

from brats3d.errors import DataError, UsageError
from brats3d.scans.dicom_headers import read_headers
from brats3d.scans.dicom_series import DicomSeries, group_series, read_series, stack_slices
from tests.scans.dicom_study import oblique_affine, write_series

VALUES = np.random.default_rng(0).integers(0, 4000, (6, 5, 8))
AFFINE = oblique_affine()
LPS = np.diag([-1, -1, 1, 1])


def only_series(folder: Path) -> DicomSeries:
    (series,) = group_series(read_headers(folder)[0])
    return series


def problem_of(folder: Path) -> DataError:
    """Return the error of the only series of a folder, which must be one line."""
    with pytest.raises(DataError) as caught:
        read_series(only_series(folder))
    assert "\n" not in str(caught.value)
    return caught.value


def edit(files: list[Path], change: Callable[[int, pydicom.Dataset], object]) -> None:
    for z, file in enumerate(files):
        data = pydicom.dcmread(file)
        change(z, data)
        data.save_as(file)


@pytest.mark.parametrize("affine", [AFFINE, np.diag([-1.0, -1, 2, 1]), np.diag([1.0, 1, 2, 1])[[2, 0, 1, 3]]])
def test_a_series_has_the_affine_and_the_values_that_it_was_written_with(tmp_path: Path, affine: np.ndarray) -> None:
    files = write_series(tmp_path, VALUES, affine, "AX T1")
    volume, stack = read_series(only_series(tmp_path))
    upwards = np.linalg.det(affine) > 0  # slices are sorted along the normal, as those of SimpleITK
    assert stack.files == tuple(files if upwards else files[::-1])
    assert np.array_equal(volume.values, VALUES if upwards else VALUES[..., ::-1])
    flip = np.eye(4) if upwards else np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 7], [0, 0, 0, 1]])
    assert np.allclose(volume.header.affine, affine @ flip, atol=1e-5)
    assert not volume.values.flags.writeable and volume.values.dtype == np.float32


def test_the_geometry_is_that_of_simpleitk_and_nibabel(tmp_path: Path) -> None:
    write_series(tmp_path, VALUES, AFFINE, "AX T1", RescaleSlope="0.5", RescaleIntercept="-3")
    volume, stack = read_series(only_series(tmp_path))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    assert np.allclose(sitk.GetArrayFromImage(image).T, volume.values)
    assert np.allclose(volume.values, VALUES * 0.5 - 3)
    for voxel in ([0, 0, 0], [5, 4, 7], [1, 2, 3]):
        point_lps = image.TransformIndexToPhysicalPoint(voxel)
        assert np.allclose(LPS @ volume.header.affine @ [*voxel, 1], [*point_lps, 1], atol=1e-4)
    wrapper = wrapper_from_file(stack.files[2])
    rows_first = np.eye(4)[[1, 0, 2, 3]]  # nibabel's first axis runs along a column
    shift = np.eye(4)
    shift[2, 3] = 2
    assert np.allclose(
        wrapper.affine[:, [0, 1, 3]], (LPS @ volume.header.affine @ shift @ rows_first)[:, [0, 1, 3]], atol=1e-4
    )


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels_are_decoded(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (64, 60, 2))
    files = write_series(tmp_path, values, AFFINE, "AX T1")
    edit(files, lambda z, data: data.compress(syntax, generate_instance_uid=False))
    assert np.array_equal(read_series(only_series(tmp_path))[0].values, values)


def test_a_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, VALUES, AFFINE, "AX T1")

    def change(z: int, data: pydicom.Dataset) -> None:
        data.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
        data.PixelData = pydicom.encaps.encapsulate([bytes(100)])
        data["PixelData"].is_undefined_length = True

    edit(files, change)
    error = problem_of(tmp_path)
    assert "High-Throughput JPEG 2000" in error.problem
    assert "without compression" in error.advice


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, VALUES, AFFINE, "AX T1")
    files[3].write_bytes(files[3].read_bytes()[:-10])
    assert f"ends early or is damaged: {files[3].name}" in problem_of(tmp_path).problem


def test_a_file_that_ends_within_the_header_is_returned_as_damaged(tmp_path: Path) -> None:
    files = write_series(tmp_path, VALUES, AFFINE, "AX T1")
    files[3].write_bytes(files[3].read_bytes()[:400])
    (tmp_path / "notes.txt").write_text("not DICOM")
    images, damaged = read_headers(tmp_path)
    assert (len(images), damaged) == (7, [files[3]])


def test_missing_slices_are_counted(tmp_path: Path) -> None:
    files = write_series(tmp_path, VALUES, AFFINE, "AX T1")
    for file in (files[2], files[3], files[5]):
        file.unlink()
    assert "lacks 3 of 8 slices, which are 3 mm apart" in problem_of(tmp_path).problem


def test_two_acquisitions_in_one_series_are_refused(tmp_path: Path) -> None:
    for n in (1, 2):
        write_series(tmp_path / str(n), VALUES + n, AFFINE, "AX T1", SeriesInstanceUID="1.2.3")
    error = problem_of(tmp_path)
    assert "several images at 8 of its 8 positions" in error.problem
    assert "dcm2niix" in error.advice


def test_uneven_distances_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, VALUES, np.diag([-1.0, -1, 3, 1]), "AX T1")

    def change(z: int, data: pydicom.Dataset) -> None:
        data.ImagePositionPatient = [0, 0, 3 * z + 1.2 * (z > 4)]

    edit(files, change)
    assert "uneven distances, from 3 to 4.2 mm" in problem_of(tmp_path).problem


def test_positions_that_are_rounded_are_even(tmp_path: Path) -> None:
    files = write_series(tmp_path, VALUES, np.diag([-1.0, -1, 1.25, 1]), "AX T1")
    edit(files, lambda z, data: setattr(data, "ImagePositionPatient", [0, 0, round(1.25 * z, 1)]))
    assert stack_slices(only_series(tmp_path)).spacing_mm[2] == pytest.approx(1.25, abs=0.02)


def test_gantry_tilt_is_stated_in_degrees(tmp_path: Path) -> None:
    sheared = np.diag([-1.0, -1, 3, 1])
    sheared[1, 2] = 3 * np.tan(np.radians(12))
    write_series(tmp_path, VALUES, sheared, "AX T1")
    assert "gantry tilt of 12.0 degrees" in problem_of(tmp_path).problem


def test_planes_of_several_directions_are_no_volume(tmp_path: Path) -> None:
    for n, degrees in enumerate((0, 90)):
        affine = oblique_affine(degrees=degrees)
        write_series(tmp_path / str(n), VALUES, affine, "plan", SeriesInstanceUID="1.2.3")
    assert "localiser" in problem_of(tmp_path).problem


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"NumberOfFrames": 8}, "several frames in one file"),
        ({"SOPClassUID": EnhancedMRImageStorage}, "several frames in one file"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "coloured pixels"),
        ({"ImagePositionPatient": None}, "without a place in space"),
        ({"PixelSpacing": None}, "without a place in space"),
    ],
)
def test_images_that_are_no_slices_in_grey_are_refused(tmp_path: Path, tags: dict[str, object], problem: str) -> None:
    write_series(tmp_path, VALUES, AFFINE, "AX T1", **tags)
    assert problem in problem_of(tmp_path).problem


def test_slices_of_several_sizes_and_a_single_slice_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, "AX T1", SeriesInstanceUID="1.2.3")
    far = AFFINE.copy()
    far[:3, 3] += 8 * AFFINE[:3, 2]
    write_series(tmp_path / "b", VALUES[:5], far, "AX T1", SeriesInstanceUID="1.2.3")
    assert "several sizes" in problem_of(tmp_path).problem
    write_series(tmp_path / "one", VALUES[..., :1], AFFINE, "AX T1", SeriesInstanceUID="1.2.3")
    assert "only one slice" in problem_of(tmp_path / "one").problem


@pytest.mark.parametrize("description", ["AX T1 Roe", "ROE_JANE AX T1 MRN-4711", "jane AX T1 19500228"])
def test_words_that_identify_the_patient_are_removed_from_descriptions(
    tmp_path: Path, description: str, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    write_series(tmp_path, VALUES[..., ::7], AFFINE, description, ProtocolName="Jane Roe T1", PatientBirthName="Doe")
    series = only_series(tmp_path)
    assert series.name == "series 1 'AX T1'"
    assert series.tags.words[-1] == "T1"
    assert not re.search(r"roe|jane|4711|1950", repr(series.tags) + caplog.text, re.IGNORECASE)


def test_a_description_that_is_only_a_name_is_replaced_by_the_number(tmp_path: Path) -> None:
    write_series(tmp_path, VALUES, AFFINE, "Roe, Jane", SeriesNumber=12)
    assert only_series(tmp_path).name == "series 12"


def test_invalid_tags_are_neither_errors_nor_warnings_that_quote_them(tmp_path: Path, recwarn) -> None:
    files = write_series(tmp_path, VALUES, AFFINE, "AX T1", StudyInstanceUID="1.2.4711")
    for file in files:
        file.write_bytes(file.read_bytes().replace(b"1.2.4711", b"MRN-4711"))
    recwarn.clear()
    read_series(only_series(tmp_path))
    assert not [warning for warning in recwarn if "4711" in str(warning.message)]


def test_dicom_files_without_pydicom_are_wrong_use_and_not_damaged(tmp_path: Path, monkeypatch) -> None:
    write_series(tmp_path, VALUES, AFFINE, "AX T1")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"brats3d\[scans\]"):
        read_headers(tmp_path)


@pytest.fixture
def same_locale() -> Iterator[None]:
    """Restore the locale, which GDCM sets to C when it writes a compressed file."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("same_locale")
@pytest.mark.parametrize(("compressor", "name"), [("JPEG", "JPEG Lossless"), ("JPEG2000", "JPEG 2000")])
def test_jpeg_is_decoded(tmp_path: Path, compressor: str, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (64, 60, 2))
    files = write_series(tmp_path / "series", values, AFFINE, "AX T1")
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "compressed.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    for file in files:
        writer.Execute(sitk.ReadImage(str(file)))
        compressed, data = pydicom.dcmread(tmp_path / "compressed.dcm"), pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
        data.PixelData = compressed.PixelData
        data["PixelData"].is_undefined_length = True
        data.save_as(file)
    series = only_series(tmp_path / "series")
    assert name in series.images[0].compression
    assert np.array_equal(read_series(series)[0].values, values)
