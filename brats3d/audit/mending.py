"""How what is wrong with a case's files is mended, where that loses nothing: volumes in, volumes out.

What is mended is what the ``*_checks`` modules find, by the same rules, so that a second audit finds nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats3d.audit.header_checks import reorientation
from brats3d.audit.image_checks import FEW, background_of, is_background, is_ringing, open_background
from brats3d.audit.label_checks import ROUNDING
from brats3d.cases import usual_grid
from brats3d.files import Header, Volume, format_affine, same_grid


@dataclass(frozen=True, eq=False)
class Mended:
    """A file's new content.

    Args:
        header: whose grid and form the file gets.
        values: shape (x, y, z).
        changes: what was changed, with counts; empty if nothing was.
    """

    header: Header
    values: np.ndarray
    changes: tuple[str, ...]


def mend_case(images: Mapping[str, Volume], label: Volume | None) -> dict[Path, Mended]:
    """Mend the files of one case: grids first, then intensities, then the segmentation against the mended images.

    Args:
        images: modality -> volume.
        label: the segmentation, if there is one.

    Returns:
        file -> its content, for those that change.

    Raises:
        ValueError: if a file cannot be brought onto the others' grid.
    """
    volumes = [*images.values(), *([label] if label else [])]
    expected = usual_grid([volume.header for volume in volumes])
    aligned = [volume for volume in images.values() if same_grid(volume.header, expected)]
    mended = {}
    for volume in images.values():
        placed = _place(volume, expected, aligned, is_label=False)
        values, changes = mend_image(placed.values)
        mended[volume.header.path] = Mended(placed.header, _narrow(values, volume), placed.changes + changes)
    if label:
        placed = _place(label, expected, aligned, is_label=True)
        values, changes = mend_label(placed.values, [each.values for each in mended.values()])
        mended[label.header.path] = Mended(placed.header, _narrow(values, label), placed.changes + changes)
    return {path: each for path, each in mended.items() if each.changes}


def mend_image(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """NaN and Inf become 0 where they are few, a constant background is subtracted, interpolation's ringing becomes 0.

    Args:
        values: voxels, shape (x, y, z).

    Returns:
        The voxels, in the same dtype unless the difference does not fit it, and what was changed.
    """
    changes = []
    finite = np.isfinite(values)
    bad = int(values.size - np.count_nonzero(finite))
    if bad > FEW * values.size:
        return values, ()
    if bad:
        values = np.where(finite, values, 0)
        changes.append(f"{bad:,} voxels that were NaN or Inf set to 0")
    if (background := background_of(values)) and values.min() < values.max():
        values = _subtract(values, background)
        changes.append(f"the background's value {background:g} subtracted from every voxel")
    low, high = values.min(), values.max()
    if low < 0 and background is not None:
        negative = int(np.count_nonzero(values < 0))
        if is_ringing(values, low, high, negative):
            values = np.where(values < 0, 0, values)
            changes.append(f"{negative:,} voxels below 0, down to {low:g}, set to 0")
    return values, tuple(changes)


def mend_label(values: np.ndarray, images: list[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels that nearly are whole numbers are rounded, labels outside the brain become 0.

    Args:
        values: labels, shape (x, y, z).
        images: the case's images on the same grid.

    Returns:
        The labels, in the same dtype, and what was changed.
    """
    changes = []
    if values.dtype.kind == "f":
        off = np.abs(values - np.round(values))
        if 0 < off.max() <= ROUNDING:
            values = np.round(values)
            changes.append(f"{np.count_nonzero(off):,} labels rounded, by up to {off.max():.2g}")
    where = np.flatnonzero(values.reshape(-1, order="F"))
    outside = np.ones(where.size, bool)
    for image in images:
        outside &= is_background(image, where)
    if images and outside.any():  # a hole in the brain is not outside it
        outside &= open_background(images).reshape(-1, order="F")[where]
    if images and outside.any():
        flat = values.flatten(order="F")
        flat[where[outside]] = 0
        values = flat.reshape(values.shape, order="F")
        changes.append(f"{np.count_nonzero(outside):,} labels outside the brain set to 0")
    return values, tuple(changes)


_MIN_DICE = 0.95  # of two sequences' outlines: the brain masks of one case are nearly equal

_MIN_INSIDE = 0.99  # of the labelled voxels, within the brain

_HALF_A_VOXEL = 0.5


def _subtract(values: np.ndarray, background: float) -> np.ndarray:
    if values.dtype.kind == "f":
        return values - values.dtype.type(background)
    low, high = int(values.min()) - int(background), int(values.max()) - int(background)  # Python's do not wrap
    for dtype in (values.dtype, np.dtype(np.int32)):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max and abs(background) < _EXACT_IN_FLOAT64:
            return (values.astype(np.int64) - int(background)).astype(dtype)  # what wraps wraps back
    return values.astype(np.float64) - background


def _narrow(values: np.ndarray, volume: Volume) -> np.ndarray:
    """What was stored in two bytes, or in float32, and was scaled to float64 needs no more than float32."""
    stored = volume.header.dtype
    suffices = stored.itemsize <= 2 or (stored.kind == "f" and stored.itemsize == 4)
    return values.astype(np.float32) if suffices and values.dtype == np.float64 else values


_EXACT_IN_FLOAT64 = 2**53


def _place(volume: Volume, expected: Header, aligned: list[Volume], is_label: bool) -> Mended:
    """A file on the others' grid: as it is, reoriented, or under their header if the voxels speak for it."""
    header = volume.header
    if same_grid(header, expected):
        return Mended(header, volume.values, ())
    if (change := reorientation(header, expected)) is not None:
        from nibabel.orientations import apply_orientation

        values = apply_orientation(volume.values, change)
        return Mended(expected, values, (f"reoriented onto the grid of {expected.path.name}",))
    if header.shape != expected.shape:
        raise ValueError(f"{header.path}: has shape {header.shape}; expected {expected.shape}: cannot be mended")
    to_expected = np.linalg.inv(expected.affine) @ header.affine
    if _largest_shift(to_expected, header.shape) > _HALF_A_VOXEL and not _speaks_for_header(
        volume.values, to_expected, aligned, is_label
    ):
        raise ValueError(
            f"{header.path}: its affine differs, and its voxels do not show that the header of {expected.path.name} "
            "is right for it: cannot be mended"
        )
    what = f"affine {format_affine(header.affine)} replaced by that of {expected.path.name}"
    return Mended(expected, volume.values, (what,))


def _largest_shift(to_expected: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far the affines put a corner of the volume apart, in voxels."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    moved = to_expected[:3, :3] @ corners + to_expected[:3, 3:]
    return float(np.linalg.norm(moved - corners, axis=0).max())


def _speaks_for_header(values: np.ndarray, to_expected: np.ndarray, aligned: list[Volume], is_label: bool) -> bool:
    """Whether the voxels lie on the other files' voxels as stored, and less well where the file's own affine puts them.

    Mirrored and slightly shifted brains overlap well too, so that a good overlap alone would prove little.
    """
    from scipy.ndimage import affine_transform

    if not aligned:
        return False
    brain = np.zeros(values.shape, bool)
    for volume in aligned:
        brain |= _foreground(volume.values)
    mask = values != 0 if is_label else _foreground(values)
    moved = affine_transform(mask.astype(np.uint8), np.linalg.inv(to_expected), order=0).astype(bool)
    overlap = _share_inside if is_label else _dice
    as_stored, as_placed = overlap(mask, brain), overlap(moved, brain)
    return as_stored >= (_MIN_INSIDE if is_label else _MIN_DICE) and as_stored > as_placed


def _foreground(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values != (background_of(values) or 0))


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 0.0


def _share_inside(mask: np.ndarray, brain: np.ndarray) -> float:
    total = int(np.count_nonzero(mask))
    return int(np.count_nonzero(mask & brain)) / total if total else 0.0
