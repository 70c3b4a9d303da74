"""The data of a report's slice viewer: the volumes of a case as mosaics of slices, which ``page.js`` draws on a canvas.

niivue, in ``brats3d view``, does more. Here it would add 5 MB of script and the volumes at 1 mm to the page, and it
needs WebGL, which remote desktops often lack.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brats3d.files import MODALITY_TITLES
from brats3d.labels import REGIONS, REGIONS_TO_READ
from brats3d.report.case_volumes import CaseVolumes

MAX_VOXELS = 110
"""Limit along the longest side: a brain at 1 mm is shown at 2 mm, in about 0.2 MB per sequence."""


@dataclass(frozen=True, eq=False)
class Viewer:
    """The viewer of a case.

    A mosaic holds the axial slices from left to right and from top to bottom.

    Args:
        shape: voxels along the axes towards L, P and S.
        columns: slices in one row of a mosaic.
        start: initial voxel of the crosshair.
        sequences: title of a sequence -> its mosaic as JPEG.
        regions: mosaic of the regions as PNG; a pixel is 17 (4 r + p), where r and p are the innermost region of the
            reference and of the prediction: 0 none, 1 WT, 2 TC, 3 ET.
    """

    shape: tuple[int, int, int]
    columns: int
    start: tuple[int, int, int]
    sequences: dict[str, bytes]
    regions: bytes


def make_viewer(volumes: CaseVolumes, names: Sequence[str], z: int) -> Viewer:
    """Make the viewer of a case. The volumes are subsampled to cubic voxels.

    Args:
        volumes: the case.
        names: the sequences to show.
        z: the initial axial slice.
    """
    spacing_mm, shape = volumes.spacing_mm, volumes.ref.shape[1:]
    finest = min(spacing_mm)
    longest_mm = max(n * mm for n, mm in zip(shape, spacing_mm, strict=True))
    step_mm = finest * math.ceil(longest_mm / finest / MAX_VOXELS - 1e-6)
    kept = np.ix_(*(_nearest_voxels(n, mm, step_mm) for n, mm in zip(shape, spacing_mm, strict=True)))
    ref, pred = (_innermost(regions)[kept] for regions in (volumes.ref, volumes.pred))
    x, y, z = (
        min(int((voxel + 0.5) * mm / step_mm), n - 1)
        for voxel, mm, n in zip(_tumour_centre(volumes, z), spacing_mm, ref.shape, strict=True)
    )
    columns = math.ceil(math.sqrt(ref.shape[2]))
    grey = {name: _to_grey(volumes.image[volumes.modalities.index(name)], kept) for name in names}
    return Viewer(
        shape=ref.shape,
        columns=columns,
        start=(x, y, z),
        sequences={MODALITY_TITLES[name]: _encode(_mosaic(each, columns), "JPEG") for name, each in grey.items()},
        regions=_encode(_mosaic(17 * (4 * ref + pred), columns), "PNG"),
    )


def _nearest_voxels(count: int, mm: float, step_mm: float) -> np.ndarray:
    """Return the voxels along an axis in which the centres of the cubes lie."""
    cubes = np.arange(max(1, math.ceil(count * mm / step_mm - 1e-6)))
    return np.floor((cubes + 0.5) * step_mm / mm).astype(int).clip(max=count - 1)


def _innermost(regions: np.ndarray) -> np.ndarray:
    """Return 0 to 3 for none, WT, TC and ET; uint8, shape (H, W, D)."""
    innermost = np.zeros(regions.shape[1:], np.uint8)
    for value, region in enumerate(REGIONS_TO_READ, 1):
        innermost[regions[REGIONS.index(region)] > 0] = value
    return innermost


def _to_grey(image: np.ndarray, kept: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return uint8 intensities of the kept voxels, with one window for all slices."""
    inside = image[image != 0]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0.0, 1.0)
    grey = np.clip((image[kept].astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    return (255 * grey * (image[kept] != 0)).astype(np.uint8)


def _tumour_centre(volumes: CaseVolumes, z: int) -> tuple[int, int, int]:
    """Return the middle of the tumour in a slice, or of the slice if it holds no tumour."""
    for regions in (volumes.ref, volumes.pred):
        x, y = np.nonzero(regions[REGIONS.index("WT"), ..., z])
        if x.size:
            return int(np.median(x)), int(np.median(y)), z
    return volumes.ref.shape[1] // 2, volumes.ref.shape[2] // 2, z


def _mosaic(volume: np.ndarray, columns: int) -> np.ndarray:
    """Lay out the axial slices of a volume (X, Y, Z): shape (rows Y, columns X)."""
    across, down, count = volume.shape
    rows = math.ceil(count / columns)
    slices = np.zeros((rows * columns, down, across), np.uint8)
    slices[:count] = volume.transpose(2, 1, 0)
    grid = slices.reshape(rows, columns, down, across)
    return grid.transpose(0, 2, 1, 3).reshape(rows * down, columns * across)


def _encode(pixels: np.ndarray, kind: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, quality=85, optimize=True)
    return buffer.getvalue()
