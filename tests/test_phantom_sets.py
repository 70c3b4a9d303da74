"""Phantoms on disk: named, whole, in BraTS's form."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.labels import MODALITIES
from brats3d.phantom import make_phantom
from brats3d.phantom_sets import case_seed, write_phantoms


def test_written_cases_have_the_layout_of_brats2020(tmp_path):
    folders = write_phantoms(tmp_path / "data", cases=2, seed=7, size="small", progress=False)
    names = ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert folders == [tmp_path / "data" / name for name in names]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == names  # nothing hidden is left
    kinds = ("flair", "seg", "t1", "t1ce", "t2")
    assert sorted(p.name for p in folders[0].iterdir()) == [f"{names[0]}_{kind}.nii.gz" for kind in kinds]
    case = make_phantom(case_seed(7, 1), "small")
    for name, array in {**case.images, "seg": case.label}.items():
        image = nib.load(folders[1] / f"{names[1]}_{name}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
        assert image.get_data_dtype() == array.dtype
        np.testing.assert_array_equal(image.affine, case.affine)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
        np.testing.assert_allclose(image.header.get_qform(), case.affine)
        assert image.header.get_zooms() == (1, 1, 1)


def test_a_case_does_not_depend_on_how_many_there_are(tmp_path):
    one = write_phantoms(tmp_path / "one", cases=1, seed=3, size="small", progress=False)[0]
    two = write_phantoms(tmp_path / "two", cases=2, seed=3, size="small", progress=False)
    read = lambda folder, kind: np.asanyarray(nib.load(next(folder.glob(f"*_{kind}.nii.gz"))).dataobj)  # noqa: E731
    for kind in (*MODALITIES, "seg"):
        np.testing.assert_array_equal(read(one, kind), read(two[0], kind))
    assert (read(two[0], "seg") != read(two[1], "seg")).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cases": 0}, r"cases: expected at least 1, got 0"),
        ({"size": "large"}, r"size: expected one of full, small, got 'large'"),
        ({"layout": "msd7"}, r"layout: expected one of brats2020.*, got 'msd7'"),
        ({"seed": -1}, r"seed: expected an integer from 0, got -1"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path / "data", **{"cases": 1, "size": "small", **arguments})
    assert not (tmp_path / "data").exists()


def test_an_existing_case_is_not_overwritten(tmp_path):
    taken = tmp_path / "BraTS20_Training_002"
    taken.mkdir()
    with pytest.raises(FileExistsError, match="BraTS20_Training_002"):
        write_phantoms(tmp_path, cases=2, size="small", progress=False)
    assert list(tmp_path.iterdir()) == [taken]


def test_a_failed_case_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(image: nib.Nifti1Image, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="No space"):
        write_phantoms(tmp_path, cases=1, size="small", progress=False)
    assert list(tmp_path.iterdir()) == []
