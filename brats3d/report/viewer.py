"""The slice viewer of a report: nilearn's ``view_img`` with the reference and with the prediction, side by side.

nilearn's viewer is chosen over niivue: it is a dependency already, draws on a plain canvas and is 0.1 MB of script,
where niivue takes 2.3 MB and WebGL, which remote desktops often lack. What it lacks, that its two pictures move
together, follow the arrow keys and begin in the tumour, the page's own script adds.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brats3d.labels import REGION_COLOURS, REGIONS, REGIONS_TO_READ

MAX_VOXELS = 110
"""Along the longest side; a brain at 1 mm is shown at 2 mm, in a quarter of a megabyte."""


@dataclass(frozen=True)
class Viewer:
    """The viewer of one sequence of a case, as two whole HTML documents.

    Args:
        reference: with the reference's regions.
        prediction: with those of the prediction.
        across: voxels that the three views are wide.
        points: where to click, as shares of the canvas's width and height, for the crosshair to stand in the tumour:
            first in the axial view, then in the coronal one.
        ratio: the canvas's width over its height.
    """

    reference: str
    prediction: str
    across: int
    points: tuple[tuple[float, float], tuple[float, float]]
    ratio: float


def make_viewer(image: np.ndarray, ref: np.ndarray, pred: np.ndarray, spacing_mm: Sequence[float], z: int) -> Viewer:
    """Make the viewer of one sequence, of cubic voxels: nilearn would turn and resample any others in its own way.

    Args:
        image: intensities, shape (H, W, D), axes towards L, P and S.
        ref: regions {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        pred: the same.
        spacing_mm: voxel size along each axis.
        z: the slice to begin with.
    """
    finest = min(spacing_mm)
    longest_mm = max(n * mm for n, mm in zip(image.shape, spacing_mm, strict=True))
    step_mm = finest * math.ceil(longest_mm / finest / MAX_VOXELS - 1e-6)
    kept = np.ix_(*(_places(n, mm, step_mm) for n, mm in zip(image.shape, spacing_mm, strict=True)))
    low, high = _window(image)
    grey = np.clip((image[kept].astype(np.float32) - low) / (high - low), 0, 1) * (image[kept] != 0)
    affine = np.diag([-step_mm, -step_mm, step_mm, 1])
    shape = grey.shape
    place_mm = [(voxel + 0.5) * mm for voxel, mm in zip(_tumour(ref, pred, z), spacing_mm, strict=True)]
    return Viewer(
        reference=_document(grey, np.stack([region[kept] for region in ref]), affine),
        prediction=_document(grey, np.stack([region[kept] for region in pred]), affine),
        across=shape[1] + 2 * shape[0],
        points=_points(shape, place_mm, step_mm),
        ratio=(shape[1] + 2 * shape[0]) / max(shape[1:]),
    )


def _places(count: int, mm: float, step_mm: float) -> np.ndarray:
    """In which voxels along an axis the middles of cubes lie."""
    cubes = np.arange(max(1, math.ceil(count * mm / step_mm - 1e-6)))
    return np.floor((cubes + 0.5) * step_mm / mm).astype(int).clip(max=count - 1)


def _document(grey: np.ndarray, regions: np.ndarray, affine: np.ndarray) -> str:
    """nilearn's page without its link to an icon on the web."""
    from matplotlib.colors import ListedColormap
    from nibabel import Nifti1Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it does to its own masked arrays
        from nilearn.plotting import view_img

        innermost = np.zeros(grey.shape, np.float32)
        for value, region in enumerate(REGIONS_TO_READ, 1):
            innermost[regions[REGIONS.index(region)] > 0] = value
        view = view_img(
            Nifti1Image(innermost, affine),
            bg_img=Nifti1Image(grey, affine),
            cmap=ListedColormap(["#000000", *(REGION_COLOURS[region] for region in REGIONS_TO_READ)]),
            symmetric_cmap=False,
            vmin=0,
            vmax=len(REGIONS_TO_READ),
            threshold=0.5,
            colorbar=False,
            black_bg=True,
            dim=0,
            opacity=_OPACITY,
            resampling_interpolation="nearest",
            radiological=True,  # the patient's right on the left, as in the other pictures
            cut_coords=tuple(affine[:3, :3] @ (np.array(grey.shape) // 2) + affine[:3, 3]),
            annotate=False,  # room for coordinates, which mean little outside an atlas's space
        )
    return re.sub(r"<link\b[^>]*>", "", view.get_standalone())


_OPACITY = 0.5


def _window(image: np.ndarray) -> tuple[float, float]:
    """What becomes black and white, in all slices alike."""
    inside = image[image != 0]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _tumour(ref: np.ndarray, pred: np.ndarray, z: int) -> tuple[int, int, int]:
    """The middle of the tumour in a slice; the middle of the slice where it holds none."""
    for regions in (ref, pred):
        x, y = np.nonzero(regions[REGIONS.index("WT"), ..., z])
        if x.size:
            return int(np.median(x)), int(np.median(y)), z
    return ref.shape[1] // 2, ref.shape[2] // 2, z


def _points(
    shape: Sequence[int], place_mm: Sequence[float], step_mm: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a place, in mm from the first voxel's edge, lies in the axial and coronal view, in shares of the canvas.

    The sagittal view is as wide as the axis towards P, the coronal and the axial one as that towards L; each stands in
    the middle of the highest one's height. Lines run from R to L, as in the arrays, and from S to I or from A to P.
    """
    across = shape[1] + 2 * shape[0]
    high = max(shape[1:])
    x, y, z = (mm // step_mm / max(1, n - 1) for mm, n in zip(place_mm, shape, strict=True))
    axial = (shape[1] + shape[0] * (1 + x)) / across, 0.5 + shape[1] * (y - 0.5) / high
    coronal = (shape[1] + shape[0] * x) / across, 0.5 + shape[2] * (0.5 - z) / high
    return axial, coronal
