"""Doubts about images: on ellipsoid brains in BraTS's field of view, with voxels of 5 mm."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.cases import background_of, image_doubts, measure_image

SHAPE, SPACING_MM = (48, 48, 31), (5.0, 5.0, 5.0)


def depth(radius_mm: float = 68.0) -> np.ndarray:
    """Return the distance below the surface of a ball in the middle of the volume, in mm; negative outside."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING_MM, strict=True)]
    return radius_mm - np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


def brain(seed: int = 0, radius_mm: float = 68.0) -> np.ndarray:
    """Return a ball of 1.3 l with tissue of 500 and some noise, as float32; 0 outside."""
    noise = np.random.default_rng(seed).normal(0, 50, SHAPE)
    return np.where(depth(radius_mm) > 0, 500 + noise, 0).astype(np.float32)


def kinds(*images: np.ndarray, spacing_mm: tuple[float, float, float] = SPACING_MM) -> list[str]:
    """Return the kinds of doubts about the images of a case."""
    return [doubt.kind for doubt in image_doubts({str(i): measure_image(v, spacing_mm) for i, v in enumerate(images)})]


def test_stripped_brains_raise_no_doubt() -> None:
    assert kinds(*(brain(seed) for seed in range(4))) == []
    assert kinds(brain().astype(np.int16)) == []
    assert kinds(brain() / 1000) == []  # scaled to about [0, 1]


@pytest.mark.parametrize(("radius_mm", "kind"), [(84.0, "whole head"), (45.0, "small brain")])
def test_more_or_less_than_a_brain_is_doubted_where_a_head_fits(radius_mm: float, kind: str) -> None:
    volume = brain(radius_mm=radius_mm)
    assert kinds(volume) == [kind]
    assert kinds(volume, spacing_mm=(1.0, 1.0, 1.0)) == []  # a small phantom
    assert kinds(volume, spacing_mm=(4.0, 4.0, 4.0)) == []  # a child
    assert kinds(volume[4:44, 4:44, :20]) == []  # a slab


def test_skull_and_scalp_within_the_volume_of_a_brain_are_doubted() -> None:
    below = depth(72.0)
    head = brain(radius_mm=72.0)
    head[(below > 0) & (below <= 8)] = 900  # scalp
    head[(below > 8) & (below <= 14)] = 20  # bone
    assert kinds(head, head * 0.8 + brain(1, 72.0) * 0.2) == ["whole head"]
    assert kinds(brain(radius_mm=72.0), brain(1, 72.0)) == []


def test_backgrounds_other_than_0_are_doubted() -> None:
    volume = brain()
    assert kinds((volume - 500) / 50) == ["background"]  # z-scored with its background
    faint = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    assert kinds(np.where(volume > 0, volume, faint)) == ["background"]
    assert kinds(volume + 7) == ["background"]


def test_corners_of_tissue_are_no_background() -> None:
    crop = brain()[18:30, 18:30, 10:20]
    assert crop.min() > 0
    assert background_of(crop) is None
    assert kinds(crop) == []


def test_one_hot_voxel_is_an_outlier_and_the_brightest_tissue_is_not() -> None:
    volume = brain()
    volume[24, 24, 15] = 2000  # four times the tissue
    assert kinds(volume) == []
    volume[24, 24, 16] = 1_000_000
    facts = measure_image(volume, SPACING_MM)
    assert kinds(volume) == ["outliers"]
    assert (facts.outliers, facts.high) == (1, 1_000_000)
    assert 2000 < facts.limit < 5000


def test_copies_of_a_sequence_are_recognised_in_any_scale_and_type() -> None:
    first, other = brain(0), brain(1)
    for copy in (first.copy(), first.astype(np.int16), first * 3 + 0.0):
        (doubt,) = image_doubts({n: measure_image(v, SPACING_MM) for n, v in (("a", first), ("b", copy), ("c", other))})
        assert (doubt.kind, doubt.names) == ("identical sequences", ("a", "b"))


def test_an_image_of_zeros_is_only_empty() -> None:
    assert kinds(np.zeros(SHAPE, np.int16), brain()) == ["empty sequence"]


def test_a_mask_and_a_constant_image_are_no_sequences() -> None:
    assert kinds((brain() > 0).astype(np.uint8), brain(1)) == ["empty sequence"]
    assert kinds(np.full(SHAPE, 7, np.int16), brain(1)) == ["empty sequence"]


def test_spikes_below_0_are_outliers_and_a_negative_background_is_not() -> None:
    volume = brain()
    volume[24, 24, 15] = -1_000_000
    facts = measure_image(volume, SPACING_MM)
    assert (facts.outliers, facts.limit) == (1, facts.high)
    assert -5000 < facts.floor < -2000
    assert measure_image(np.where(brain() > 0, brain(), -9999), SPACING_MM).outliers == 0


def test_outliers_of_a_small_volume_do_not_hide_each_other() -> None:
    volume = brain()[14:34, 14:34, 8:24]
    volume[5:8, 5:8, 5:10] = 1_000_000  # 45 of about 6,000 voxels
    assert measure_image(volume, (1, 1, 1)).outliers == 45


def test_many_outliers_are_no_skull() -> None:
    images = [brain(seed) for seed in range(4)]
    for image in images:
        image[np.unravel_index(np.flatnonzero(image)[::200], SHAPE)] = 1_000_000
    assert kinds(*images) == ["outliers"] * 4


def test_brains_normalised_to_a_mean_of_0_raise_no_doubt() -> None:
    assert kinds(*(np.where(each > 0, (each - 500) / 50, 0) for each in map(brain, range(4)))) == []


def test_a_skull_in_one_sequence_is_doubted() -> None:
    images = {"t1": brain(0, 62.0), "t1ce": brain(1, 74.0), "t2": brain(2, 62.0)}
    (doubt,) = image_doubts({name: measure_image(each, SPACING_MM) for name, each in images.items()})
    assert (doubt.kind, doubt.names) == ("whole head", ("t1ce",))


def test_copies_of_a_sequence_are_recognised_with_another_contrast_and_noise() -> None:
    first = brain()
    noise = np.random.default_rng(9).normal(0, 2, SHAPE)
    for copy in (np.where(first > 0, first + 100, 0), np.sqrt(first), np.where(first > 0, first + noise, 0)):
        assert kinds(first, copy) == ["identical sequences"]


def test_backgrounds_of_sequences_are_no_copies() -> None:
    assert kinds(*((brain(seed) - 80) / 190 for seed in range(2))) == ["background"] * 2


def test_ringing_far_from_the_brain_is_no_tissue() -> None:
    images = []
    for seed in range(2):
        ringing = np.random.default_rng(seed).normal(0, 1e-3, SHAPE)
        ringing[[0, 1, 2, 3, -4, -3, -2, -1]] = 0
        images.append(np.where(brain(seed) > 0, brain(seed), ringing))
    assert np.count_nonzero(images[0]) > 2 * np.count_nonzero(brain())
    assert kinds(*images) == []
