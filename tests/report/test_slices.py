"""Pictures of slices."""

from __future__ import annotations

import numpy as np

from brats3d.labels import REGION_COLOURS, REGIONS
from brats3d.report.slices import border_sequences, case_panels, outlined, thumbnail


def colour_at(pixels: np.ndarray, region: str) -> np.ndarray:
    wanted = [int(REGION_COLOURS[region][i : i + 2], 16) for i in (1, 3, 5)]
    return (pixels == wanted).all(axis=-1)


def test_outlines_leave_the_inside_visible():
    regions = np.zeros((3, 20, 30), np.uint8)  # axes towards L and P
    regions[REGIONS.index("WT"), 4:16, 5:25] = 1
    regions[[REGIONS.index("TC"), REGIONS.index("ET")], 8:12, 10:20] = 1  # one border
    pixels = outlined(np.ones((20, 30)), regions, (1, 1, 1), zoom=10)
    assert pixels.shape == (300, 200, 3)
    for region, box in (("WT", (50, 250, 40, 160)), ("TC", (100, 200, 80, 120)), ("ET", (100, 200, 80, 120))):
        rows, columns = np.nonzero(colour_at(pixels, region))
        drawn = rows.min(), rows.max(), columns.min(), columns.max()
        assert np.abs(np.subtract(drawn, box)).max() <= 4, region  # the line's width and the rounded corner
    assert not any(colour_at(pixels, region)[110:190, 90:110].any() for region in REGIONS)


def test_anisotropic_voxels_keep_their_shape():
    nothing = np.zeros((3, 20, 30), np.uint8)
    assert outlined(np.ones((20, 30)), nothing, (2.0, 1.0, 3.0), zoom=2).shape == (60, 80, 3)


def test_a_thumbnail_has_the_reference_on_the_left():
    ref, pred = np.zeros((2, 3, 8, 6), np.uint8)
    ref[:, 2:4, 2:4] = 1
    pixels = thumbnail(np.ones((8, 6)), ref, pred, (1, 1)).astype(int)
    assert pixels.shape == (6, 18, 3)
    hued = np.ptp(pixels, axis=-1) > 20
    assert hued[2:4, 2:4].all() and hued.sum() == 4
    assert thumbnail(np.ones((8, 6)), ref, pred, (1, 2)).shape == (12, 18, 3)


def test_panels_show_every_sequence_and_both_outlines(volumes):
    panels = case_panels(volumes, z=3)
    names = ["T1ce", "FLAIR", *(f"{source} on {name}" for name in ("FLAIR", "T1ce") for source in _SOURCES)]
    assert [panel.title for panel in panels] == names
    assert panels[0].alt == "case, axial slice 43: t1ce"
    assert colour_at(panels[2].pixels, "ET").any() and not colour_at(panels[3].pixels, "ET").any()
    assert panels[0].jpeg()[:2] == b"\xff\xd8"


_SOURCES = ("reference", "prediction")


def test_borders_are_judged_on_the_first_sequence_without_flair_and_t1ce():
    assert border_sequences(["t1", "t2"]) == ["t1"]
