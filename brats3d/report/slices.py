"""Pictures of an axial slice of a case: every sequence, with the regions outlined or painted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brats3d.files import MODALITY_TITLES, overlay, to_rgb
from brats3d.labels import REGION_COLOURS, REGIONS, REGIONS_TO_READ
from brats3d.report.case_volumes import CaseVolumes


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a slice.

    Args:
        pixels: uint8, shape (height, width, 3).
        alt: a description for readers who cannot see it.
        title: the caption.
    """

    pixels: np.ndarray
    alt: str
    title: str = ""

    def jpeg(self) -> bytes:
        """Return the picture as JPEG. Colours are not subsampled, so that thin outlines stay sharp."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, format="JPEG", quality=85, subsampling=0, optimize=True)
        return buffer.getvalue()


def case_panels(volumes: CaseVolumes, z: int) -> list[Picture]:
    """Return each sequence of a slice without outlines, then reference and prediction outlined on FLAIR and on T1ce.

    The border of the whole tumour is judged on FLAIR, the border of the core on T1ce.

    Args:
        volumes: the case.
        z: the slice.
    """
    name_of_slice = f"{volumes.case_id}, axial slice {volumes.start[2] + z}"
    planes = {name: volumes.image[i][..., z] for i, name in enumerate(volumes.modalities)}
    no_regions = np.zeros_like(volumes.ref[..., z])
    panels = [
        Picture(outlined(plane, no_regions, volumes.spacing_mm), f"{name_of_slice}: {name}", MODALITY_TITLES[name])
        for name, plane in planes.items()
    ]
    for name in border_sequences(volumes.modalities):
        for source, regions in (("reference", volumes.ref), ("prediction", volumes.pred)):
            pixels = outlined(planes[name], regions[..., z], volumes.spacing_mm)
            alt = f"{name_of_slice}: outlines of the {source} on {name}"
            panels.append(Picture(pixels, alt, f"{source} on {MODALITY_TITLES[name]}"))
    return panels


def border_sequences(modalities: Sequence[str]) -> list[str]:
    """Return the sequences on which borders are judged: FLAIR and T1ce, else the first sequence."""
    return [name for name in ("flair", "t1ce") if name in modalities] or [modalities[0]]


def outlined(plane: np.ndarray, regions: np.ndarray, spacing_mm: Sequence[float], zoom: int = 3) -> np.ndarray:
    """Return an enlarged slice with the borders of its regions drawn over it, so that the inside stays visible.

    The lines of WT and TC run along the outside of the border, that of ET along the inside: where the enhancing rim is
    the border of the core, both lines are visible.

    Args:
        plane: intensities, shape (H, W), axes towards L and P.
        regions: {0, 1}, shape (3, H, W), channels in the order of ``labels.REGIONS``.
        spacing_mm: voxel size along the two axes, or along three.
        zoom: pixels per shorter side of a voxel.

    Returns:
        uint8, shape (height, width, 3).
    """
    from PIL import Image
    from scipy.ndimage import binary_dilation, binary_erosion

    size = _size(plane.shape, spacing_mm, zoom)
    pixels = np.array(Image.fromarray(to_rgb(plane)).resize(size, Image.Resampling.BICUBIC))
    line = max(1, round(max(size) / 150))
    for region in REGIONS_TO_READ:
        mask = Image.fromarray((np.asarray(regions)[REGIONS.index(region)].T > 0).astype(np.uint8) * 255)
        large = np.array(mask.resize(size, Image.Resampling.BICUBIC)) > 127
        if region == "ET":
            border = large & ~binary_erosion(large, iterations=line, border_value=1)
        else:
            border = binary_dilation(large, iterations=line) & ~large
        pixels[border] = [int(REGION_COLOURS[region][i : i + 2], 16) for i in (1, 3, 5)]
    return pixels


def thumbnail(plane: np.ndarray, ref: np.ndarray, pred: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return reference and prediction of a slice side by side, at one pixel per shorter side of a voxel.

    Args:
        plane: intensities, shape (H, W), axes towards L and P.
        ref: regions {0, 1} of the reference, shape (3, H, W), channels in the order of ``labels.REGIONS``.
        pred: regions of the prediction, like ``ref``.
        spacing_mm: voxel size along the two axes, or along three.

    Returns:
        uint8, shape (height, 2 width + 2, 3).
    """
    from PIL import Image

    width, height = _size(plane.shape, spacing_mm)
    left, right = (
        np.array(Image.fromarray(overlay(plane, regions)).resize((width, height))) for regions in (ref, pred)
    )
    return np.concatenate([left, np.full((height, 2, 3), 255, np.uint8), right], axis=1)


def _size(shape: Sequence[int], spacing_mm: Sequence[float], zoom: int = 1) -> tuple[int, int]:
    """Return width and height in pixels of a slice (H, W) whose voxels need not be square."""
    step_mm = min(spacing_mm[:2])
    width, height = (round(n * zoom * mm / step_mm) for n, mm in zip(shape, spacing_mm[:2], strict=True))
    return width, height
