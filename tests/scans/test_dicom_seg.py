"""Segmentations as DICOM SEG: every voxel at its place, codes, and no patient in logs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from nibabel.orientations import apply_orientation, inv_ornt_aff
from pydicom.sr.codedict import codes

from brats3d.errors import DataError
from brats3d.scans import write_dicom_seg
from tests.scans.dicom_study import oblique_affine, write_series

SHAPE = (6, 5, 4)
GRIDS = {
    "axial": np.array([[-0.9, 0, 0, 80], [0, -0.8, 0, 90], [0, 0, 5, -60], [0, 0, 0, 1]]),
    "axial, downwards": np.array([[-0.9, 0, 0, 80], [0, -0.8, 0, 90], [0, 0, -5, 60], [0, 0, 0, 1]]),
    "sagittal": np.array([[0, 0, -5.0, 70], [-0.9, 0, 0, 80], [0, -0.8, 0, 90], [0, 0, 0, 1]]),
    "oblique": oblique_affine(),
}
"""Affines of series, from column, row and slice to RAS mm."""

DCMQI = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
"""The reader of DICOM SEG of the package dcmqi, if it is installed."""

AXES = {"those of the series": [[0, 1], [1, 1], [2, 1]], "swapped and flipped": [[2, 1], [0, -1], [1, -1]]}


def source_series(folder: Path, affine: np.ndarray, **tags: Any) -> list[Path]:
    return write_series(folder, np.zeros(SHAPE, np.uint16), affine, "AX T1 POST", **tags)


def read_labels(path: Path, files: list[Path]) -> np.ndarray:
    """Return the labels (brats2023) of a DICOM SEG on the grid of the series, shape SHAPE."""
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    content = hd.seg.segread(path)
    planes = content.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    return planes.transpose(2, 1, 0)


@pytest.fixture
def label() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 3], SHAPE).astype(np.uint8)


@pytest.mark.parametrize("affine", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_every_voxel_keeps_its_place_whatever_the_axes_and_the_order_of_files(tmp_path, label, affine, axes):
    files = source_series(tmp_path / "series", affine)
    turned = apply_orientation(label, axes)
    turned_affine = affine @ inv_ornt_aff(axes, SHAPE)
    path = write_dicom_seg(tmp_path / "a.dcm", turned, turned_affine, files[::-1], "brats2023")
    assert np.array_equal(read_labels(path, files), label)
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    where = np.argwhere(label)
    lps = apply_affine(np.diag([-1, -1, 1, 1]) @ affine, where)
    index = np.rint(volume.map_reference_to_indices(lps)).astype(int)
    assert np.array_equal(volume.array[tuple(index.T)], label[tuple(where.T)])
    assert np.count_nonzero(volume.array) == len(where)


@pytest.mark.parametrize(
    ("convention", "segments"),
    [
        ("brats2020", {1: 1, 2: 2, 4: 3}),
        ("decathlon", {1: 2, 2: 1, 3: 3}),
        ("brats2024-ped", {1: 3, 2: 1, 3: 1, 4: 2}),
        ("brats2024-gli", {1: 1, 2: 2, 3: 3, 4: 0}),
        ("hd-glio", {1: 2, 2: 3}),
    ],
)
def test_the_segments_are_core_edema_and_enhancing_tumour_in_every_convention(tmp_path, convention, segments):
    files = source_series(tmp_path / "series", GRIDS["axial"])
    label, expected = np.zeros((2, *SHAPE), np.uint8)
    for x, (value, segment) in enumerate(segments.items()):
        label[x], expected[x] = value, segment
    path = write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, convention)
    assert np.array_equal(read_labels(path, files), expected)
    assert pydicom.dcmread(path).ContentDescription.startswith(f"{convention}: 1 ")


def test_codes_colours_and_algorithm_are_recorded(tmp_path, label):
    files = source_series(tmp_path / "series", GRIDS["axial"], SeriesNumber=7)
    path = write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, "brats2023", {"weights": "abc"})
    content = hd.seg.segread(path)
    segments = [content.get_segment_description(number) for number in content.segment_numbers]
    types = [codes.cid7168.Necrosis, codes.cid7168.Edema, codes.cid7168.EnhancingLesion]
    assert [segment.segmented_property_type for segment in segments] == types
    colours = [
        hd.color.CIELabColor.from_dicom_value(each.RecommendedDisplayCIELabValue).to_rgb(clip=True) for each in segments
    ]
    expected = [(0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9), (0xCC, 0x79, 0xA7)]  # Okabe and Ito: orange, sky blue, purple
    assert np.abs(np.subtract(colours, expected)).max() <= 1
    for segment in segments:
        assert segment.segmented_property_category == codes.cid7150.MorphologicallyAbnormalStructure
        assert segment.anatomic_regions == [codes.SCT.Brain]
        algorithm = segment.algorithm_identification
        assert (algorithm.name, algorithm.family) == ("brats3d", codes.cid7162.ArtificialIntelligence)
        assert algorithm.parameters == {"weights": "abc"}
    assert len({segment.tracking_uid for segment in segments}) == 3
    assert content.SeriesNumber == 1007


def test_no_tumour_gives_three_empty_segments(tmp_path):
    files = source_series(tmp_path / "series", GRIDS["axial"])
    path = write_dicom_seg(tmp_path / "a.dcm", np.zeros(SHAPE, np.uint8), GRIDS["axial"], files, "brats2020")
    assert hd.seg.segread(path).segment_numbers == [1, 2, 3]
    assert not read_labels(path, files).any()


def test_patient_and_study_are_copied_as_they_are_but_never_logged(tmp_path, label, caplog, recwarn):
    tags = {
        "PatientName": "Secretname",  # highdicom expects a caret
        "PatientBirthDate": "00000000",
        "PatientSex": "U",
        "StudyTime": "10:11",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "by hand",
    }
    files = source_series(tmp_path / "series", GRIDS["axial"], **tags)
    caplog.clear()
    recwarn.clear()
    path = write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, "brats2023")
    assert not caplog.records and not recwarn.list
    content, source = pydicom.dcmread(path), pydicom.dcmread(files[0])
    for keyword in (*tags, "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert content[keyword].value == source[keyword].value
    assert not content.ContentCreatorName


def test_rounding_of_positions_and_orientations_is_tolerated(tmp_path, label):
    files = source_series(tmp_path / "series", GRIDS["axial"], SpacingBetweenSlices=1)
    for k, file in enumerate(files):
        header = pydicom.dcmread(file)
        header.ImageOrientationPatient = [1, k * 1e-5, 0, 0, 1, 0]
        header.ImagePositionPatient = [-80, -90, -60 + 5 * k + 0.1 * (k == 1)]
        header.save_as(file)
    path = write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, "brats2023")
    assert np.array_equal(read_labels(path, files), label)
    assert "SpacingBetweenSlices" not in str(pydicom.dcmread(path).SharedFunctionalGroupsSequence)


@pytest.mark.parametrize("affine", [GRIDS["axial"] @ np.diag([1, 1, 1.1, 1]), GRIDS["sagittal"]], ids=["z", "axes"])
def test_another_grid_is_refused(tmp_path, label, affine):
    files = source_series(tmp_path / "series", GRIDS["axial"])
    with pytest.raises(DataError) as caught:
        write_dicom_seg(tmp_path / "a.dcm", label, affine, files, "brats2023")
    assert "another grid" in caught.value.problem
    assert not (tmp_path / "a.dcm").exists()


def test_a_series_that_lacks_slices_is_refused(tmp_path, label):
    files = source_series(tmp_path / "series", GRIDS["axial"])
    for subset, problem in ((files[:-1], "another grid"), (files[:1] + files[2:], "lacks 1 of 4 slices")):
        with pytest.raises(DataError) as caught:
            write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], subset, "brats2023")
        assert problem in caught.value.problem


def test_a_series_without_study_is_refused_and_nothing_written(tmp_path, label):
    files = source_series(tmp_path / "series", GRIDS["axial"], StudyInstanceUID=None)
    with pytest.raises(DataError) as caught:
        write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, "brats2023")
    assert caught.value.subject == str(tmp_path / "series") and "lacks StudyInstanceUID" in caught.value.problem
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_attributes_that_may_be_empty_may_be_missing(tmp_path, label):
    missing = dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "StudyID", "SliceThickness"))
    files = source_series(tmp_path / "series", GRIDS["axial"], **missing)
    path = write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, "brats2023")
    assert np.array_equal(read_labels(path, files), label)
    assert not pydicom.dcmread(path).PatientName


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs dciodvfy, of Debian's dicom3tools")
@pytest.mark.parametrize("is_empty", [False, True], ids=["tumour", "no tumour"])
def test_dciodvfy_finds_no_errors(tmp_path, label, is_empty):
    files = source_series(tmp_path / "series", GRIDS["oblique"])
    path = write_dicom_seg(tmp_path / "a.dcm", label * (not is_empty), GRIDS["oblique"], files, "brats2023")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=True)
    assert "Error" not in done.stderr and "Segmentation" in done.stderr


@pytest.mark.skipif(not DCMQI, reason="needs segimage2itkimage: pip install dcmqi")
def test_dcmqi_reads_the_same_voxels(tmp_path, label):
    import SimpleITK

    files = source_series(tmp_path / "series", GRIDS["axial"])
    path = write_dicom_seg(tmp_path / "a.dcm", label, GRIDS["axial"], files, "brats2023")
    arguments = ["--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", "nii", "--mergeSegments"]
    subprocess.run([DCMQI, *arguments], capture_output=True, check=True)
    image = SimpleITK.ReadImage(str(tmp_path / "1.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, label)
    assert np.allclose(image.GetOrigin(), [-80, -90, -60], atol=1e-3)
