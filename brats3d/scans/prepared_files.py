"""The folder of a prepared case: images, transforms, a picture for checking, and a record of what was done."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from brats3d import __version__
from brats3d.errors import DataError
from brats3d.files import flush_file, read_json, whole_folder, write_json, write_nifti
from brats3d.scans.atlas_space import ATLAS_NAME
from brats3d.scans.check_picture import save_check_picture
from brats3d.scans.itk_images import Grid
from brats3d.scans.preparation import PreparedCase, PreparedSequence

PREPARATION_NAME = "preparation.json"
"""The record in the folder of a prepared case."""


@dataclass(frozen=True, eq=False)
class NativeSpace:
    """The space of a raw scan.

    Args:
        grid: the grid of the raw scan.
        transform: SimpleITK transform, points of the prepared case -> points of the raw scan; None if nothing moved.
    """

    grid: Grid
    transform: Any


def write_prepared(folder: Path, case_id: str, case: PreparedCase, source: str = "") -> None:
    """Write a prepared case in BraTS 2020's layout. The folder appears whole or not at all.

    Args:
        folder: the folder to create.
        case_id: the case.
        case: its content.
        source: a digest of the raw files.

    Raises:
        FileExistsError: if the folder exists by now.
        OSError: if it cannot be written.
    """
    import SimpleITK as sitk

    with whole_folder(folder) as hidden:
        for modality, sequence in case.sequences.items():
            write_nifti(hidden / f"{case_id}_{modality}.nii.gz", sequence.values, case.grid.affine)
            if sequence.transform is not None:
                sitk.WriteTransform(sequence.transform, str(path := hidden / _transform_name(case_id, modality)))
                flush_file(path)
        if case.inside is not None:
            save_check_picture(hidden / f"{case_id}_check.png", case_id, case, case.inside)
        write_json(hidden / PREPARATION_NAME, _describe(case_id, case) | {"source": source})


def read_source(folder: Path) -> str:
    """Return the digest of the raw files that a case was prepared from; empty if the folder has no such record."""
    try:
        return str(read_json(folder / PREPARATION_NAME)["source"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def read_native_spaces(folder: Path) -> dict[str, NativeSpace]:
    """Read the space of each raw scan of a prepared case, by modality.

    Raises:
        DataError: if the folder has no readable record.
    """
    import SimpleITK as sitk

    record = folder / PREPARATION_NAME
    try:
        return {
            modality: NativeSpace(
                Grid(tuple(sequence["native_shape"]), np.array(sequence["native_affine"], float)),
                sequence["transform"] and sitk.ReadTransform(str(folder / sequence["transform"])),
            )
            for modality, sequence in read_json(record)["sequences"].items()
        }
    except FileNotFoundError:
        advice = "pass the folder of a case that brats3d prepare wrote"
        raise DataError(folder, f"contains no {PREPARATION_NAME}", advice=advice) from None
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DataError(record, f"is damaged ({error})", advice="prepare the case again") from error


def _describe(case_id: str, case: PreparedCase) -> dict[str, Any]:
    """Return the content of the record. It holds no path, since folders are often named for patients."""
    mask = case.mask
    libraries = ["SimpleITK", "nilearn", *(["deepbet"] if mask and mask.method == "deepbet" else [])]
    return {
        "brats3d": __version__,
        "case_id": case_id,
        "condition": case.condition.describe(),
        "space": f"BraTS's grid, {ATLAS_NAME}" if case.atlas_dice is not None else "as before",
        "brain_mask": mask and {"from": mask.modality, "method": mask.method, "volume_ml": round(mask.volume_ml, 1)},
        "atlas_dice": case.atlas_dice and round(case.atlas_dice, 4),
        "sequences": {m: _describe_sequence(case_id, m, sequence) for m, sequence in case.sequences.items()},
        "versions": {name: version(name) for name in libraries},
    }


def _describe_sequence(case_id: str, modality: str, sequence: PreparedSequence) -> dict[str, Any]:
    native, found = sequence.scan.volume.header, sequence.registration
    quality = (
        {
            "mutual_information": round(found.mutual_information, 4),
            "lost_when_moved": round(found.lost_when_moved, 4),
        }
        if found
        else None
    )
    return {
        "description": sequence.scan.description,
        "native_shape": list(native.shape),
        "native_affine": native.affine.tolist(),
        "native_spacing_mm": [round(mm, 4) for mm in native.spacing_mm],
        "transform": None if sequence.transform is None else _transform_name(case_id, modality),
        "registration": quality,
    }


def _transform_name(case_id: str, modality: str) -> str:
    return f"{case_id}_{modality}.tfm"
