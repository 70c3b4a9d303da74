"""A raw scan: one sequence of a patient as acquired."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brats3d.files import Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """One sequence of a patient as acquired.

    Args:
        modality: ``"t1"``, ``"t1ce"``, ``"t2"`` or ``"flair"``.
        volume: voxels and header. The affine is that of nibabel (RAS, in mm); the path is the file, or the first file
            of the DICOM series.
        description: the series description or the file name, for messages; never a patient's name.
        dicom_files: the files of the DICOM series, in the order of the volume's last axis; empty for other formats.
    """

    modality: str
    volume: Volume
    description: str
    dicom_files: tuple[Path, ...] = ()
