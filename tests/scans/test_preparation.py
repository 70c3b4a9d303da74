"""The recipe on a raw phantom with known motions. The brain mask is given: a synthetic skull is foreign to deepbet."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from brats3d.errors import DataError
from brats3d.files import Volume, make_header
from brats3d.labels import MODALITIES
from brats3d.phantoms import RawPhantom, make_raw_phantom
from brats3d.scans import Scan, brain_mask
from brats3d.scans.atlas_space import BRATS_GRID
from brats3d.scans.itk_images import RAS_TO_LPS, Grid, resample, voxels
from brats3d.scans.preparation import PreparedCase, prepare_case
from brats3d.scans.prepared_files import read_native_spaces, write_prepared

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def raw() -> RawPhantom:
    return make_raw_phantom(4, "full")


def to_itk(motion: np.ndarray) -> sitk.AffineTransform:
    lps = RAS_TO_LPS @ motion @ RAS_TO_LPS
    return sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())


def scans_of(raw: RawPhantom) -> dict[str, Scan]:
    return {
        m: Scan(m, Volume(make_header(Path(f"{m}.nii.gz"), values.shape, affine, values.dtype), values), m)
        for m, (values, affine) in raw.images.items()
    }


@pytest.fixture(scope="module")
def prepared(raw: RawPhantom) -> PreparedCase:
    scans = scans_of(raw)
    native = brain_in_scan(raw, "t1", Grid.of(scans["t1"].volume.header))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brain_mask, "_estimate", lambda case_id, volume: native)
        return prepare_case("case", scans)


def errors_mm(raw: RawPhantom, prepared: PreparedCase, modality: str) -> np.ndarray:
    """Return how far points of the brain in T1ce are from their places in another sequence."""
    points = nib.affines.apply_affine(raw.prepared.affine, np.argwhere(raw.brain)[::5000])
    # from the brain into the raw T1ce, from there into BraTS's space, and into the other raw scan
    there = nib.affines.apply_affine(RAS_TO_LPS @ raw.motions["t1ce"], points)
    back, forward = prepared.sequences["t1ce"].transform.GetInverse(), prepared.sequences[modality].transform
    found = np.array([forward.TransformPoint(back.TransformPoint(point.tolist())) for point in there])
    return np.linalg.norm(found - nib.affines.apply_affine(RAS_TO_LPS @ raw.motions[modality], points), axis=1)


def test_the_sequences_are_registered_within_a_millimetre(raw: RawPhantom, prepared: PreparedCase):
    assert prepared.condition.with_skull == MODALITIES
    for modality in ("t1", "t2", "flair"):
        assert errors_mm(raw, prepared, modality).mean() < 1, modality


def test_the_result_is_a_stripped_brain_on_brats_grid(raw: RawPhantom, prepared: PreparedCase):
    for sequence in prepared.sequences.values():
        assert sequence.values.shape == BRATS_GRID.shape
        assert sequence.values.dtype == np.int16
        assert sequence.values.min() >= 0
        assert not sequence.values[~prepared.inside].any()
    assert np.count_nonzero(prepared.inside) == pytest.approx(np.count_nonzero(raw.brain), rel=0.03)
    assert prepared.atlas_dice > 0.9


def test_the_written_transforms_lead_back(prepared: PreparedCase, tmp_path: Path):
    write_prepared(tmp_path / "case", "case", prepared)
    assert (tmp_path / "case/case_check.png").stat().st_size > 50_000
    for modality, space in read_native_spaces(tmp_path / "case").items():
        sequence = prepared.sequences[modality]
        assert space.grid.shape == sequence.scan.volume.header.shape
        point = [-120.0, -110.0, 80.0]
        assert np.allclose(space.transform.TransformPoint(point), sequence.transform.TransformPoint(point), atol=1e-6)


def brain_in_scan(raw: RawPhantom, modality: str, grid: Grid) -> np.ndarray:
    """Return the true brain on the grid of a raw scan."""
    brain = Grid(raw.brain.shape, raw.prepared.affine).to_itk(raw.brain.astype(np.float32))
    return voxels(resample(brain, grid, to_itk(np.linalg.inv(raw.motions[modality])))) >= 0.5


def test_stripped_scans_are_registered_with_their_own_mask_and_one_with_skull_is_stripped(raw: RawPhantom, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepbet", None)
    scans = scans_of(raw)
    for modality in ("t1", "t1ce"):
        volume = scans[modality].volume
        values = volume.values * brain_in_scan(raw, modality, Grid.of(volume.header))
        scans[modality] = Scan(modality, Volume(volume.header, values), modality)
    del scans["t2"]
    prepared = prepare_case("case", scans)
    assert prepared.condition.with_skull == ("flair",)
    assert (prepared.mask.modality, prepared.mask.method) == ("t1", "not 0")
    assert errors_mm(raw, prepared, "t1").mean() < 1
    assert errors_mm(raw, prepared, "flair").mean() < 1
    to_brats_space = sitk.CompositeTransform(
        [to_itk(np.linalg.inv(raw.motions["t1"])), prepared.sequences["t1"].transform]
    )
    brain = Grid(raw.brain.shape, raw.prepared.affine).to_itk(raw.brain.astype(np.float32))
    true = voxels(resample(brain, BRATS_GRID, to_brats_space)) >= 0.5
    assert 2 * np.count_nonzero(prepared.inside & true) / (prepared.inside.sum() + true.sum()) > 0.985
    assert not prepared.sequences["flair"].values[~prepared.inside].any()


def test_a_sequence_that_shows_no_head_fails_the_case(raw: RawPhantom):
    scans = scans_of(raw)
    header = scans["flair"].volume.header
    noise = np.random.default_rng(0).normal(500, 50, header.shape).astype(np.int16)
    scans = {"t1": scans["t1"], "flair": Scan("flair", Volume(header, noise), "flair")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brain_mask, "_estimate", lambda case_id, volume: _box(volume))
        with pytest.raises(DataError, match="registration of flair to t1 failed"):
            prepare_case("case", scans)


def _box(volume: Volume) -> np.ndarray:
    """Return a box of 1200 ml in the middle of a volume."""
    sides = [round(106 / mm / 2) for mm in volume.header.spacing_mm]
    box = np.zeros(volume.header.shape, bool)
    box[tuple(slice(n // 2 - side, n // 2 + side) for n, side in zip(box.shape, sides, strict=True))] = True
    return box
