"""Tiny BraTS data sets for the tests: a box of brain with a tumour of nested boxes, written in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.labels import MODALITIES

SHAPE = (16, 16, 12)
CASE_IDS = {"brats2020": "BraTS20_Training_{:03d}", "brats2021": "BraTS2021_{:05d}"}
BRIGHTNESS = {
    "t1": (300, -60, -40, -20),
    "t1ce": (320, -80, -30, 300),
    "t2": (280, 120, 150, 80),
    "flair": (290, 60, 200, 90),
}
"""Of the brain, and what labels 1, 2 and 4 add to it."""


def brats_affine(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """BraTS's: 1 mm, x and y mirrored, the origin in the far corner of y."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    return affine


def _write_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, brats_affine(values.shape) if affine is None else affine), path)
    return path


def tiny_label(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Edema around enhancement around necrosis: uint8 {0, 1, 2, 4}."""
    label = np.zeros(shape, np.uint8)
    for value, share in ((2, 0.25), (4, 0.15), (1, 0.07)):
        label[tuple(slice(int(n * (0.5 - share)), int(np.ceil(n * (0.5 + share)))) for n in shape)] = value
    return label


def tiny_image(modality: str, seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """A bright box of brain with the tumour of :func:`tiny_label`, int16, 0 outside."""
    brain, *added = BRIGHTNESS[modality]
    label = tiny_label(shape)
    noise = np.random.default_rng([seed, MODALITIES.index(modality)]).normal(0, 15, shape)
    image = np.zeros(shape, np.int16)
    inside = tuple(slice(n // 8, n - n // 8) for n in shape)
    image[inside] = (brain + noise + sum(a * (label == v) for a, v in zip(added, (1, 2, 4), strict=True)))[inside]
    return image


def _write_case(
    folder: Path,
    suffix: str = ".nii.gz",
    modalities: Sequence[str] = MODALITIES,
    label: bool = True,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
) -> Path:
    for modality in modalities:
        _write_nifti(folder / f"{folder.name}_{modality}{suffix}", tiny_image(modality, seed, shape))
    if label:
        _write_nifti(folder / f"{folder.name}_seg{suffix}", tiny_label(shape))
    return folder


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    """``write_nifti(path, values, affine=None)`` writes an array; BraTS's affine unless another is given."""
    return _write_nifti


@pytest.fixture
def write_case() -> Callable[..., Path]:
    """``write_case(folder, suffix=".nii.gz", modalities=MODALITIES, label=True, seed=0, shape=(16, 16, 12))``: one case."""
    return _write_case


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """``make_dataset(cases=3, layout="brats2020", root=None, **write_case arguments)`` writes cases 1, 2, … and gives the folder."""

    def make(cases: int = 3, layout: str = "brats2020", root: Path | None = None, **options) -> Path:
        root = tmp_path / "data" if root is None else root
        for i in range(1, cases + 1):
            _write_case(root / CASE_IDS[layout].format(i), seed=i, **options)
        return root

    return make
