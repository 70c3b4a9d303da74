"""Write DICOM studies of MR series from NumPy volumes, with any geometry, as a scanner would export them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy.spatial.transform import Rotation

DESCRIPTIONS = {"t1": "AX T1", "t1ce": "AX T1 POST", "t2": "AX T2 TSE", "flair": "AX FLAIR"}

TAGS: Mapping[str, Mapping[str, Any]] = {
    "t1": {"EchoTime": 9, "RepetitionTime": 600},
    "t1ce": {"EchoTime": 9, "RepetitionTime": 600, "ContrastBolusAgent": "Gadobutrol"},
    "t2": {"EchoTime": 100, "RepetitionTime": 4500},
    "flair": {"EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500, "ScanningSequence": ["SE", "IR"]},
}
"""How a scanner describes each sequence."""


def oblique_affine(spacing_mm: tuple[float, float, float] = (1.0, 1.2, 3.0), degrees: float = 20) -> np.ndarray:
    """Return a voxel -> RAS affine of axial slices that are tilted about all three axes."""
    affine = np.eye(4)
    axes = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix()
    affine[:3, :3] = axes @ np.diag([-1.0, -1.0, 1.0]) @ np.diag(spacing_mm)
    affine[:3, 3] = 31.5, 42.25, -17.75
    return affine


def write_study(
    folder: Path, images: Mapping[str, tuple[np.ndarray, np.ndarray]], **tags: Any
) -> dict[str, list[Path]]:
    """Write one series per sequence, all of one patient and one study, each in a folder of its own.

    Args:
        folder: the folder of the study.
        images: modality -> values (x, y, z) and voxel -> RAS affine.
        tags: DICOM attributes of every series.

    Returns:
        modality -> files in the order of z.
    """
    return {
        modality: write_series(
            folder / f"series{n}", *image, DESCRIPTIONS[modality], **{"SeriesNumber": n, **TAGS[modality], **tags}
        )
        for n, (modality, image) in enumerate(images.items(), 1)
    }


def write_series(folder: Path, values: np.ndarray, affine: np.ndarray, description: str, **tags: Any) -> list[Path]:
    """Write a DICOM series of single-frame MR images.

    Args:
        folder: its folder, made if it does not exist. The names of the files say nothing about their order.
        values: shape (x, y, z), whole numbers from 0 to 65535; a slice of z is an image.
        affine: voxel -> RAS in mm, as nibabel's.
        description: the series description.
        tags: DICOM attributes of all images, such as ``ContrastBolusAgent``, ``PatientName`` or ``RescaleSlope``; None
            leaves an attribute out.

    Returns:
        The files in the order of z.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series_uid = tags.get("SeriesInstanceUID") or generate_uid(entropy_srcs=[str(folder), description])
    files = []
    for z in range(values.shape[2]):
        image = _image(values[..., z], affine @ [0, 0, z, 1], affine, tags | {"SeriesInstanceUID": series_uid})
        image.SeriesDescription = description
        image.InstanceNumber = z + 1
        files.append(folder / f"{7919 * (z + 1) % 10007:05d}-{image.SOPInstanceUID[-8:]}")
        image.save_as(files[-1], enforce_file_format=True)
    return files


def _image(values: np.ndarray, position_ras: np.ndarray, affine: np.ndarray, tags: Mapping[str, Any]) -> FileDataset:
    """Return the image of one slice, of shape (x, y)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    uid = generate_uid(entropy_srcs=[tags["SeriesInstanceUID"], str(position_ras), str(values.tobytes()[:64])])
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    axes_lps = np.diag([-1, -1, 1]) @ affine[:3, :3] / spacing_mm
    attributes = {
        **_PATIENT_AND_STUDY,
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": uid,
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "SeriesNumber": 1,
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTrainLength": 1,
        "SliceThickness": f"{spacing_mm[2]:.6g}",
        "ImagePositionPatient": [f"{v:.8g}" for v in np.multiply(position_ras[:3], [-1, -1, 1])],
        "ImageOrientationPatient": [f"{v:.8g}" for v in axes_lps.T[:2].ravel()],
        "PixelSpacing": [f"{spacing_mm[1]:.8g}", f"{spacing_mm[0]:.8g}"],  # between rows, then between columns
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": values.shape[1],
        "Columns": values.shape[0],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": np.ascontiguousarray(values.T, dtype="<u2").tobytes(),
        **tags,
    }
    for name, value in attributes.items():
        if value is not None:
            setattr(image, name, value)
    return image


_PATIENT_AND_STUDY = {
    "PatientName": "Roe^Jane",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19500228",
    "PatientSex": "F",
    "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
    "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame of reference"]),
    "StudyID": "1",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "AccessionNumber": "0815",
    "ReferringPhysicianName": "",
    "Manufacturer": "brats3d tests",
    "PositionReferenceIndicator": "",
}
