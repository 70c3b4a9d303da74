"""Raw cases: scans with the skull whose recorded motions lead back to the prepared case."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import resample_img

from brats3d.labels import MODALITIES
from brats3d.phantoms.named_settings import SETTINGS
from brats3d.phantoms.raw_phantom import RawPhantom, make_raw_phantom
from brats3d.phantoms.raw_scans import CLINICAL

THIN = replace(
    CLINICAL,
    in_plane_mm=(0.6, 0.6),
    slice_mm=(0.6, 0.6),
    gap_mm=(0, 0),
    sagittal_t1ce=0,
    noise=(0.005, 0.005),
    coil=(0, 0),
)


@cache
def small(seed: int = 3) -> RawPhantom:
    return make_raw_phantom(seed, "small", acquisition=THIN)


def carried_back(raw: RawPhantom, name: str, motion: np.ndarray) -> np.ndarray:
    """Return a raw scan resampled to the grid of the prepared case."""
    values, affine = raw.images[name]
    prepared = raw.prepared
    scan = nib.Nifti1Image(values.astype(np.float32), np.linalg.inv(motion) @ affine)
    return resample_img(
        scan, prepared.affine, prepared.label.shape, "linear", copy_header=True, force_resample=True
    ).get_fdata()


def agreement(raw: RawPhantom, name: str, motion: np.ndarray) -> float:
    """Return the correlation with the prepared image within the brain."""
    back = carried_back(raw, name, motion)[raw.brain]
    return float(np.corrcoef(back, raw.prepared.images[name][raw.brain])[0, 1])


@pytest.mark.parametrize("name", MODALITIES)
def test_the_recorded_motion_is_the_one_that_was_applied(name):
    raw = small()
    motion = raw.motions[name]
    true = agreement(raw, name, motion)
    assert true > 0.92
    for axis in range(3):
        for step_mm in (-1, 1):
            off = motion.copy()
            off[axis, 3] += step_mm
            assert agreement(raw, name, off) < true - 0.02


def test_every_sequence_has_a_grid_of_its_own():
    images = make_raw_phantom(1, "small").images
    assert tuple(images) == MODALITIES
    affines = [affine for _, affine in images.values()]
    assert all(not np.allclose(a, b) for k, a in enumerate(affines) for b in affines[:k])
    codes = {
        nib.aff2axcodes(affine) for seed in range(4) for _, affine in make_raw_phantom(seed, "small").images.values()
    }
    assert len(codes) == 3


def test_the_seed_determines_the_case():
    one, again, other = small(), make_raw_phantom(3, "small", acquisition=THIN), small(4)
    for name in MODALITIES:
        np.testing.assert_array_equal(one.images[name][0], again.images[name][0])
        np.testing.assert_array_equal(one.images[name][1], again.images[name][1])
        np.testing.assert_array_equal(one.motions[name], again.motions[name])
        assert not np.allclose(one.motions[name], other.motions[name])


def test_the_scan_shows_a_skull_and_noise_in_the_air_without_a_brain_mask():
    raw = small()
    image = raw.images["t1"][0]
    assert image.dtype == np.int16
    corner = image[:8, :8]
    assert (corner > 0).mean() > 0.5
    assert corner.mean() < 0.05 * image.max()
    back = carried_back(raw, "t1", raw.motions["t1"])
    assert (back[~raw.brain] > 0.5 * back[raw.brain].mean()).sum() > 0.2 * raw.brain.sum()  # scalp and muscle


def test_the_prepared_case_lacks_errors_of_preparation():
    setting = replace(SETTINGS["varied"], bitten=1, leaves_skull=1, misregistered=1, partial=1, rings=1, thick=1)
    prepared = make_raw_phantom(3, "small", setting=setting, acquisition=THIN).prepared
    for name in MODALITIES:
        np.testing.assert_array_equal(prepared.images[name], small().prepared.images[name])
        np.testing.assert_array_equal(prepared.images[name] != 0, small().brain)


@pytest.mark.slow
def test_a_full_size_case_is_a_clinical_study():
    raw = make_raw_phantom(2)
    for name, (values, affine) in raw.images.items():
        spacing = np.sort(np.linalg.norm(affine[:3, :3], axis=0))
        assert 0.8 <= spacing[0] <= spacing[1] <= 1
        assert values.size < 20e6
        assert agreement(raw, name, raw.motions[name]) > 0.8
