"""Write a segmentation as a DICOM SEG object that refers to the series it was made from.

The segments have the codes of DICOM's CID 7168, "Brain Lesion Segmentation Types With Necrosis"
(https://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_7168.html).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d import __version__
from brats3d.files import Volume, Writer, format_affine, make_header, to_grid, write_whole
from brats3d.labels import REGION_COLOURS, REGIONS_TO_READ, LabelConvention, get_convention
from brats3d.scans.dicom_headers import read_image
from brats3d.scans.dicom_series import DicomSeries, stack_slices
from brats3d.scans.extra import import_extra


@dataclass(frozen=True)
class Segment:
    """A segment of the object: the part of a region that lies in no smaller region.

    Args:
        name: its name for people.
        code: value, coding scheme and meaning of its property type.
    """

    name: str
    code: tuple[str, str, str]


SEGMENTS: Mapping[str, Segment] = {
    "TC": Segment("Necrotic and non-enhancing tumour core", ("6574001", "SCT", "Necrosis")),
    "WT": Segment("Edema", ("79654002", "SCT", "Edema")),
    "ET": Segment("Enhancing tumour", ("C113842", "NCIt", "Enhancing Lesion")),
}
"""Region -> segment, in the order of the segment numbers 1, 2, 3, which are also BraTS 2023's labels."""


def write_dicom_seg(
    path: str | Path,
    label: np.ndarray,
    affine: np.ndarray,
    dicom_files: Sequence[Path],
    convention: str,
    parameters: Mapping[str, str] | None = None,
    write: Writer = write_whole,
) -> Path:
    """Write a segmentation as a binary DICOM SEG with the segments of :data:`SEGMENTS`.

    Each pixel gets the label at its position in space, whatever the order of the files and of the label's axes.
    Patient and study are copied from the series: a de-identified series gives a de-identified object. Slices without
    tumour are not stored, unless there is no tumour at all.

    Args:
        path: the file.
        label: voxel values, shape (x, y, z), on the grid of the series. Values outside all regions, such as a
            resection cavity, are not written.
        affine: (4, 4), voxel index of the label -> RAS mm.
        dicom_files: the files of the series, one for each slice.
        convention: name of the label convention of the values.
        parameters: further facts about the algorithm to record, such as the digest of the weights.
        write: writes the file.

    Returns:
        The path.

    Raises:
        DataError: if the series is no volume, has another grid than the label, or lacks something that an object must
            refer to, such as the UID of its study.
        UsageError: if the convention is unknown, or if highdicom is not installed.
    """
    pydicom = import_extra("pydicom")
    known = get_convention(convention)
    series = DicomSeries(tuple(image for image in map(read_image, dicom_files) if image))
    stack = stack_slices(series)
    volume = Volume(make_header(Path(path), label.shape, affine, label.dtype), label)
    on_series = to_grid(volume, make_header(series.folder, stack.shape, stack.affine, label.dtype))
    if on_series is None:
        expected = f"{label.shape} at {format_affine(affine)}"
        raise series.error("has another grid than the segmentation", expected=expected)
    numbers = np.zeros(256, np.uint8)
    for region in REGIONS_TO_READ:  # outermost first, so that the innermost wins
        numbers[list(known.regions[region])] = list(SEGMENTS).index(region) + 1
    with _without_patient_names():
        slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in stack.files]
        _complete(slices, stack.spacing_mm[2])
        try:
            content = _dicom_seg(slices, numbers[on_series].T, known, dict(parameters or {}))
        except (AttributeError, TypeError, ValueError) as error:  # its text may quote the patient's attributes
            lacks = f"lacks {error.name}" if isinstance(error, AttributeError) else "has invalid attributes"
            raise series.error(f"{lacks}, so that no DICOM SEG can refer to it") from error
        return write(Path(path), content.save_as)


def _complete(slices: list[Any], distance_mm: float) -> None:
    """Bring the attributes of slices into the form that highdicom needs.

    Attributes that may be empty may also be missing, but readers need a thickness. The orientation may be rounded
    differently in each slice. highdicom measures the distance of slices; some scanners write the gap between them.
    """
    for header in slices:
        for keyword in _MAY_BE_EMPTY:
            header.setdefault(keyword, None)
        header.SliceThickness = header.get("SliceThickness") or round(float(distance_mm), 4)
        header.ImageOrientationPatient = slices[0].ImageOrientationPatient
        header.pop("SpacingBetweenSlices", None)


def _dicom_seg(slices: list[Any], planes: np.ndarray, convention: LabelConvention, parameters: dict[str, str]) -> Any:
    """Return highdicom's object for planes of segment numbers, shape (slices, rows, columns)."""
    hd = import_extra("highdicom")
    family = hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
    algorithm = hd.AlgorithmIdentificationSequence("brats3d", family, __version__, parameters=parameters or None)
    values = ", ".join(f"{value} {name}" for value, name in convention.labels.items())
    verbatim = {keyword: slices[0][keyword].value for keyword in _VERBATIM}
    slices[0].update(dict.fromkeys(verbatim))
    content = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe_segment(region, algorithm) for region in SEGMENTS],
        series_instance_uid=hd.UID(),
        series_number=int(slices[0].SeriesNumber or 0) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="brats3d",
        manufacturer_model_name="brats3d",
        software_versions=__version__,
        device_serial_number="none",  # required, but software has none
        content_label="BRAIN_TUMOUR",
        content_description=f"{convention.name}: {values}",
        series_description="Brain tumour segmentation",
        omit_empty_frames=bool(planes.any()),
    )
    content.ContentCreatorName = None  # required, but nobody's
    content.update(verbatim)
    return content


def _describe_segment(region: str, algorithm: Any) -> Any:
    """Return the description of the segment of a region."""
    hd = import_extra("highdicom")
    segment = SEGMENTS[region]
    return hd.seg.SegmentDescription(
        segment_number=list(SEGMENTS).index(region) + 1,
        segment_label=segment.name,
        segmented_property_category=hd.sr.CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure"),
        segmented_property_type=hd.sr.CodedConcept(*segment.code),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=hd.UID(),
        tracking_id=segment.name,
        anatomic_regions=[hd.sr.CodedConcept("12738006", "SCT", "Brain")],
        display_color=hd.color.CIELabColor.from_string(REGION_COLOURS[region]),
    )


@contextmanager
def _without_patient_names() -> Iterator[None]:
    """Silence the warnings of highdicom and pydicom, which quote attributes of the patient."""
    loggers = [logging.getLogger(name) for name in ("highdicom", "pydicom")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "SeriesNumber",
)
"""Attributes that must be present but may be empty (type 2). De-identified files may lack them."""

_VERBATIM = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
"""Attributes that are copied as they are. highdicom refuses invalid values, which de-identified files often have."""
