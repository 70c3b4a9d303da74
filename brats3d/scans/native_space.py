"""Bring a segmentation of a prepared case back into the space of one of its raw scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from brats3d.cases import region_volumes_ml
from brats3d.errors import UsageError
from brats3d.files import Writer, make_header, marked_convention, read_volume, write_segmentation, write_whole
from brats3d.labels import LabelConvention, get_convention
from brats3d.scans.itk_images import Grid, resample, voxels
from brats3d.scans.prepared_files import NativeSpace, read_native_spaces


def segmentation_to_native(
    segmentation: str | Path,
    prepared: str | Path,
    output: str | Path,
    modality: str | None = None,
    convention: str | None = None,
    write: Writer = write_whole,
) -> dict[str, float]:
    """Write a segmentation of a prepared case on the grid of a raw scan.

    Args:
        segmentation: the file, on the grid of the prepared case.
        prepared: the folder of the prepared case.
        output: the ``.nii.gz`` file to write.
        modality: the raw scan; T1ce by default, or T1 if there is no T1ce.
        convention: name of the label convention; by default the one that brats3d recorded in the file.
        write: writes the file.

    Returns:
        Region -> volume in ml, measured on the grid of the raw scan.

    Raises:
        UsageError: if the case has no such sequence, or the label convention is not known.
        DataError: if a file cannot be read.
    """
    spaces = read_native_spaces(Path(prepared))
    modality = modality or next(name for name in ("t1ce", "t1", *spaces) if name in spaces)
    if modality not in spaces:
        raise UsageError("modality", expected=f"one of {', '.join(spaces)}", found=modality)
    name = convention or marked_convention(Path(segmentation))
    if name is None:
        raise UsageError("convention", f"{segmentation} does not record its label convention", expected="its name")
    known, volume, native = get_convention(name), read_volume(Path(segmentation)), spaces[modality]
    label = to_native_space(np.asarray(volume.values), Grid.of(volume.header), native, known)
    header = make_header(Path(output), native.grid.shape, native.grid.affine, label.dtype)
    write_segmentation(output, label, header, name, write)
    return region_volumes_ml(label, known, header.voxel_ml)


def to_native_space(label: np.ndarray, grid: Grid, native: NativeSpace, convention: LabelConvention) -> np.ndarray:
    """Bring the segmentation of a prepared case onto the grid of a raw scan; see :func:`resample_segmentation`."""
    back = native.transform.GetInverse() if native.transform is not None else None
    return resample_segmentation(label, grid, native.grid, back, convention)


def resample_segmentation(
    label: np.ndarray, grid: Grid, target: Grid, transform: Any, convention: LabelConvention
) -> np.ndarray:
    """Sample a segmentation on another grid. Nested regions stay nested, and no holes or steps appear.

    Each region is interpolated linearly and cut at 0.5, which interpolated labels would not allow: between background
    and ET lies edema.

    Args:
        label: voxel values, shape (x, y, z), on ``grid``. Values outside all regions become background.
        grid, target: the grids.
        transform: SimpleITK transform, points of the target -> points of the segmentation; None if they are the same.
        convention: the label convention.

    Returns:
        uint8, the shape of the target.
    """
    import SimpleITK as sitk

    out = np.zeros(target.shape, np.uint8)
    for region, value in convention.own_values.items():  # the outermost first
        mask = grid.to_itk(np.isin(label, convention.regions[region]).astype(np.float32))
        out[voxels(resample(mask, target, transform or sitk.Transform())) >= 0.5] = value
    return out
