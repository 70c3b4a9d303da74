"""The foci of a tumour: where they lie, how large they are, and how they displace tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from brats3d.phantoms.atlas import COARSE_MM, sample_atlas, to_mni
from brats3d.phantoms.head import Box
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting


@dataclass(frozen=True)
class Focus:
    """One focus: an ellipsoid.

    Args:
        centre_mm: (3,) its centre, from the middle of the grid.
        radius_mm: mean radius of the core.
        stretch: (3,) factors on the radius along each axis.
        push_mm: how far the core displaces the tissue at its centre.
        edema_mm: how much further than the core the edema reaches.
        has_core: False for a focus that is edema all through.
    """

    centre_mm: torch.Tensor
    radius_mm: float
    stretch: torch.Tensor
    push_mm: float
    edema_mm: float
    has_core: bool = True


def place_foci(rng: RandomStream, setting: Setting, coords: torch.Tensor, low_grade: bool) -> list[Focus]:
    """Draw one to four foci with centres in grey or white matter.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.
        low_grade: True for a tumour of low grade.
    """
    gm, wm, depth = sample_atlas(coords, COARSE_MM)
    extra = rng.substream("foci")
    inside = (gm + wm > 0.5) & (depth > 0)
    if not extra.chance(setting.cerebellar):
        _, y, z = to_mni(coords)
        inside &= (y > -36) | (z > -14)
    candidates = inside.nonzero()
    middle = torch.tensor([(n - 1) / 2 for n in gm.shape], device=rng.device)

    def place(rng: RandomStream, radius_mm: Sequence[float]) -> Focus:
        radius = rng.uniform(*radius_mm)
        reach_mm = setting.edema_low_mm if low_grade else setting.edema_high_mm
        has_edema = setting.has_edema_low if low_grade else setting.has_edema
        edema = rng.uniform(*reach_mm) * rng.chance(has_edema)
        return Focus(
            centre_mm=(candidates[rng.integer(len(candidates))] - middle) * COARSE_MM,
            radius_mm=radius,
            stretch=rng.vector(*setting.stretch),
            push_mm=rng.uniform(*setting.push) * radius * rng.chance(setting.pushes),
            edema_mm=edema,
        )

    first_radius = setting.radius_low_mm if low_grade else setting.radius_high_mm
    if extra.chance(setting.small):
        first_radius = setting.radius_small_mm
    has_second = rng.chance(setting.second_focus)
    foci = [_shrink_core(rng.substream("small core"), setting, place(rng, first_radius))]
    if has_second:
        foci.append(place(rng, setting.radius_second_mm))
        while len(foci) < 4 and extra.chance(setting.more_foci):
            foci.append(place(extra, setting.radius_second_mm))
    if low_grade and rng.substream("coreless").chance(setting.coreless):
        foci = [replace(focus, push_mm=0, has_core=False) for focus in foci]
    return foci


def _shrink_core(rng: RandomStream, setting: Setting, focus: Focus) -> Focus:
    """Give some foci a small core within much edema."""
    if not rng.chance(setting.small_core):
        return focus
    radius_mm = rng.uniform(*setting.small_core_mm)
    push_mm = focus.push_mm * radius_mm / focus.radius_mm
    return replace(focus, radius_mm=radius_mm, push_mm=push_mm, edema_mm=rng.uniform(*setting.small_core_edema_mm))


def push_tissue(coords: torch.Tensor, foci: Sequence[Focus]) -> torch.Tensor:
    """Apply the mass effect: displace tissue away from each focus by a Gaussian of 1.6 radii.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        The displaced coordinates, moved towards each centre but never beyond it.
    """
    box = coarse_box(coords)
    for focus in foci:
        offsets, distance = distance_mm(focus, box)
        pull = focus.push_mm * torch.exp(-((distance / (1.6 * focus.radius_mm)) ** 2)) / (distance + 1e-3)
        coords = coords - torch.stack([offset * pull.clamp(max=1) for offset in offsets])
    return coords


def coarse_box(coords: torch.Tensor) -> Box:
    """Return the whole coarse grid as a box."""
    shape = tuple(coords.shape[1:])
    return Box(start=(0, 0, 0), shape=shape, grid_shape=shape, voxel_mm=COARSE_MM)


def distance_mm(focus: Focus, box: Box) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the offsets from a focus's centre along each axis, and the distance measured in its stretched axes."""
    offsets = [axis - c for axis, c in zip(box.axes_mm(focus.centre_mm.device), focus.centre_mm, strict=True)]
    return offsets, sum((o / s) ** 2 for o, s in zip(offsets, focus.stretch, strict=True)).sqrt()
