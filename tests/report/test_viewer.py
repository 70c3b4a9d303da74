"""The mosaics of the slice viewer."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from brats3d.labels import REGIONS
from brats3d.report.viewer import Viewer, make_viewer


def read_mosaic(viewer: Viewer, content: bytes) -> np.ndarray:
    """The volume in a mosaic, as ``page.js`` reads it."""
    across, down, count = viewer.shape
    pixels = np.array(Image.open(io.BytesIO(content)))
    volume = np.zeros(viewer.shape, int)
    for z in range(count):
        top, left = z // viewer.columns * down, z % viewer.columns * across
        volume[..., z] = pixels[top : top + down, left : left + across].T
    return volume


def test_mosaics_hold_the_regions_and_the_intensities_of_every_voxel(volumes):
    viewer = make_viewer(volumes, ["flair"], z=3)
    assert viewer.shape == (10, 12, 6) and list(viewer.sequences) == ["FLAIR"]
    codes = read_mosaic(viewer, viewer.regions)
    ref, pred = codes // 17 // 4, codes // 17 % 4
    assert (codes % 17 == 0).all()
    assert np.array_equal(ref == 3, volumes.ref[REGIONS.index("ET")] > 0) and set(np.unique(ref)) == {0, 3}
    assert np.array_equal(pred == 1, volumes.pred[REGIONS.index("WT")] > 0) and set(np.unique(pred)) == {0, 1}
    grey = read_mosaic(viewer, viewer.sequences["FLAIR"])
    assert (np.diff(grey.mean(axis=(1, 2))) > 10).all()  # brighter from right to left, as the image


def test_the_crosshair_starts_in_the_tumour_of_the_reference_or_of_the_prediction(volumes):
    assert make_viewer(volumes, ["flair"], z=3).start == (7, 3, 3)
    nothing = np.zeros_like(volumes.ref)
    assert make_viewer(replace(volumes, ref=nothing), ["flair"], z=3).start == (6, 3, 3)
    assert make_viewer(replace(volumes, ref=nothing, pred=nothing), ["flair"], z=2).start == (5, 6, 2)


def test_large_volumes_are_thinned_out_and_empty_ones_shown(volumes):
    nothing = np.zeros((3, 130, 12, 12), np.uint8)
    empty = replace(volumes, image=np.zeros((2, 130, 12, 12), np.int16), ref=nothing, pred=nothing)
    viewer = make_viewer(empty, ["t1ce", "flair"], z=6)
    assert viewer.shape == (65, 6, 6) and viewer.start == (32, 3, 3)
    assert not read_mosaic(viewer, viewer.sequences["T1ce"]).any()


def test_anisotropic_voxels_become_cubes(volumes):
    """20 x 10 x 5 voxels of 1 x 2 x 4 mm are a cube of 20 mm."""
    ref = np.zeros((3, 20, 10, 5), np.uint8)
    ref[:, 10, 5, 2] = 1
    image = np.ones((2, 20, 10, 5))
    viewer = make_viewer(replace(volumes, image=image, ref=ref, pred=ref, spacing_mm=(1, 2, 4)), ["flair"], z=2)
    assert viewer.shape == (20, 20, 20) and viewer.start == (10, 11, 10)
    marked = np.argwhere(read_mosaic(viewer, viewer.regions))
    assert marked.min(axis=0).tolist() == [10, 10, 8] and marked.max(axis=0).tolist() == [10, 11, 11]
