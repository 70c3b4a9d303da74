"""The tumour of a phantom: foci grown into edema, core, enhancing tissue, cysts and blood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from brats3d.phantoms.head import Box, Head, refine
from brats3d.phantoms.infiltration import detour_mm
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.swirl import swirl_mm
from brats3d.phantoms.tumour_focus import Focus, distance_mm
from brats3d.phantoms.volume_ops import volume_ml

CORE, EDEMA, ENHANCING, CYST, BLOOD = 1, 2, 3, 4, 5
"""Tissues of a tumour. Cysts and blood belong to the core, like all tissue that does not enhance."""

MIN_TUMOUR_ML = 1.0
"""A tumour of a smaller whole volume is grown again, larger."""

MIN_ENHANCING_ML = 0.1
"""Enhancing tissue of a smaller total volume becomes core: no reader would outline such a speck. BraTS 2023 drops
lesions of up to 0.05 ml (https://github.com/rachitsaluja/BraTS-2023-Metrics)."""


@dataclass(frozen=True)
class Tumour:
    """A grown tumour.

    Args:
        tissue: (X, Y, Z) uint8, 0 or one of the tissues above, all within the brain. Unless no focus has a core,
            the core is not empty.
        fade: (X, Y, Z) from 0 beside the core to 1 where the edema ends.
        thinned: (X, Y, Z) fraction of the core that is replaced by its surroundings, in diffuse tumours; else None.
        surrounding_edema: fraction of those surroundings that is edema; the rest is healthy tissue.
    """

    tissue: torch.Tensor
    fade: torch.Tensor
    thinned: torch.Tensor | None = None
    surrounding_edema: float = 0


def grow_tumour(rng: RandomStream, setting: Setting, head: Head, foci: Sequence[Focus], low_grade: bool) -> Tumour:
    """Grow the foci, enlarged until the whole tumour has :data:`MIN_TUMOUR_ML` and its core ``min_core_ml``.

    Returns:
        The tumour; an empty one if there are no foci.
    """
    shape_rng = rng
    while True:
        tissue = torch.zeros_like(head.brain, dtype=torch.uint8)
        fade = torch.ones(head.brain.shape, device=tissue.device)
        deepest = torch.zeros_like(fade)
        for number, focus in enumerate(foci):
            grown = _grow_focus(shape_rng, rng.substream(f"focus {number}"), setting, head, focus, low_grade)
            in_core = (grown.tissue != EDEMA) & (grown.tissue > 0)
            tissue = torch.where(in_core | (tissue == 0), grown.tissue, tissue)
            fade = torch.minimum(fade, grown.fade)
            if low_grade:
                deepest = torch.maximum(deepest, grown.depth_mm)
        tissue = drop_specks(tissue * head.brain, head.box.voxel_mm)
        core_ml = volume_ml((tissue > 0) & (tissue != EDEMA), head.box.voxel_mm)
        has_core = any(focus.has_core for focus in foci)
        enough = volume_ml(tissue > 0, head.box.voxel_mm) >= MIN_TUMOUR_ML and (core_ml > 0 or not has_core)
        if (enough and (core_ml >= setting.min_core_ml or not has_core)) or not foci:
            thinned = _thin_out(rng.substream("diffuse"), setting, deepest) if low_grade else None
            return Tumour(tissue, fade, thinned, max((min(focus.edema_mm / 5, 1) for focus in foci), default=0))
        if enough:
            shape_rng = rng.substream("larger core")  # so that the rest of the case stays the same
        foci = [replace(focus, radius_mm=focus.radius_mm * 1.3) for focus in foci]


def drop_specks(tissue: torch.Tensor, voxel_mm: int) -> torch.Tensor:
    """Turn enhancing tissue into core if there is less than :data:`MIN_ENHANCING_ML` of it."""
    enhancing = tissue == ENHANCING
    return torch.where(enhancing, CORE, tissue) if volume_ml(enhancing, voxel_mm) < MIN_ENHANCING_ML else tissue


@dataclass(frozen=True)
class _GrownFocus:
    tissue: torch.Tensor
    fade: torch.Tensor
    depth_mm: torch.Tensor
    """Below the core's surface, negative outside."""


def _grow_focus(
    shape_rng: RandomStream, rng: RandomStream, setting: Setting, head: Head, focus: Focus, low_grade: bool
) -> _GrownFocus:
    """Grow one focus: edema, then the core, its enhancing part, cysts and blood.

    Args:
        shape_rng: the case's stream, shared by all foci.
        rng: the focus's own stream, for the steps that are off in the plain setting.
    """
    radius, shape, voxel_mm = focus.radius_mm, head.brain.shape, head.box.voxel_mm
    csf, _, wm = head.tissue
    _, distance = distance_mm(focus, head.box)
    detour = refine(detour_mm(rng, setting, head.coords, focus)[None], head.box)[0] if setting.infiltrates else 0
    if any(setting.swirl):
        detour = detour + refine(swirl_mm(rng.substream("swirl"), setting, head.coords, focus)[None], head.box)[0]
    distance = from_edema = distance + detour
    if any(setting.edema_shift):
        from_edema = _distance_to_edema(rng.substream("edema"), setting, head.box, focus) + detour
    edges = shape_rng.fractal_noise(shape, (30, 15, 8), voxel_mm) * shape_rng.uniform(*setting.edema_roughness_mm)
    reach = radius + focus.edema_mm + setting.edema_in_white_matter_mm * (wm - 0.5)
    if any(setting.fingers_mm):
        reach -= rng.substream("fingers").uniform(*setting.fingers_mm) * (1 - wm)
    edema = (from_edema + edges < reach) & (csf <= 0.7)
    depth = radius - _distance_to_lobes(rng, setting, head.box, focus, distance, detour)
    surface = shape_rng.fractal_noise(shape, (30, 15, 8), voxel_mm) * radius * shape_rng.uniform(*setting.roughness)
    depth = depth - surface
    core = (depth > 0) & focus.has_core
    if setting.infiltrates:
        core &= csf <= 0.9
    fade = torch.ones_like(depth)
    if any(setting.edema_fade):
        fade = ((from_edema + edges - radius) / (reach - radius).clamp(min=1)).clamp(0, 1)
    contents = _core_contents(shape_rng, rng, setting, head.box, focus, depth, low_grade)
    tissue = torch.where(core, contents, edema.to(torch.uint8) * EDEMA)
    return _GrownFocus(tissue, fade, depth)


def _distance_to_edema(rng: RandomStream, setting: Setting, box: Box, focus: Focus) -> torch.Tensor:
    """Return the distance in mm to the middle of the edema, which lies beside that of the core."""
    shift_mm = rng.vector(-1, 1) * rng.uniform(*setting.edema_shift) * focus.edema_mm
    return distance_mm(replace(focus, centre_mm=focus.centre_mm + shift_mm), box)[1]


def _distance_to_lobes(
    rng: RandomStream, setting: Setting, box: Box, focus: Focus, distance: torch.Tensor, detour: torch.Tensor | float
) -> torch.Tensor:
    """Return the distance in mm that shapes the core: to the focus, or to the nearest of several smaller lobes."""
    for _ in range(rng.integer(setting.lobes)):
        size = rng.uniform(0.4, 0.8)
        centre = focus.centre_mm + rng.vector(-1, 1) * focus.radius_mm * 0.8
        lobe = replace(focus, centre_mm=centre, stretch=rng.vector(*setting.stretch))
        distance = torch.minimum(distance, distance_mm(lobe, box)[1] + detour + (1 - size) * focus.radius_mm)
    return distance


def _core_contents(
    shape_rng: RandomStream,
    rng: RandomStream,
    setting: Setting,
    box: Box,
    focus: Focus,
    depth: torch.Tensor,
    low_grade: bool,
) -> torch.Tensor:
    """Return the tissue of a core at every voxel of the box, as if all of it were core, (X, Y, Z) uint8.

    Args:
        depth: (X, Y, Z) mm below the core's surface.
    """
    tissue = torch.full_like(depth, CORE if low_grade else ENHANCING, dtype=torch.uint8)
    if low_grade:
        if shape_rng.chance(setting.low_grade_enhances):
            noise = shape_rng.fractal_noise(depth.shape, (10, 5), box.voxel_mm)
            tissue[noise > rng.uniform(*setting.low_grade_enhancement_level)] = ENHANCING
    else:
        if rng.chance(setting.shell):
            tissue[depth < min(rng.uniform(*setting.shell_mm), focus.radius_mm / 2)] = CORE
        if shape_rng.chance(setting.has_necrosis):
            noise = shape_rng.fractal_noise(depth.shape, (14, 7), box.voxel_mm)
            patches = noise > shape_rng.uniform(*setting.necrosis_level)
            rim_mm, thin = shape_rng.uniform(*setting.rim_mm), rng.substream("thin rim")
            if thin.chance(setting.thin_rim):
                rim_mm, patches = thin.uniform(*setting.thin_rim_mm), torch.ones_like(patches)
            tissue[patches & (depth > rim_mm)] = CORE
        part = rng.substream("nodule")
        if part.chance(setting.nodule):
            centre = focus.centre_mm + part.vector(-0.6, 0.6) * focus.radius_mm
            nodule = distance_mm(replace(focus, centre_mm=centre), box)[1] < part.uniform(*setting.nodule_mm)
            tissue = torch.where(nodule, ENHANCING, CORE).to(torch.uint8)
    if rng.chance(setting.cystic):
        centre = focus.centre_mm + rng.vector(-0.4, 0.4) * focus.radius_mm
        cavity = replace(focus, centre_mm=centre, stretch=rng.vector(*setting.stretch))
        wall_mm = rng.uniform(1, 4)
        inside = distance_mm(cavity, box)[1] < rng.uniform(*setting.cyst) * focus.radius_mm
        tissue[inside & (depth > wall_mm)] = CYST
    if rng.chance(setting.bleeds):
        patches = rng.fractal_noise(depth.shape, (16, 8), box.voxel_mm) > rng.uniform(*setting.bleed_level)
        tissue[patches & (tissue != ENHANCING)] = BLOOD
    return tissue


def _thin_out(rng: RandomStream, setting: Setting, depth: torch.Tensor) -> torch.Tensor | None:
    """Return the fraction of a diffuse core that is replaced by its surroundings, (X, Y, Z), given the depth in mm.

    It grows towards the surface, where cells are fewer. None if the tumour is not diffuse.
    """
    if not rng.chance(setting.diffuse):
        return None
    return (1 - depth / rng.uniform(*setting.margin_mm)).clamp_(0, 1) * rng.uniform(*setting.margin_fade)
