"""Kaggle's HDF5 slices: the original volume is recovered exactly, or the damaged file is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from brats3d.convert.kaggle_h5 import CHANNELS, SliceFiles, find_volumes, write_slices
from brats3d.errors import DataError

SHAPE = (16, 16, 6)


def make_images(seed: int = 0, shape: tuple[int, ...] = SHAPE, low: int = 1, high: int = 900) -> dict[str, np.ndarray]:
    """Images of a box of random integers on background 0."""
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
    return find_volumes(folder.iterdir())[0]


def change(path: Path, **arrays: np.ndarray) -> None:
    """Replace arrays of a file."""
    with h5py.File(path, "a") as file:
        for name, array in arrays.items():
            del file[name]
            file[name] = array


def test_a_volume_is_recovered_with_labels_and_affine(tmp_path):
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


def test_slices_of_few_values_get_their_factor_from_the_neighbouring_slice(tmp_path):
    images = make_images(low=400, high=700)
    for name in CHANNELS:
        images[name][..., 5] = 0
    images["t1"][8, 8:10, 5] = 500, 510  # 50 : 51, times 10: a likely factor, the neighbours' median being about 550
    images["t1ce"][8, 8, 5] = 530  # one value: its brightness is known only from the neighbours
    images["flair"][4:12, 4:12, 5] = 1  # 64 pixels of one value are hardly all 550
    images["t2"][8, 8:12, 5] = 501, 540, 477, 650
    read = volume(tmp_path, images).read()
    result = {part.modality: part for part in read.ambiguous}
    assert {(part.volume, part.slice) for part in read.ambiguous} == {(7, 5)}
    assert {name: (part.pixels, part.distinct) for name, part in result.items()} == {
        "t1": (2, 2),
        "t1ce": (1, 1),
        "flair": (64, 1),
        "t2": (4, 4),
    }
    np.testing.assert_array_equal(read.arrays["t2"][..., 5], images["t2"][..., 5])
    np.testing.assert_array_equal(read.arrays["flair"][..., 5], images["flair"][..., 5])
    assert 100 < read.arrays["t1ce"][8, 8, 5] < 900
    assert result["t1ce"].factor == read.arrays["t1ce"][8, 8, 5]
    assert read.arrays["t1"][8, 8, 5] == 50 * result["t1"].factor
    for name in CHANNELS:  # the other slices are exact
        np.testing.assert_array_equal(read.arrays[name][..., :5], images[name][..., :5])


def test_the_factor_is_1_if_no_slice_has_enough_values(tmp_path):
    images = {name: np.zeros(SHAPE, np.int16) for name in CHANNELS}
    images["t1"][8, 8, :] = 300
    read = volume(tmp_path, images).read()
    assert [(part.slice, part.factor) for part in read.ambiguous] == [(s, 1) for s in range(SHAPE[2])]


def test_volumes_are_sorted_by_number_and_other_files_ignored(tmp_path):
    names = [
        "volume_10_slice_0.h5",
        "volume_2_slice_1.h5",
        "volume_2_slice_0.h5",
        "meta_data.csv",
        "volume_x_slice_1.h5",
    ]
    result = find_volumes(tmp_path / name for name in names)
    assert [(volume.volume, volume.case_id, sorted(volume.slices), volume.depth) for volume in result] == [
        (2, "BraTS20_Training_002", [0, 1], 2),
        (10, "BraTS20_Training_010", [0], 2),
    ]
    assert find_volumes([]) == []


def read_error(files: SliceFiles) -> DataError:
    with pytest.raises(DataError) as error:
        files.read()
    return error.value


def test_missing_slices_are_listed(tmp_path):
    files = volume(tmp_path, make_images()).slices
    for s in (1, 3, 4):
        files[s][0].unlink()
    error = read_error(find_volumes(tmp_path.iterdir())[0])
    assert error.subject.endswith("volume 7")
    assert error.problem == "missing slices 1, 3, 4"
    assert error.expected.startswith("slices 0-5 of 16 x 16 pixels")


def test_a_constant_foreground_larger_than_the_background_is_not_mistaken_for_it(tmp_path):
    images = make_images()
    for image in images.values():
        image[1:14, 1:14] = np.random.default_rng(1).integers(1, 900, (13, 13, 6))
    images["t1"][1:14, 1:14, 3] = 700  # on 169 pixels but for eight, and 0 on 87
    images["t1"][5, 5:13, 3] = np.arange(300, 380, 10)
    error = read_error(volume(tmp_path, images))
    assert error.subject.endswith("volume_7_slice_3.h5")
    assert error.problem == "the backgrounds of flair and t1 overlap by 0%"


def test_channels_may_differ_in_their_field_of_view(tmp_path):
    images = make_images()
    images["t1"][:, 6:] = 0
    images["flair"][6:] = 0
    np.testing.assert_array_equal(volume(tmp_path, images).read().arrays["t1"], images["t1"])


def test_a_full_size_volume_needs_155_slices(tmp_path):
    shape = (240, 240, 2)
    images = {name: np.zeros(shape, np.int16) for name in CHANNELS}
    error = read_error(volume(tmp_path, images, np.zeros(shape, np.uint8)))
    assert error.problem == "missing slices 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 143 more"
    assert error.expected.startswith("slices 0-154 of 240 x 240")


def test_duplicate_slices_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    files = volume(tmp_path / "a", make_images())
    paths = [files.slices[s][0] for s in range(6)]
    twice = [paths[2], tmp_path / "b" / paths[2].name]
    error = read_error(find_volumes([*paths, twice[1]])[0])
    assert error.problem == f"duplicate slices {twice[0]}, {twice[1]}"


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
    ("how", "text"),
    [
        ("truncated", "cannot be read"),
        ("flipped bytes", "cannot be read"),
        ("empty", "cannot be read"),
        ("no image", "image (X, Y, 4)"),
        ("shape", "image (X, Y, 4)"),
        ("smaller", "16 x 16 pixels"),
        ("overlap", "256 pixels"),
        ("mask of 255", "values in mask"),
        ("one pixel", "integers"),
    ],
)
def test_the_damaged_slice_is_named(tmp_path, how, text):
    files = volume(tmp_path, make_images())
    damage(files.slices[3][0], how)
    error = read_error(files)
    assert error.subject.removesuffix(": t1ce") == str(tmp_path / "volume_7_slice_3.h5")
    assert text in error.problem + error.expected
