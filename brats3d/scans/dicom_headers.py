"""Read the headers of DICOM files. No tag that identifies a patient leaves this module.

Names, identifiers and dates are read only to compare patients, and to remove them from descriptions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.files import walk_folders
from brats3d.scans.extra import import_extra


@dataclass(frozen=True)
class SeriesTags:
    """The description of the sequence in a DICOM header.

    Args:
        number: the series number, if there is one.
        description: the series description without words that identify the patient; may be empty.
        words: series description, protocol name and the scanner's name of the sequence, without such words.
        object_kind: ``"MR Image Storage"`` for images of an MR scanner; DICOM's name of the object otherwise.
        modality: such as ``"MR"`` or ``"CT"``.
        image_type: such as ``("ORIGINAL", "PRIMARY", "M")``.
        scanning: the scanning sequence, such as ``("SE", "IR")``.
        contrast: the contrast agent; empty if there is none.
        echo_ms: echo time; None if it is not stated.
        repetition_ms: repetition time; None if it is not stated.
        inversion_ms: inversion time; None if it is not stated.
    """

    number: int | None = None
    description: str = ""
    words: tuple[str, ...] = ()
    object_kind: str = "MR Image Storage"
    modality: str = "MR"
    image_type: tuple[str, ...] = ()
    scanning: tuple[str, ...] = ()
    contrast: str = ""
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None


@dataclass(frozen=True, eq=False)
class DicomImage:
    """The header of one DICOM file.

    Args:
        path: the file.
        patient: a key that differs between patients; empty if the header states no patient.
        study: a key of the study.
        series: a key of the series.
        tags: what the header states about the sequence.
        compression: name of the compressed transfer syntax; empty if the pixels are not compressed.
        frames: number of images in the file.
        colours: numbers in each pixel: 1, or 3 for RGB.
        shape: columns and rows.
        position: (3,), centre of the first pixel in mm, towards L, P and S; None if it is not stated.
        axes: (2, 3), unit vectors along a row and along a column, towards L, P and S; None if they are not stated.
        spacing_mm: distance between the columns, and between the rows; None if it is not stated.
    """

    path: Path
    patient: str
    study: str
    series: str
    tags: SeriesTags
    compression: str
    frames: int
    colours: int
    shape: tuple[int, int]
    position: np.ndarray | None
    axes: np.ndarray | None
    spacing_mm: tuple[float, float] | None


def read_headers(folder: Path) -> tuple[list[DicomImage], list[Path]]:
    """Read the headers of all DICOM files in a folder and below it, whatever their names.

    Returns:
        The headers, and the DICOM files that cannot be read. A DICOMDIR and files in other formats are skipped.

    Raises:
        UsageError: if there is a DICOM file, but pydicom is not installed.
        DataError: if a folder cannot be listed.
    """
    images, damaged = [], []
    for path in sorted(Path(each) for _, files in walk_folders(folder) for paths in files.values() for each in paths):
        if _is_dicom(path):
            import_extra("pydicom")  # its absence is no damage
            try:
                image = read_image(path)
            except Exception:  # pydicom and struct raise a dozen types for damaged files
                damaged.append(path)
            else:
                images += [image] if image else []
    return images, damaged


def read_image(path: Path) -> DicomImage | None:
    """Read the header of one DICOM file; None for a DICOMDIR. A damaged file raises any exception."""
    with import_extra("pydicom.config").disable_value_validation():  # its warnings quote invalid values
        return _parse(path, import_extra("pydicom").dcmread(path, stop_before_pixels=True, specific_tags=_READ))


def _parse(path: Path, data: Any) -> DicomImage | None:
    if data.file_meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
        return None
    syntax = data.file_meta.TransferSyntaxUID
    axes = _numbers(data, "ImageOrientationPatient", 6)
    rows_columns_mm = _numbers(data, "PixelSpacing", 2)
    return DicomImage(
        path,
        patient=_key(data.get("PatientID") or data.get("PatientName")),
        study=_key(data.get("StudyInstanceUID")),
        series=_key(data.SeriesInstanceUID),
        tags=_series_tags(data, str(data.SOPClassUID.name)),
        compression=syntax.name if syntax.is_compressed else "",
        frames=int(data.get("NumberOfFrames") or 1),
        colours=int(data.get("SamplesPerPixel") or 1),
        shape=(int(data.get("Columns") or 0), int(data.get("Rows") or 0)),
        position=_numbers(data, "ImagePositionPatient", 3),
        axes=None if axes is None else axes.reshape(2, 3),
        spacing_mm=None if rows_columns_mm is None else (rows_columns_mm[1], rows_columns_mm[0]),
    )


_PREAMBLE_BYTES = 128

_DICOMDIR = "1.2.840.10008.1.3.10"


def _is_dicom(path: Path) -> bool:
    """Return True for files with DICOM's mark after the preamble."""
    try:
        if not path.is_file():  # reading a pipe would block
            return False
        with path.open("rb") as file:
            return file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"
    except OSError:
        return False


def _series_tags(data: Any, object_kind: str) -> SeriesTags:
    names = _identifying_words(data)
    description, *others = (_without(names, _text(data, name)) for name in _DESCRIBING)
    echo, repetition, inversion = (_numbers(data, name, 1) for name in ("EchoTime", "RepetitionTime", "InversionTime"))
    number = _numbers(data, "SeriesNumber", 1)
    return SeriesTags(
        None if number is None else int(number[0]),
        description,
        words=tuple(text for text in (description, *others) if text),
        object_kind=object_kind,
        modality=_text(data, "Modality"),
        image_type=_texts(data, "ImageType"),
        scanning=_texts(data, "ScanningSequence"),
        contrast=_without(names, _text(data, "ContrastBolusAgent")),
        echo_ms=None if echo is None else float(echo[0]),
        repetition_ms=None if repetition is None else float(repetition[0]),
        inversion_ms=None if inversion is None else float(inversion[0]),
    )


_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthName",
    "PatientBirthDate",
    "AccessionNumber",
)

_DESCRIBING = ("SeriesDescription", "ProtocolName", "SequenceName")

_READ = [
    *_IDENTIFYING,
    *("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "ImageType", *_DESCRIBING),
    *("ScanningSequence", "ContrastBolusAgent", "EchoTime", "RepetitionTime", "InversionTime"),
    *("NumberOfFrames", "SamplesPerPixel", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
]
"""The elements that are read; it takes 3 ms a file."""


def _key(value: Any) -> str:
    """Return a key that identifies a value without revealing it."""
    text = str(value or "").strip()
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16] if text else ""


def _identifying_words(data: Any) -> set[str]:
    """Return the words of two or more characters in the tags that identify the patient, in lower case."""
    values = (str(value) for name in _IDENTIFYING for value in _listed(data.get(name)))
    return {word.lower() for value in values for word in (value, *re.split(r"[\W_]+", value)) if len(word) > 1}


def _without(names: Iterable[str], text: str) -> str:
    """Return a text without the given words, which may be joined to others by anything but letters."""
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![^\W\d_]){re.escape(name)}(?![^\W\d_])", " ", text, flags=re.IGNORECASE)
    return " ".join(text.split()).strip(" _-,;.")


def _listed(value: Any) -> list[Any]:
    """Return the values of an element as a list; pydicom returns a single one, such as a name, as itself."""
    if value is None:
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _texts(data: Any, name: str) -> tuple[str, ...]:
    return tuple(str(value).strip().upper() for value in _listed(data.get(name)))


def _text(data: Any, name: str) -> str:
    """Return an element as text on one line, without characters that a terminal would interpret."""
    text = " ".join(str(value) for value in _listed(data.get(name)))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _numbers(data: Any, name: str, count: int) -> np.ndarray | None:
    """Return an element with the given count of finite numbers; None for anything else."""
    try:
        numbers = np.array([float(value) for value in _listed(data.get(name))])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None
