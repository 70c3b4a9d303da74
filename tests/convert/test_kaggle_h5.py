"""Kaggle's HDF5 slices: integers come back exactly, or the file is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from brats3d.convert.kaggle_h5 import (
    CHANNELS,
    DECIDED,
    SCALE_SPREAD,
    SliceFiles,
    choose_factor,
    find_volumes,
    recover_slice,
    write_slices,
    zscore,
)

SHAPE = (16, 16, 6)


def make_images(seed: int = 0, shape: tuple[int, ...] = SHAPE, low: int = 1, high: int = 900) -> dict[str, np.ndarray]:
    """A box of random integers in background 0."""
    rng = np.random.default_rng(seed)
    images = {name: np.zeros(shape, np.int16) for name in CHANNELS}
    for image in images.values():
        image[4:12, 4:12] = rng.integers(low, high, (8, 8, shape[2]))
    return images


def make_label(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[5:9, 5:9], label[6:8, 6:8], label[6, 6] = 2, 4, 1
    return label


def volume(folder: Path, images: Mapping[str, np.ndarray], label: np.ndarray | None = None) -> SliceFiles:
    write_slices(folder, 7, images, make_label() if label is None else label)
    return find_volumes((path, path.stat().st_size) for path in folder.iterdir())[0]


def change(path: Path, **arrays: np.ndarray) -> None:
    """Replace data sets of a file."""
    with h5py.File(path, "a") as file:
        for name, array in arrays.items():
            del file[name]
            file[name] = array


def test_a_slice_worked_by_hand_is_recovered():
    # 12 pixels of 0, then 2, 4, 4, 6: their mean is 1, the mean of their squares 72 / 16 = 4.5, so sd = sqrt(3.5).
    values = (np.array([0] * 12 + [2, 4, 4, 6], float).reshape(4, 4) - 1) / np.sqrt(3.5)
    integers, distinct = recover_slice(values)
    np.testing.assert_array_equal(integers.ravel(), [0] * 12 + [1, 2, 2, 3])  # the factor 2 cannot be seen in it
    assert distinct == 3


@settings(deadline=None, max_examples=300)
@given(
    foreground=hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(-300, 32767)),
    background=st.integers(42, 200),
)
def test_random_integers_are_recovered_but_for_their_common_factor(foreground, background):
    original = np.concatenate([foreground, np.zeros(background, np.int64)])[:, None]
    integers, distinct = recover_slice(zscore(original))
    factor = np.gcd.reduce(original.ravel())
    np.testing.assert_array_equal(integers, original // max(factor, 1))
    assert distinct == len(set(foreground.tolist()) - {0})


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), top=st.sampled_from([40, 300, 3000, 30_000, 100_000]), n=st.integers(40, 3000))
def test_dense_slices_are_recovered_exactly(seed, top, n):
    original = np.zeros(2 * n, np.int64)
    original[:n] = np.random.default_rng(seed).integers(-top // 10, top, n)
    original[0] = 1  # no common factor
    integers, _ = recover_slice(zscore(original[:, None]))
    np.testing.assert_array_equal(integers.ravel(), original)


def test_an_empty_slice_stays_empty():
    integers, distinct = recover_slice(np.zeros((5, 5)))
    assert not integers.any()
    assert distinct == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.random.default_rng(0).normal(size=(20, 20)), "most common value covers 0.2%"),
        (np.where(np.arange(400) < 300, -0.5, np.random.default_rng(0).normal(size=400)), "cannot be undone"),
        (np.where(np.arange(400) < 300, 0, np.arange(400.0)), "cannot be undone"),  # integers, but no z-score
        (np.full((4, 4), 0.3), "0.3 everywhere"),
        (np.where(np.arange(16) < 12, 0, np.nan), "NaN"),
        (zscore(np.arange(16) // 12).astype(np.float32), "float32"),
    ],
)
def test_values_that_are_no_zscored_integers_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        recover_slice(values)


def test_a_volume_comes_back_with_labels_and_affine(tmp_path):
    images, label = make_images(), make_label()
    images["t2"][..., 0] = 0  # an empty slice in one channel
    images["t1"][5, 5, 2] = -40
    read = volume(tmp_path, images, label).read()
    assert list(read.arrays) == ["t1", "t1ce", "t2", "flair", "seg"]
    for name, image in images.items():
        np.testing.assert_array_equal(read.arrays[name], image)
        assert read.arrays[name].dtype == np.int16
    np.testing.assert_array_equal(read.arrays["seg"], label)
    assert read.arrays["seg"].dtype == np.uint8
    np.testing.assert_array_equal(read.affine, [[-1, 0, 0, 0], [0, -1, 0, 15], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert read.ambiguous == ()


def test_intensities_beyond_int16_become_int32(tmp_path):
    images = make_images(high=70_000 // 3)
    images["flair"] = images["flair"].astype(np.int32) * 3
    images["flair"][4, 4] += 1
    read = volume(tmp_path, images).read()
    np.testing.assert_array_equal(read.arrays["flair"], images["flair"])
    assert read.arrays["flair"].dtype == np.int32
    assert read.arrays["t1"].dtype == np.int16


def test_a_few_pixels_take_their_factor_from_the_neighbouring_slice(tmp_path):
    images = make_images(low=400, high=700)
    for name in CHANNELS:
        images[name][..., 5] = 0
    images["t1"][8, 8:10, 5] = 500, 510  # 50 : 51, times 10: a likely factor where 45 would be the neighbours' median
    images["t1ce"][8, 8, 5] = 530  # one value: nothing but the neighbours says how bright
    images["flair"][4:12, 4:12, 5] = 1  # ... but 64 pixels of the same value were hardly 550
    images["t2"][8, 8:12, 5] = 501, 540, 477, 650
    read = volume(tmp_path, images).read()
    found = {each.modality: each for each in read.ambiguous}
    assert {(each.volume, each.slice) for each in read.ambiguous} == {(7, 5)}
    assert {name: (each.pixels, each.distinct) for name, each in found.items()} == {
        "t1": (2, 2),
        "t1ce": (1, 1),
        "flair": (64, 1),
        "t2": (4, 4),
    }
    np.testing.assert_array_equal(read.arrays["t2"][..., 5], images["t2"][..., 5])
    np.testing.assert_array_equal(read.arrays["flair"][..., 5], images["flair"][..., 5])
    assert 100 < read.arrays["t1ce"][8, 8, 5] < 900
    assert found["t1ce"].factor == read.arrays["t1ce"][8, 8, 5]
    assert read.arrays["t1"][8, 8, 5] == 50 * found["t1"].factor
    for name in CHANNELS:  # the others are exact
        np.testing.assert_array_equal(read.arrays[name][..., :5], images[name][..., :5])


def test_choose_factor_weighs_chance_against_brightness():
    assert choose_factor(scale=500, pixels=10, reference=520) == 1
    mode = round(500 * np.exp(-(SCALE_SPREAD**2)))  # of the product of 1/k and the log-normal, by hand
    assert choose_factor(scale=1, pixels=1, reference=500) == mode
    assert choose_factor(scale=5, pixels=2, reference=500) > 1
    assert choose_factor(scale=5, pixels=DECIDED, reference=500) == 1
    assert choose_factor(scale=5, pixels=2, reference=None) == 1


def test_without_a_decided_slice_the_factor_is_1_and_said(tmp_path):
    images = {name: np.zeros(SHAPE, np.int16) for name in CHANNELS}
    images["t1"][8, 8, :] = 300
    read = volume(tmp_path, images).read()
    assert [(each.slice, each.factor) for each in read.ambiguous] == [(s, 1) for s in range(SHAPE[2])]


def test_volumes_are_sorted_by_number_and_other_files_left_out(tmp_path):
    names = [
        "volume_10_slice_0.h5",
        "volume_2_slice_1.h5",
        "volume_2_slice_0.h5",
        "meta_data.csv",
        "volume_x_slice_1.h5",
    ]
    found = find_volumes((tmp_path / name, 10) for name in names)
    assert [(each.volume, each.case_id, sorted(each.slices)) for each in found] == [
        (2, "BraTS20_Training_002", [0, 1]),
        (10, "BraTS20_Training_010", [0]),
    ]
    assert [(each.depth, each.source_bytes) for each in found] == [(2, 20), (2, 10)]
    assert find_volumes([]) == []


def test_missing_slices_are_named(tmp_path):
    files = volume(tmp_path, make_images()).slices
    for s in (1, 3, 4):
        files[s][0].unlink()
    left = find_volumes((path, 1) for path in tmp_path.iterdir())[0]
    with pytest.raises(ValueError, match=r"volume 7: slices 1, 3-4 are missing; expected 0-5 of 16 x 16 pixels"):
        left.read()


def test_one_missing_slice_is_one(tmp_path):
    files = volume(tmp_path, make_images()).slices
    files[3][0].unlink()
    with pytest.raises(ValueError, match=r"volume 7: slice 3 is missing; expected 0-5"):
        find_volumes((path, 1) for path in tmp_path.iterdir())[0].read()


def test_a_constant_foreground_larger_than_the_background_is_not_taken_for_it(tmp_path):
    images = make_images()
    for image in images.values():
        image[1:14, 1:14] = np.random.default_rng(1).integers(1, 900, (13, 13, 6))
    images["t1"][1:14, 1:14, 3] = 700  # on 169 pixels but for eight, and 0 on 87
    images["t1"][5, 5:13, 3] = np.arange(300, 380, 10)
    with pytest.raises(ValueError, match=r"volume_7_slice_3\.h5: .*flair and t1 share 0% of their pixels.*least 50%"):
        volume(tmp_path, images).read()


def test_a_channel_with_a_smaller_field_of_view_is_none_of_that(tmp_path):
    images = make_images()
    images["t1"][:, 6:] = 0
    images["flair"][6:] = 0
    np.testing.assert_array_equal(volume(tmp_path, images).read().arrays["t1"], images["t1"])


def test_a_full_size_volume_has_155_slices(tmp_path):
    shape = (240, 240, 2)
    images = {name: np.zeros(shape, np.int16) for name in CHANNELS}
    with pytest.raises(ValueError, match=r"slices 2-154 are missing; expected 0-154 of 240 x 240"):
        volume(tmp_path, images, np.zeros(shape, np.uint8)).read()


def test_double_slices_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    files = volume(tmp_path / "a", make_images())
    paths = [files.slices[s][0] for s in range(6)]
    both = find_volumes((path, 1) for path in [*paths, tmp_path / "b" / paths[2].name])[0]
    with pytest.raises(ValueError, match=r"slice 2 is there more than once.*expected one file a slice"):
        both.read()


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    elif how == "flipped bytes":
        with h5py.File(path) as file:
            at = file["image"].id.get_chunk_info(0).byte_offset
        content = bytearray(path.read_bytes())
        content[at + 8 : at + 24] = bytes(16)
        path.write_bytes(content)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no image":
        change(path, mask=np.zeros((16, 16, 3), np.uint8))
        with h5py.File(path, "a") as file:
            del file["image"]
    elif how == "shape":
        change(path, image=np.zeros((16, 16, 3)))
    elif how == "smaller":
        change(path, image=np.zeros((8, 8, 4)), mask=np.zeros((8, 8, 3), np.uint8))
    elif how == "overlap":
        change(path, mask=np.ones((16, 16, 3), np.uint8))
    elif how == "mask of 255":
        change(path, mask=np.full((16, 16, 3), 255, np.uint8))
    elif how == "one pixel":
        with h5py.File(path, "a") as file:
            file["image"][6, 6, 2] += 1e-4


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "cannot be read"),
        ("flipped bytes", "cannot be read"),
        ("empty", "cannot be read"),
        ("no image", r"found mask \(16, 16, 3\); expected image"),
        ("shape", r"found image \(16, 16, 3\).*expected image"),
        ("smaller", "8 x 8 pixels; expected 16 x 16"),
        ("overlap", "256 pixel.*more than one channel"),
        ("mask of 255", "mask holds 255; expected 0 and 1"),
        ("one pixel", "t1ce .*cannot be undone"),
    ],
)
def test_a_damaged_slice_is_named(tmp_path, how, message):
    files = volume(tmp_path, make_images())
    damage(files.slices[3][0], how)
    with pytest.raises(ValueError, match=rf"volume_7_slice_3\.h5: .*{message}"):
        files.read()
