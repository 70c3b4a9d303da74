"""Pictures of slices, with and without regions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from brats3d.files.pictures import best_slice, overlay, save_preview, to_rgb
from brats3d.labels import REGION_COLOURS, REGIONS

RGB = {region: np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for region, c in REGION_COLOURS.items()}


def boxes(shape: tuple[int, ...] = (8, 6)) -> np.ndarray:
    """Regions in channels TC, WT, ET: WT up to 1 voxel from the border, TC up to 2, ET only at (2, 2)."""
    regions = np.zeros((3, *shape), np.uint8)
    regions[REGIONS.index("WT"), 1:-1, 1:-1] = 1
    regions[REGIONS.index("TC"), 2:-2, 2:-2] = 1
    regions[REGIONS.index("ET"), 2, 2] = 1
    return regions


def test_anterior_is_up_and_the_patients_right_on_the_left():
    plane = np.full((8, 6), 1.0)  # axes towards L and P
    plane[1, 0] = 9  # near the right side, at the front
    picture = to_rgb(plane)
    assert picture.shape == (6, 8, 3) and picture.dtype == np.uint8
    assert np.unravel_index(picture[..., 0].argmax(), (6, 8)) == (0, 1)  # top row, second column


def test_intensities_span_black_to_white_and_the_background_is_black():
    plane = np.linspace(-3, 3, 400).reshape(20, 20)
    plane[0] = 0
    picture = to_rgb(plane)
    assert (picture[:, 0] == 0).all()
    assert picture.min() == 0 and picture.max() == 255
    assert (picture[..., 0] == picture[..., 1]).all() and (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_slice_is_black(value):
    assert to_rgb(np.full((4, 4), value)).max() == 0


def test_each_region_has_its_colour_and_the_innermost_is_painted_last():
    regions = boxes()
    picture = overlay(np.ones((8, 6)), regions, opacity=1.0)
    assert picture.shape == (6, 8, 3)
    assert np.array_equal(picture[2, 2], RGB["ET"])
    assert np.array_equal(picture[3, 5], RGB["TC"])  # row = second axis, column = first
    assert np.array_equal(picture[1, 1], RGB["WT"])
    assert np.array_equal(picture[0, 0], (0, 0, 0))


def test_regions_are_blended_with_the_slice_and_the_rest_is_unchanged():
    plane = np.linspace(1, 2, 48).reshape(8, 6)
    regions = boxes()
    grey, picture = to_rgb(plane), overlay(plane, regions, opacity=0.45)
    outside = regions[REGIONS.index("WT")].T == 0
    assert np.array_equal(picture[outside], grey[outside])
    assert np.allclose(picture[2, 2], 0.55 * grey[2, 2] + 0.45 * RGB["ET"], atol=1)


def test_the_best_slice_has_the_most_tumour_or_is_the_middle_one():
    regions = np.zeros((3, 4, 4, 9), np.uint8)
    assert best_slice(regions) == 4
    regions[REGIONS.index("WT"), 0, 0, 1] = 1
    regions[REGIONS.index("WT"), :2, 0, 7] = 1
    regions[REGIONS.index("TC"), :, :, 3] = 1
    assert best_slice(regions) == 7


def painted(path) -> np.ndarray:
    """Count the coloured pixels above the legend."""
    picture = np.rint(imread(path)[..., :3] * 255).astype(int)
    above = picture[: int(0.8 * len(picture))]
    return int((np.ptp(above, axis=-1) > 20).sum())


@pytest.mark.parametrize("modalities", [("t1", "t1ce", "t2", "flair"), ("t1",)], ids=len)
def test_a_preview_shows_the_regions_in_their_colours(tmp_path, modalities):
    image = np.random.default_rng(0).uniform(1, 2, (len(modalities), 8, 6, 3))
    regions = np.repeat(boxes()[..., None], 3, axis=-1)
    path = save_preview(tmp_path / "a.png", image, modalities, regions, ref=regions, title="a")
    assert path.read_bytes().startswith(b"\x89PNG")
    empty = save_preview(tmp_path / "b.png", image, modalities, np.zeros_like(regions))
    assert painted(path) > 1000 > 10 > painted(empty)
    legend = np.rint(imread(path)[..., :3] * 255).astype(int)
    for colour in RGB.values():
        assert (np.abs(legend - colour).max(axis=-1) <= 1).any()
