"""Repair the voxels and affines of one case, if nothing is lost.

It follows the rules of the ``check_*`` modules, so that a second audit finds nothing left to repair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats3d.audit.check_images import MAX_NON_FINITE, is_background, is_ringing, open_background
from brats3d.audit.check_labels import MAX_ROUNDING
from brats3d.cases import background_of, measure_image, usual_grid
from brats3d.errors import DataError
from brats3d.files import Header, Volume, format_affine, has_nifti_name, image_ending, same_grid, to_grid


@dataclass(frozen=True, eq=False)
class RepairedVolume:
    """The new content of a file.

    Args:
        header: the grid and the other header fields of the file.
        values: shape (x, y, z).
        changes: what was changed, with counts; empty if nothing was.
    """

    header: Header
    values: np.ndarray
    changes: tuple[str, ...]


def repair_case(images: Mapping[str, Volume], label: Volume | None) -> dict[Path, RepairedVolume]:
    """Repair the files of one case: grids first, then intensities, then the segmentation against the repaired images.

    Args:
        images: modality -> volume.
        label: the segmentation, if there is one.

    Returns:
        file -> new content, for each file that changes.

    Raises:
        DataError: if a file cannot be brought onto the grid of the others.
    """
    volumes = [*images.values(), *([label] if label else [])]
    expected = usual_grid([volume.header for volume in volumes])
    aligned = [volume for volume in images.values() if same_grid(volume.header, expected)]
    repaired: dict[Path, RepairedVolume] = {}
    for volume in volumes:
        is_label = volume is label
        placed = _onto_grid(volume, expected, aligned, is_label)
        if is_label:
            values, changes = repair_label(placed.values, [each.values for each in repaired.values()])
        else:
            values, changes = repair_image(placed.values)
        values = _narrow(values, volume.header.dtype)
        changes = (*_changes_by_reading(volume.header), *placed.changes, *changes)
        repaired[volume.header.path] = RepairedVolume(placed.header, values, changes)
    return {path: each for path, each in repaired.items() if each.changes}


def repair_image(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Set a few NaN and Inf to 0, subtract a constant background, set ringing to 0, and clip outliers.

    Args:
        values: voxels, shape (x, y, z).

    Returns:
        The voxels, in the same dtype unless the difference does not fit into it; and what was changed.
    """
    changes = []
    finite = np.isfinite(values)
    bad = int(values.size - np.count_nonzero(finite))
    if bad > MAX_NON_FINITE * values.size:
        return values, ()
    if bad:
        values = np.where(finite, values, 0)
        changes.append(f"set {bad:,} voxels that were NaN or Inf to 0")
    background = background_of(values)
    if background and values.min() < values.max():
        values = _subtract(values, background)
        changes.append(f"subtracted the background value {background:g} from every voxel")
    low, high = values.min(), values.max()
    if low < 0 and background is not None:
        negative = int(np.count_nonzero(values < 0))
        if is_ringing(values, low, high, negative):
            values = np.where(values < 0, 0, values)
            changes.append(f"set {negative:,} voxels below 0, down to {low:g}, to 0")
    facts = measure_image(values, (1, 1, 1))
    if facts.outliers:
        floor, limit = np.array([facts.floor, facts.limit]).astype(values.dtype)
        values = np.clip(values, floor, limit)
        number = f"{facts.outliers:,} outlier{'s' * (facts.outliers > 1)}"
        changes.append(f"clipped {number} to the range from {floor:g} to {limit:g}")
    return values, tuple(changes)


def repair_label(values: np.ndarray, images: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Round labels that are nearly whole numbers, and set labels outside the brain to 0.

    Args:
        values: labels, shape (x, y, z).
        images: the images of the case on the same grid.

    Returns:
        The labels, in the same dtype; and what was changed.
    """
    changes = []
    if values.dtype.kind == "f":
        off = np.abs(values - np.round(values))
        if 0 < off.max() <= MAX_ROUNDING:
            values = np.round(values)
            changes.append(f"rounded {np.count_nonzero(off):,} labels by up to {off.max():.2g}")
    where = np.flatnonzero(values.reshape(-1, order="F"))
    outside = np.ones(where.size if images else 0, bool)
    for image in images:
        outside &= is_background(image, where)
    if outside.any():  # not a hole in the brain
        outside &= open_background(images).reshape(-1, order="F")[where]
    if outside.any():
        flat = values.flatten(order="F")
        flat[where[outside]] = 0
        values = flat.reshape(values.shape, order="F")
        changes.append(f"set {np.count_nonzero(outside):,} labels outside the brain to 0")
    return values, tuple(changes)


_MIN_DICE = 0.95  # of the outlines of two sequences: the brain masks of one case are nearly equal

_MIN_INSIDE = 0.99  # of the labelled voxels, within the brain

_MAX_SHIFT_VOXELS = 0.5


def _subtract(values: np.ndarray, background: float) -> np.ndarray:
    if values.dtype.kind == "f":
        return values - values.dtype.type(background)
    difference = values.astype(np.float64) - background
    for dtype in (values.dtype, np.dtype(np.int32)):
        if np.iinfo(dtype).min <= difference.min() and difference.max() <= np.iinfo(dtype).max:
            return difference.astype(dtype)
    return difference


def _narrow(values: np.ndarray, stored: np.dtype) -> np.ndarray:
    """Return float64 as float32 if the file stores float32 or two bytes per voxel; a scaled header widens values."""
    suffices = stored.itemsize <= 2 or (stored.kind == "f" and stored.itemsize == 4)
    return values.astype(np.float32) if suffices and values.dtype == np.float64 else values


def _changes_by_reading(header: Header) -> Iterator[str]:
    """Yield the changes that reading a file makes: the conversion to NIfTI, and what the reader assumed."""
    if not has_nifti_name(header.path):
        yield f"converted {image_ending(header.path.name)} to NIfTI"
    for note in header.notes:
        if note.kind != "no affine":
            yield note.text


def _onto_grid(volume: Volume, expected: Header, aligned: Sequence[Volume], is_label: bool) -> RepairedVolume:
    """Bring a file onto a grid: unchanged, reoriented, or with the grid's affine if the voxels confirm it."""
    header = volume.header
    if same_grid(header, expected):
        return RepairedVolume(header, volume.values, ())
    if (values := to_grid(volume, expected)) is not None:
        return RepairedVolume(expected, values, (f"reoriented onto the grid of {expected.path.name}",))
    if header.shape != expected.shape:
        raise DataError(header.path, "cannot be repaired", expected=f"shape {expected.shape}", found=header.shape)
    to_expected = np.linalg.inv(expected.affine) @ header.affine
    if _largest_shift(to_expected, header.shape) > _MAX_SHIFT_VOXELS and not _confirm_affine(
        volume.values, to_expected, aligned, is_label
    ):
        problem = f"cannot be repaired: the voxels do not confirm the affine of {expected.path.name}"
        raise DataError(header.path, problem)
    change_text = f"replaced the affine {format_affine(header.affine)} with that of {expected.path.name}"
    return RepairedVolume(expected, volume.values, (change_text,))


def _largest_shift(to_expected: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance, in voxels, by which two affines move a corner of the volume apart."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    moved = to_expected[:3, :3] @ corners + to_expected[:3, 3:]
    return float(np.linalg.norm(moved - corners, axis=0).max())


def _confirm_affine(values: np.ndarray, to_expected: np.ndarray, aligned: Sequence[Volume], is_label: bool) -> bool:
    """Return True if the voxels overlap the other files as stored, and less at the position that their affine defines.

    A good overlap alone would prove little: mirrored and slightly shifted brains overlap well too.
    """
    from scipy.ndimage import affine_transform

    if not aligned:
        return False
    brain = np.any([_foreground(volume.values) for volume in aligned], axis=0)
    mask = values != 0 if is_label else _foreground(values)
    moved = affine_transform(mask.astype(np.uint8), np.linalg.inv(to_expected), order=0).astype(bool)
    overlap, least = (_fraction_inside, _MIN_INSIDE) if is_label else (_dice, _MIN_DICE)
    return overlap(mask, brain) >= least and overlap(mask, brain) > overlap(moved, brain)


def _foreground(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values != (background_of(values) or 0))


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 0.0


def _fraction_inside(mask: np.ndarray, brain: np.ndarray) -> float:
    total = int(np.count_nonzero(mask))
    return int(np.count_nonzero(mask & brain)) / total if total else 0.0
