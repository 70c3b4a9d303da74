"""The space of prepared cases: BraTS's grid, with the ICBM152 atlas on it.

The atlas is the average T1 of 152 healthy adults, skull-stripped, as distributed by nilearn: Fonov et al., "Unbiased
average age-appropriate atlases for pediatric studies", NeuroImage 54 (2011), 313-327. The releases from 2020 to 2024
use SRI24 (doi:10.1002/hbm.20906) instead, which no package contains.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from brats3d.phantoms import SIZES
from brats3d.scans.itk_images import Grid

BRATS_GRID = Grid(
    SIZES["full"].shape,
    np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]),
)
"""240 x 240 x 155 voxels of 1 mm, with the affine of BraTS 2020."""

ATLAS_NAME = "ICBM152 2009a (nilearn)"


@lru_cache(maxsize=1)
def load_atlas_t1() -> tuple[np.ndarray, np.ndarray]:
    """Load the atlas on :data:`BRATS_GRID`.

    Returns:
        T1 intensities, 0 to 1, float32, and the brain mask, bool. Both have the shape of the grid.
    """
    from nilearn import datasets

    images = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    t1, mask = (_place(np.asarray(image.dataobj, np.float32)[::-1, ::-1]) for image in images)  # RAS -> LPS
    return t1 * (mask > 0), mask > 0


_START = (21, 10, -4)
"""Voxel of the grid at the first voxel of the atlas: the brain is in the middle from left to right, and a few mm behind
and below the middle, as in the phantoms."""


def _place(values: np.ndarray) -> np.ndarray:
    """Place the atlas on the grid; the 4 mm of it that lie below the grid are cut off."""
    placed = np.zeros(BRATS_GRID.shape, values.dtype)
    stops = [min(start + n, whole) for start, n, whole in zip(_START, values.shape, placed.shape, strict=True)]
    target = tuple(slice(max(0, start), stop) for start, stop in zip(_START, stops, strict=True))
    source = tuple(slice(max(0, -start), stop - start) for start, stop in zip(_START, stops, strict=True))
    placed[target] = values[source]
    return placed
