"""Data sets with one defect each: a function for every kind of finding."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.cases.layouts import layout_of
from brats3d.labels import MODALITIES

CASE = "BraTS20_Training_002"
LAST = "BraTS20_Training_003"


def _path(root: Path, modality: str, case_id: str = CASE) -> Path:
    return root / case_id / f"{case_id}_{modality}.nii.gz"


def _change(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    values = change(np.asanyarray(image.dataobj).copy())
    nib.save(nib.Nifti1Image(values, image.affine if affine is None else affine), path)


def _change_voxels(modality: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda root: _change(_path(root, modality), change)


def _with(where: object, value: float, dtype: type | None = None) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(dtype or values.dtype)
        values[where] = value
        return values

    return change


def _rename(root: Path, case_id: str, new: str, labels_2023: bool = True) -> None:
    if labels_2023:
        _change(_path(root, "seg", case_id), lambda label: np.where(label == 4, 3, label).astype(np.uint8))
    for modality in (*MODALITIES, "seg"):
        place = root / new / f"{layout_of(new).file_name(new, modality)}.nii.gz"
        place.parent.mkdir(exist_ok=True)
        shutil.move(_path(root, modality, case_id), place)
    (root / case_id).rmdir()


def _ambiguous(root: Path) -> None:
    seg = _path(root, "seg")
    shutil.copy(seg, seg.with_name("one_Segm.nii.gz"))
    seg.rename(seg.with_name("two_Segm.nii.gz"))


def _same_case(root: Path) -> None:
    for modality in (*MODALITIES, "seg"):
        copy = _path(root, modality, "BraTS20_Training_004")
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(_path(root, modality), copy)


def _reoriented(root: Path) -> None:
    path = _path(root, "t1")
    image = nib.load(path)
    turned = image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    nib.save(nib.Nifti1Image(np.asanyarray(turned.dataobj).copy(), turned.affine), path)


def _lost(root: Path) -> None:
    for modality in (*MODALITIES, "seg"):
        image = nib.load(_path(root, modality))
        values = np.asanyarray(image.dataobj).copy()
        nib.save(nib.Nifti1Image(values, None), _path(root, modality))


def _two_affines(root: Path) -> None:
    image = nib.load(_path(root, "t1"))
    values, affine = np.asanyarray(image.dataobj).copy(), image.affine.copy()
    image = nib.Nifti1Image(values, affine)
    affine[0, 3] += 5
    image.set_qform(affine, code=1)
    nib.save(image, _path(root, "t1"))


def _spacing(root: Path) -> None:
    for modality in (*MODALITIES, "seg"):
        _change(_path(root, modality), lambda values: values, np.diag([-1.3, -1.0, 1.0, 1.0]))


def _z_scored(values: np.ndarray) -> np.ndarray:
    return np.where(values, values - np.median(values[values != 0]).astype(np.int16), 0)


def _noisy(values: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(1, 50, values.shape, values.dtype)
    return np.where(values == 0, noise, values)


def _other_release(root: Path) -> None:
    _rename(root, CASE, "BraTS2021_00007", labels_2023=False)
    _rename(root, LAST, "BraTS-GLI-00007-000")


def _radiotherapy(root: Path) -> None:
    new = "BraTS-MEN-RT-0001-1"
    _rename(root, CASE, new)
    for modality in ("t1", "t2", "flair", "seg"):  # they have one sequence, and a "gtv"
        (root / new / f"{layout_of(new).file_name(new, modality)}.nii.gz").unlink()


def _time_points(root: Path) -> None:
    _rename(root, CASE, "BraTS-GLI-00007-000")
    _rename(root, LAST, "BraTS-GLI-00007-001")


def _without_labels(root: Path) -> None:
    for case_id in (CASE, LAST):
        _path(root, "seg", case_id).unlink()


DEFECTS: dict[str, Callable[[Path], object]] = {
    "missing": lambda root: _path(root, "t2").unlink(),
    "double": lambda root: shutil.copy(_path(root, "t1"), _path(root, "t1n")),
    "ambiguous": _ambiguous,
    "case twice": lambda root: shutil.copytree(root / CASE, root / "more" / CASE),
    "unusable": _radiotherapy,
    "misnamed": lambda root: _path(root, "seg").rename(root / CASE / "W39_1998.09.19_Segm.nii.gz"),
    "no segmentation": lambda root: _path(root, "seg").unlink(),
    "name mapping": lambda root: (root / "name_mapping.csv").write_text("a,b\n1,2\n"),
    "spreadsheet": lambda root: (root / "BraTS2023_2017_GLI_Mapping.xlsx").write_bytes(b"PK"),
    "releases without mapping": lambda root: _rename(root, CASE, "Brats18_2013_2_1", labels_2023=False),
    "datalist": lambda root: (root / "datalist.json").write_text('{"training": ['),
    "too few patients": _without_labels,
    "unreadable": lambda root: _path(root, "t2").write_bytes(_path(root, "t2").read_bytes()[:-100]),
    "one sequence twice": lambda root: shutil.copy(_path(root, "t1"), _path(root, "t1ce")),
    "same file": lambda root: shutil.copy(_path(root, "t1"), _path(root, "t1", LAST)),
    "same case": _same_case,
    "shape": _change_voxels("t1", lambda values: values[:-1]),
    "orientation": _reoriented,
    "affine": lambda root: _change(_path(root, "seg"), lambda values: values, np.eye(4)),
    "header lost": _lost,
    "two affines": _two_affines,
    "spacing": _spacing,
    "NaN or Inf": _change_voxels("flair", _with((8, 8, slice(3)), np.nan, np.float32)),
    "constant": _change_voxels("flair", np.zeros_like),
    "nothing above 0": _change_voxels("t2", lambda values: values - np.int16(2000)),
    "saturated": _change_voxels("t1ce", _with((slice(4, 8), slice(4, 8), 5), 32767)),
    "negative": _change_voxels("t2", _z_scored),
    "ringing": _change_voxels("t2", _with((2, slice(2, 8), 1), -7)),
    "background": _change_voxels("t2", lambda values: values + np.int16(100)),
    "noisy background": _change_voxels("t2", _noisy),
    "label convention": lambda root: _rename(root, CASE, "BraTS-PED-00007-000"),
    "label values": _change_voxels("seg", lambda label: np.where(label == 4, 3, label).astype(np.uint8)),
    "fractional labels": _change_voxels("seg", lambda label: np.where(label, label + 4e-4, 0).astype(np.float32)),
    "labels outside the brain": _change_voxels("seg", _with((0, 0, slice(5)), 2)),
    "no tumour": _change_voxels("seg", np.zeros_like),
    "empty region": _change_voxels("seg", lambda label: np.where(label == 4, 1, label).astype(np.uint8)),
    "tiny components": _change_voxels("seg", _with((2, 2, 1), 2)),
    "other release": _other_release,
    "time points": _time_points,
}


@pytest.fixture
def make_dataset(make_dataset: Callable[..., Path]) -> Callable[..., Path]:
    """The data sets of all tests have equal segmentations; here each differs from the others in one voxel."""

    def make(**options) -> Path:
        root = make_dataset(**options)
        for i, path in enumerate(sorted(root.rglob("*_seg.nii*"))):
            _change(path, _with((5, 4 + i % 8, 3), 1))
        return root

    return make


@pytest.fixture
def spoil() -> Callable[[Path, str], object]:
    """``spoil(root, kind)`` gives the three cases of ``make_dataset()`` a defect of that kind."""
    return lambda root, kind: DEFECTS[kind](root)


@pytest.fixture
def defects() -> set[str]:
    """The kinds for which there is a defect."""
    return set(DEFECTS)
