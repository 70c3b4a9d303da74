"""Data sets with one defect each, for every kind of finding."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.cases.naming_rules import layout_of
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


def _zero_sform(root: Path) -> None:
    image = nib.load(_path(root, "t1"))
    image.set_qform(image.affine, code=1)
    content = bytearray(image.to_bytes())
    content[280:328] = bytes(48)
    _path(root, "t1").write_bytes(gzip.compress(content))


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


def _change_all_labels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        for path in sorted(root.rglob("*_seg.nii.gz")):
            _change(path, change)

    return spoil


def _of_hd_glio(label: np.ndarray) -> np.ndarray:
    return np.where(label == 4, 2, label > 0).astype(np.uint8)


def _exchanged(root: Path) -> None:
    for case_id in (CASE, LAST):
        _change(_path(root, "seg", case_id), lambda label: np.array([0, 2, 1, 3, 4], np.uint8)[label])


def _large_voxels(root: Path, mm: float) -> None:
    """Give the volumes of a case, 16 x 16 x 12 voxels with a brain of 12 x 12 x 10, a field of view for a head."""
    for path in sorted((root / CASE).iterdir()):
        _change(path, lambda values: values, np.diag([-mm, -mm, mm, 1]))


def _part_of_a_brain(root: Path) -> None:
    _large_voxels(root, 12)
    _change(_path(root, "t2"), _with((slice(None), slice(None), slice(3, None)), 0))


DEFECTS: dict[str, Callable[[Path], object]] = {
    "missing sequence": lambda root: _path(root, "t2").unlink(),
    "duplicate files": lambda root: shutil.copy(_path(root, "t1"), _path(root, "t1n")),
    "ambiguous segmentation": _ambiguous,
    "case in several folders": lambda root: shutil.copytree(root / CASE, root / "more" / CASE),
    "unsupported release": _radiotherapy,
    "misnamed segmentation": lambda root: _path(root, "seg").rename(root / CASE / "W39_1998.09.19_Segm.nii.gz"),
    "other file names": lambda root: shutil.copy(_path(root, "t2"), root / CASE / f"{CASE}_DWI.nii.gz"),
    "no segmentation": lambda root: _path(root, "seg").unlink(),
    "unreadable name mapping": lambda root: (root / "name_mapping.csv").write_text("a,b\n1,2\n"),
    "spreadsheet mapping": lambda root: (root / "BraTS2023_2017_GLI_Mapping.xlsx").write_bytes(b"PK"),
    "no name mapping": lambda root: _rename(root, CASE, "Brats18_2013_2_1", labels_2023=False),
    "invalid datalist": lambda root: (root / "datalist.json").write_text('{"training": ['),
    "unknown case in patients.csv": lambda root: (root / "patients.csv").write_text("case_id,patient_id\nX,a\n"),
    "too few patients": _without_labels,
    "unreadable file": lambda root: _path(root, "t2").write_bytes(_path(root, "t2").read_bytes()[:-100]),
    "identical sequences": lambda root: shutil.copy(_path(root, "t1"), _path(root, "t1ce")),
    "image in several cases": lambda root: shutil.copy(_path(root, "t1"), _path(root, "t1", LAST)),
    "copied case": _same_case,
    "different shape": _change_voxels("t1", lambda values: values[:-1]),
    "different orientation": _reoriented,
    "different affine": lambda root: _change(_path(root, "seg"), lambda values: values, np.eye(4)),
    "no affine": _lost,
    "invalid sform": _zero_sform,
    "one frame": _change_voxels("seg", lambda label: label[..., None]),
    "sform and qform differ": _two_affines,
    "voxel spacing": _spacing,
    "NaN or Inf": _change_voxels("flair", _with((8, 8, slice(3)), np.nan, np.float32)),
    "NaN background": _change_voxels("t1", lambda values: np.where(values == 0, np.nan, values).astype(np.float32)),
    "constant image": _change_voxels("flair", np.zeros_like),
    "no positive voxels": _change_voxels("t2", lambda values: values - np.int16(2000)),
    "saturated": _change_voxels("t1ce", _with((slice(4, 8), slice(4, 8), 5), 32767)),
    "negative intensities": _change_voxels("t2", _z_scored),
    "ringing": _change_voxels("t2", _with((2, slice(2, 8), 1), -7)),
    "non-zero background": _change_voxels("t2", lambda values: values + np.int16(100)),
    "whole head": lambda root: _large_voxels(root, 15),
    "small brain": _part_of_a_brain,
    "outliers": _change_voxels("t2", _with((8, 8, 5), 1_000_000, np.int32)),
    "noisy background": _change_voxels("t2", _noisy),
    "unknown label convention": lambda root: _rename(root, CASE, "BraTS-PED-00007-000"),
    "unexpected labels": _change_voxels("seg", lambda label: np.where(label == 4, 3, label).astype(np.uint8)),
    "one label": _change_all_labels(lambda label: (label > 0).astype(np.uint8)),
    "edema inside the core": _change_all_labels(_of_hd_glio),
    "doubtful edema": _exchanged,
    "region in no case": _change_all_labels(lambda label: np.where(label == 4, 1, label).astype(np.uint8)),
    "labelled brain": _change_voxels("seg", _with((slice(2, 14), slice(2, 14), slice(1, 11)), 2)),
    "fractional labels": _change_voxels("seg", lambda label: np.where(label, label + 4e-4, 0).astype(np.float32)),
    "labels outside the brain": _change_voxels("seg", _with((0, 0, slice(5)), 2)),
    "no tumour": _change_voxels("seg", np.zeros_like),
    "empty region": _change_voxels("seg", lambda label: np.where(label == 4, 1, label).astype(np.uint8)),
    "tiny components": _change_voxels("seg", _with((2, 2, 1), 2)),
    "several releases": _other_release,
    "several time points": _time_points,
}


@pytest.fixture
def make_dataset(make_dataset: Callable[..., Path]) -> Callable[..., Path]:
    """The segmentations of the shared fixture are equal; here each differs from the others in one voxel."""

    def make(**options) -> Path:
        root = make_dataset(**options)
        for i, path in enumerate(sorted(root.rglob("*_seg.nii*"))):
            _change(path, _with((5, 4 + i % 8, 3), 1))
        return root

    return make


@pytest.fixture
def spoil() -> Callable[[Path, str], object]:
    """``spoil(root, kind)`` adds a defect of that kind to the three cases of ``make_dataset()``."""
    return lambda root, kind: DEFECTS[kind](root)


@pytest.fixture
def list_cases() -> Callable[..., None]:
    """``list_cases(root, **changes)`` writes a datalist.json of three cases; the second entry gets the changes."""

    def write(root: Path, **changes: object) -> None:
        entries = [
            {"image": [f"{i}/{i}_{m}.nii.gz" for m in MODALITIES], "label": f"{i}/{i}_seg.nii.gz", "fold": k}
            for k, i in enumerate(f"BraTS20_Training_00{n}" for n in (1, 2, 3))
        ]
        entries[1] |= changes
        (root / "datalist.json").write_text(json.dumps({"training": entries}))

    return write


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The NIfTI files that are opened by ``open`` or by pathlib."""
    paths: list[Path] = []

    def note(file, *arguments, **options):
        if isinstance(file, str | os.PathLike) and ".nii" in str(file):
            paths.append(Path(file))
        return original(file, *arguments, **options)

    original = io.open
    monkeypatch.setattr(io, "open", note)  # that of pathlib
    monkeypatch.setattr(builtins, "open", note)
    return paths
