"""MONAI's loader with our reader: what MONAI's own reader returns for ordinary files, and more files."""

from __future__ import annotations

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged

from brats3d.data.volume_reader import VolumeReader, register_reader

AFFINE = np.array([[-1.0, 0, 0, 7], [0, -1, 0, 239], [0, 0, 1, -5], [0, 0, 0, 1]])


def load(files: list[Path] | Path, ours: bool = True) -> torch.Tensor:
    loader = LoadImaged("image", image_only=True, ensure_channel_first=True)
    if ours:
        register_reader(Compose([loader]))
    return loader({"image": files})["image"]


def save(path: Path, dtype: str, scaled: bool = False, nifti_2: bool = False) -> Path:
    values = np.random.default_rng(0).integers(0, 100, (7, 6, 5)).astype(dtype)
    header = (nib.Nifti2Header if nifti_2 else nib.Nifti1Header)(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    image = (nib.Nifti2Image if nifti_2 else nib.Nifti1Image)(values / 3 if scaled else values, AFFINE, header)
    image.header["descrip"] = b"a scan"
    nib.save(image, path)
    return path


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "scaled", "nifti_2"),
    [(dtype, False, False) for dtype in ("uint8", "int32", ">i2", ">f4", "float64")]
    + [("int16", True, False), (">i2", True, False), ("float32", False, True)],
)
def test_ordinary_files_are_bit_identical_to_monais_own_reader(tmp_path, dtype, scaled, nifti_2, name, count) -> None:
    files = [save(tmp_path / f"{i}{name}", dtype, scaled, nifti_2) for i in range(count)]
    expected, image = load(files, ours=False), load(files)
    assert torch.equal(image.as_tensor(), expected.as_tensor())
    assert image.dtype == expected.dtype
    assert image.stride() == expected.stride()
    assert list(image.meta) == list(expected.meta)
    for key, value in expected.meta.items():
        assert type(image.meta[key]) is type(value)
        np.testing.assert_array_equal(np.asarray(image.meta[key]), np.asarray(value), err_msg=key)


def test_files_that_differ_by_rounding_are_stacked_on_the_grid_of_the_first(tmp_path: Path) -> None:
    files = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path, off in zip(files, (0, 0.002), strict=True):
        affine = AFFINE.copy()
        affine[:3, 3] += off
        nib.save(nib.Nifti1Image(np.ones((7, 6, 5), np.int16), affine), path)
    with pytest.raises(RuntimeError):
        load(files, ours=False)
    assert np.array_equal(load(files).affine, AFFINE)


def test_one_frame_and_other_formats_are_loaded_as_3d(tmp_path: Path) -> None:
    values = np.arange(210).reshape(7, 6, 5).astype(np.int16)
    nib.save(nib.Nifti1Image(values[..., None], AFFINE), tmp_path / "x.nii.gz")
    nib.save(nib.MGHImage(values, AFFINE), tmp_path / "x.mgz")
    image = load([tmp_path / "x.nii.gz", tmp_path / "x.mgz"])
    assert image.dtype == torch.float32
    assert np.array_equal(image, np.stack([values, values]))
    assert np.allclose(image.affine, AFFINE)


def test_threads_and_copies_share_one_reader_which_warns_once(tmp_path: Path, caplog) -> None:
    values = np.full((7, 6, 5), np.nan, np.float32)
    values[2:5, 2:4, 2:4] = 3
    files = []
    for i in range(8):
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"{i}.nii.gz")
        files.append([tmp_path / f"{i}.nii.gz"] * (1 + i % 3))
    loader = LoadImaged("image", image_only=True, ensure_channel_first=True)
    register_reader(Compose([loader]))
    with caplog.at_level(logging.WARNING, "brats3d"), ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda each: copy.deepcopy(loader)({"image": each})["image"], files))
    assert [len(image) for image in images] == [len(each) for each in files]
    assert all(torch.isfinite(image).all() for image in images)
    assert len([record for record in caplog.records if record.name == "brats3d"]) == 1


def test_a_reader_that_the_pipeline_names_is_kept() -> None:
    named, default = LoadImaged("image", reader="NibabelReader"), LoadImaged("image")
    register_reader(Compose([named, Compose([default])]))
    assert not isinstance(named._loader.readers[-1], VolumeReader)
    assert isinstance(default._loader.readers[-1], VolumeReader)
