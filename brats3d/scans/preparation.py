"""Prepare a case: raw scans become BraTS's form, with as little change as possible.

The recipe: each sequence is registered to T1ce (or T1), and T1ce to the atlas. The transforms are composed, so that
each image is interpolated once. The brain mask is estimated in the native space of T1 (or T1ce), helps the registration
to the atlas, and is applied last. Bias fields are removed for the estimation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats3d.errors import DataError
from brats3d.scans.atlas_space import BRATS_GRID, load_atlas_t1
from brats3d.scans.bias_field import remove_bias_field
from brats3d.scans.brain_mask import BrainMask, find_brain_mask
from brats3d.scans.condition import Condition, judge_condition
from brats3d.scans.itk_images import Grid, float_image, resample, voxels
from brats3d.scans.registration import Registration, compose, register, rigid_part
from brats3d.scans.scan import Scan

MIN_LOST_WHEN_MOVED = 0.25
"""Smallest fraction of the mutual information that a good registration loses when it is moved by 10 mm: 0.29 to 0.51 in
a real head and phantoms; 0.07 to 0.19 for another patient, and for headers that are off by 45 to 180 degrees."""

MIN_LOST_IN_BRAIN = 0.45
"""The same within the brain, if only one of the two images has a skull: 0.59 to 0.93 in a real head and phantoms; 0.04
to 0.25 for another patient, a wrong header, and a real head that was off by 13 mm."""

MIN_ATLAS_DICE = 0.85
"""Smallest Dice between the brain mask, scaled to the size of the atlas, and the mask of the atlas."""


@dataclass(frozen=True, eq=False)
class PreparedSequence:
    """One sequence in BraTS's form.

    Args:
        scan: the raw scan.
        values: (x, y, z), skull-stripped; background 0.
        with_skull: the same before skull-stripping.
        transform: SimpleITK transform, points of the case -> points of the raw scan; None if nothing has moved.
        registration: the registration of T1ce (or T1) to this sequence, if there was one.
    """

    scan: Scan
    values: np.ndarray
    with_skull: np.ndarray
    transform: Any = None
    registration: Registration | None = None


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case in BraTS's form.

    Args:
        condition: what the raw case lacked.
        grid: the grid of all sequences.
        sequences: modality -> sequence.
        mask: the brain mask; None if the case was left alone.
        inside: (x, y, z) bool, the brain mask on the grid of the case.
        atlas_dice: Dice between the brain and that of the atlas, scaled to its size; None if they were not registered.
    """

    condition: Condition
    grid: Grid
    sequences: Mapping[str, PreparedSequence]
    mask: BrainMask | None = None
    inside: np.ndarray | None = None
    atlas_dice: float | None = None


def prepare_case(case_id: str, scans: Mapping[str, Scan]) -> PreparedCase:
    """Bring a case into BraTS's form. Steps that it does not need are skipped.

    Args:
        case_id: for messages.
        scans: modality -> scan.

    Raises:
        UsageError: if the case has a skull and deepbet is not installed.
        DataError: if there is neither T1 nor T1ce, or if the brain mask or a registration is implausible.
    """
    condition = judge_condition(scans)
    if not condition.is_prepared:
        mask = find_brain_mask(case_id, scans, condition.with_skull)
        if not condition.needs_only_mask:
            return _register(case_id, scans, condition, mask)
    images = {modality: np.asarray(scan.volume.values) for modality, scan in scans.items()}
    grid = Grid.of(next(iter(scans.values())).volume.header)
    if condition.is_prepared:
        return PreparedCase(condition, grid, {m: PreparedSequence(scans[m], v, v) for m, v in images.items()})
    sequences = {m: PreparedSequence(scans[m], v * mask.values.astype(v.dtype), v) for m, v in images.items()}
    return PreparedCase(condition, grid, sequences, mask, mask.values)


def _register(case_id: str, scans: Mapping[str, Scan], condition: Condition, mask: BrainMask) -> PreparedCase:
    import SimpleITK as sitk

    raw = {modality: float_image(scan.volume) for modality, scan in scans.items()}
    even = {modality: remove_bias_field(image) for modality, image in raw.items()}
    reference = "t1ce" if "t1ce" in scans else "t1"
    brains = {m: raw[m] != 0 for m in scans if m not in condition.with_skull}
    found = {m: _to_sequence(case_id, reference, m, even, brains) for m in scans if m != reference}
    from_reference = {m: found[m].transform if m in found else sitk.Euler3DTransform() for m in scans}
    brain = Grid.of(scans[mask.modality].volume.header).to_itk(mask.values.astype(np.float32))
    native_brain = resample(brain, Grid.of(scans[reference].volume.header), from_reference[mask.modality])
    from_atlas, atlas_dice = _from_atlas(case_id, even[reference] * native_brain, native_brain)
    transforms = {m: compose(from_atlas, from_reference[m]) for m in scans}
    inside = _sample_mask(mask.values, Grid.of(scans[mask.modality].volume.header), transforms[mask.modality])
    sequences = {}
    for modality, scan in scans.items():
        moved = _like(scan, voxels(resample(raw[modality], BRATS_GRID, transforms[modality], _INTERPOLATOR)))
        values = moved * inside.astype(moved.dtype)
        sequences[modality] = PreparedSequence(scan, values, moved, transforms[modality], found.get(modality))
    return PreparedCase(condition, BRATS_GRID, sequences, mask, inside, atlas_dice)


_INTERPOLATOR = "cubic"


def _to_sequence(
    case_id: str, reference: str, modality: str, images: Mapping[str, Any], brains: Mapping[str, Any]
) -> Registration:
    """Register the reference to another sequence. If only one of them has a skull, the result is judged in the brain.

    Args:
        case_id: for messages.
        reference, modality: the two sequences.
        images: modality -> image.
        brains: modality -> mask of a skull-stripped image.
    """
    masks = brains.get(reference), brains.get(modality)
    if (masks[0] is None) == (masks[1] is None):
        found, least = register(images[reference], images[modality]), MIN_LOST_WHEN_MOVED
    else:
        found, least = register(images[reference], images[modality], False, *masks), MIN_LOST_IN_BRAIN
    if found.lost_when_moved < least:
        problem = f"the registration of {modality} to {reference} failed: moved by 10 mm it loses"
        problem += f" {max(0.0, found.lost_when_moved):.0%} of its mutual information"
        advice = "check that both show the same head"
        raise DataError(case_id, problem, expected=f"at least {least:.0%}", advice=advice)
    return found


def _from_atlas(case_id: str, image: Any, mask: Any) -> tuple[Any, float]:
    """Register the atlas to a skull-stripped image.

    The size of the brain is part of the search, since a rigid search tilts brains that are smaller than the atlas.

    Returns:
        The rigid transform from the atlas to the image, and the Dice of the brains if their sizes are matched.
    """
    t1, atlas_mask = load_atlas_t1()
    found = register(BRATS_GRID.to_itk(t1), image, scale=True).transform
    dice = _dice(voxels(resample(mask, BRATS_GRID, found)) >= 0.5, atlas_mask)
    if dice < MIN_ATLAS_DICE:
        problem = f"the registration to the atlas failed: the brains overlap with a Dice of {dice:.2f}"
        raise DataError(case_id, problem, expected=f"at least {MIN_ATLAS_DICE}")
    return rigid_part(found), dice


def _sample_mask(values: np.ndarray, grid: Grid, transform: Any) -> np.ndarray:
    """Sample a mask on BraTS's grid; the depth below its surface is interpolated, so that slices leave no steps."""
    from scipy.ndimage import distance_transform_edt

    spacing_mm = np.linalg.norm(grid.affine[:3, :3], axis=0)
    depth_mm = distance_transform_edt(values, spacing_mm) - distance_transform_edt(~values, spacing_mm)
    return voxels(resample(grid.to_itk(depth_mm.astype(np.float32)), BRATS_GRID, transform)) > 0


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def _like(scan: Scan, values: np.ndarray) -> np.ndarray:
    """Clip interpolated values to the range of the scan; round them if it consists of whole numbers."""
    raw = np.asarray(scan.volume.values)
    low, high = float(raw.min()), float(raw.max())
    values = np.clip(values, low, high)
    if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max and np.array_equal(raw, np.round(raw)):
        return np.round(values).astype(np.int16)
    return values.astype(np.float32)
