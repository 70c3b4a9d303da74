"""Preparing folders of raw scans: what a case lacks, what is left alone, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brats3d.cli import main
from brats3d.errors import DataError, UsageError
from brats3d.files import Volume, make_header, write_nifti
from brats3d.scans import Scan, brain_mask, prepare_scans
from brats3d.scans.atlas_space import BRATS_GRID
from brats3d.scans.bias_field import remove_bias_field
from brats3d.scans.brain_mask import find_brain_mask
from brats3d.scans.condition import judge_condition
from brats3d.scans.itk_images import Grid, voxels
from brats3d.scans.preparation import _sample_mask, prepare_case

MODALITIES = ("t1", "t1ce", "t2", "flair")
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
RNG = np.random.default_rng(0)


def scan(modality: str, values: np.ndarray, spacing_mm: tuple[float, ...] = (1, 1, 1)) -> Scan:
    affine = np.diag([*spacing_mm, 1.0])
    header = make_header(Path(f"{modality}.nii.gz"), values.shape, affine, values.dtype)
    return Scan(modality, Volume(header, values), modality)


def ellipsoid(shape: tuple[int, ...], spacing_mm: tuple[float, ...], radii_mm: tuple[float, ...]) -> np.ndarray:
    places = [(np.arange(n) - (n - 1) / 2) * mm / radius for n, mm, radius in zip(shape, spacing_mm, radii_mm)]
    return sum(np.square(np.ix_(*places)[k]) for k in range(3)) < 1


def textured(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, RNG.integers(300, 500, inside.shape), 0).astype(np.int16)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return RNG.integers(1, 20, shape).astype(np.int16)


def test_a_stripped_case_on_one_grid_at_1_mm_lacks_nothing():
    inside = ellipsoid((20, 20, 16), (1, 1, 1), (7, 8, 6))
    condition = judge_condition({m: scan(m, textured(inside)) for m in MODALITIES})
    assert condition.is_prepared
    assert not condition.needs_only_mask


def test_noise_in_the_background_and_other_grids_are_noticed():
    inside = ellipsoid((20, 20, 16), (1, 1, 5), (7, 8, 30))
    noisy = textured(inside) + noise(inside.shape)
    condition = judge_condition({"t1": scan("t1", noisy, (1, 1, 5)), "t2": scan("t2", textured(inside))})
    assert condition.with_skull == ("t1",)
    assert not (condition.on_one_grid or condition.at_1_mm or condition.on_brats_grid or condition.is_prepared)


def test_a_head_in_few_slices_with_a_background_of_0_has_a_skull():
    shape, spacing_mm = (64, 64, 20), (3.5, 3.5, 6.5)  # 130 mm high, less than a head
    head = textured(ellipsoid(shape, spacing_mm, (85, 105, 90)))
    brain = textured(ellipsoid(shape, spacing_mm, (68, 82, 60)))
    assert judge_condition({"t1": scan("t1", head, spacing_mm)}).with_skull == ("t1",)
    assert not judge_condition({"t1": scan("t1", brain, spacing_mm)}).with_skull


def test_shoulders_in_the_corners_of_a_large_field_of_view_are_no_crop_of_a_brain():
    head = textured(ellipsoid((50, 60, 50), (4, 4, 4), (85, 105, 90)))
    head[:, :, :5] = 400
    assert judge_condition({"t1": scan("t1", head, (4, 4, 4))}).with_skull == ("t1",)


def test_the_mask_of_a_stripped_image_is_what_is_not_0_without_holes():
    spacing_mm = (4.0, 4.0, 4.0)
    inside = ellipsoid((50, 56, 46), spacing_mm, (68, 82, 60))
    values = textured(inside)
    values[25, 28, 23] = 0
    mask = find_brain_mask("case", {"t1": scan("t1", values, spacing_mm)}, ())
    assert mask.method == "not 0"
    assert np.array_equal(mask.values, inside)
    assert mask.volume_ml == pytest.approx(4 / 3 * np.pi * 6.8 * 8.2 * 6.0, rel=0.02)


def test_the_mask_of_a_stripped_t1ce_comes_before_an_estimate_from_t1():
    spacing_mm = (4.0, 4.0, 4.0)
    stripped = scan("t1ce", textured(ellipsoid((50, 56, 46), spacing_mm, (68, 82, 60))), spacing_mm)
    mask = find_brain_mask("case", {"t1": scan("t1", np.ones((9, 9, 9))), "t1ce": stripped}, ("t1",))
    assert (mask.modality, mask.method) == ("t1ce", "not 0")


def test_a_mask_of_thick_slices_is_sampled_without_steps():
    spacing_mm, radii_mm = (2.0, 2.0, 6.0), (68, 82, 60)
    affine = np.diag([*spacing_mm, 1.0])
    shape = (80, 90, 24)
    affine[:3, 3] = (-119.5, 119.5, 77) - (np.array(shape) - 1) / 2 * spacing_mm  # the same middle as BraTS's grid
    inside = _sample_mask(ellipsoid(shape, spacing_mm, radii_mm), Grid(shape, affine), sitk.Transform())
    true = ellipsoid(BRATS_GRID.shape, (1, 1, 1), radii_mm)
    assert 2 * np.count_nonzero(inside & true) / (inside.sum() + true.sum()) > 0.99


def test_on_brats_grid_only_the_mask_is_applied(monkeypatch):
    inside = ellipsoid(BRATS_GRID.shape, (1, 1, 1), (68, 82, 60))
    monkeypatch.setattr(brain_mask, "_estimate", lambda case_id, volume: inside)
    heads = {m: scan(m, textured(inside) + noise(BRATS_GRID.shape)) for m in ("t1", "flair")}
    prepared = prepare_case("case", heads)
    for modality, sequence in prepared.sequences.items():
        assert sequence.transform is None
        assert np.array_equal(sequence.values, np.where(inside, heads[modality].volume.values, 0))
    assert np.array_equal(prepared.grid.affine, heads["t1"].volume.header.affine)


def test_at_1_mm_on_another_grid_a_head_is_registered_to_the_atlas():
    head = textured(ellipsoid((32, 32, 22), (1, 1, 1), (14, 14, 9))) + noise((32, 32, 22))
    condition = judge_condition({"t1": scan("t1", head)})
    assert condition.at_1_mm and condition.on_one_grid
    assert not (condition.is_prepared or condition.needs_only_mask)


@pytest.mark.parametrize(("value", "problem"), [(0, "every voxel is 0"), (7, "every voxel above 0 is 7")])
def test_an_empty_scan_is_refused(value: int, problem: str):
    with pytest.raises(DataError, match=problem) as caught:
        judge_condition({"flair": scan("flair", np.full((9, 9, 9), value, np.int16))})
    assert caught.value.subject == "flair"


def test_a_scan_with_nan_is_refused():
    values = np.ones((9, 9, 9), np.float32)
    values[4, 4, 4:6] = np.nan, np.inf
    with pytest.raises(DataError, match="2 voxels are NaN or infinite"):
        judge_condition({"t1": scan("t1", values)})


def test_a_mask_of_another_size_than_a_brain_is_refused():
    spacing_mm = (4.0, 4.0, 4.0)
    small = scan("t1ce", textured(ellipsoid((50, 50, 50), spacing_mm, (40, 40, 40))), spacing_mm)
    with pytest.raises(DataError, match="has 270 ml") as caught:
        find_brain_mask("case", {"t1ce": small}, ())
    assert caught.value.subject == "case"


def test_a_case_without_t1_and_t1ce_is_refused():
    with pytest.raises(DataError) as caught:
        find_brain_mask("case", {"flair": scan("flair", np.ones((4, 4, 4)))}, ())
    assert caught.value.found == "flair"


def test_a_smooth_bias_field_is_reduced():
    shape = (40, 44, 36)
    inside = ellipsoid(shape, (4, 4, 4), (70, 80, 65))
    field = np.exp(0.4 * np.linspace(-1, 1, shape[1]))[None, :, None]
    values = (inside * field * RNG.normal(100, 2, shape)).astype(np.float32)
    even = voxels(remove_bias_field(Grid(shape, np.diag([4.0, 4, 4, 1])).to_itk(values)))
    before, after = (each[inside].std() / each[inside].mean() for each in (values, even))
    assert after < before / 2


def test_a_normalised_image_is_only_shifted():
    values = RNG.normal(0, 1, (8, 8, 8)).astype(np.float32)
    even = voxels(remove_bias_field(Grid(values.shape, np.eye(4)).to_itk(values)))
    assert np.allclose(even, values - values.min(), atol=1e-6)


def write_case(folder: Path, modalities: tuple[str, ...] = MODALITIES) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    images = {m: textured(ellipsoid((20, 20, 16), (1, 1, 1), (7, 8, 6))) for m in modalities}
    for modality, values in images.items():
        write_nifti(folder / f"{folder.name}_{modality}.nii.gz", values, AFFINE)
    return images


def test_a_prepared_case_is_left_alone_and_a_failed_one_does_not_stop_it(tmp_path: Path, capsys):
    images = write_case(tmp_path / "in/patient_1")
    write_case(tmp_path / "in/patient_2", ("t2", "flair"))
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "Prepared 1 case" in printed
    assert "no T1" in printed
    case = tmp_path / "out/patient_1"
    for modality, values in images.items():
        written = nib.load(case / f"patient_1_{modality}.nii.gz")
        assert np.array_equal(np.asanyarray(written.dataobj), values)
        assert np.array_equal(written.affine, AFFINE)
    record = json.loads((case / "preparation.json").read_text())
    assert record["space"] == "as before"
    assert record["sequences"]["t2"]["transform"] is None
    assert [failure["case_id"] for failure in json.loads((tmp_path / "out/failures.json").read_text())["failures"]] == [
        "patient_2"
    ]
    assert not (tmp_path / "out/patient_2").exists()


def test_a_second_run_skips_what_is_done(tmp_path: Path):
    write_case(tmp_path / "in/patient_1")
    prepare_scans(tmp_path / "in", tmp_path / "out")
    again = prepare_scans(tmp_path / "in", tmp_path / "out")
    assert (dict(again.done), again.skipped, dict(again.failed)) == ({}, ("patient_1",), {})


def write_head(folder: Path) -> None:
    """Write a T1 of a whole head of 2.7 litres on a background of 0."""
    folder.mkdir(parents=True)
    head = textured(ellipsoid((50, 60, 50), (4, 4, 4), (80, 100, 80)))
    write_nifti(folder / f"{folder.name}_t1.nii.gz", head, np.diag([4.0, 4, 4, 1]))


def test_without_deepbet_a_case_with_skull_fails_and_the_others_go_on(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "deepbet", None)
    write_head(tmp_path / "in/patient_1")
    write_case(tmp_path / "in/patient_2")
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "patient_1" in each]
    assert line.endswith('deepbet: is not installed; install the extra for raw scans: pip install "brats3d[scans]"')
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["patient_2"]


def test_without_pydicom_a_folder_with_dicom_stops_the_run(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    write_case(tmp_path / "in/patient_1")
    (tmp_path / "in/patient_1/IM0001").write_bytes(bytes(128) + b"DICM")
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert 'pydicom: is not installed; install the extra for raw scans: pip install "brats3d[scans]"' in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_output_may_not_lie_in_the_source(tmp_path: Path):
    write_case(tmp_path / "in/patient_1")
    with pytest.raises(UsageError) as caught:
        prepare_scans(tmp_path / "in", tmp_path / "in/out")
    assert caught.value.subject == "out"
