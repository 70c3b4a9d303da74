"""The tumour of a phantom: where it stands, how it pushes and infiltrates, and what grows within it.

Infiltration follows the measured preference of glioma cells for white matter: Swanson et al., "A quantitative model for
differential motility of gliomas in grey and white matter", Cell Proliferation 33 (2000), 317-329,
https://doi.org/10.1046/j.1365-2184.2000.00177.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from brats3d.phantoms.atlas import COARSE_MM, sample_atlas, to_mni
from brats3d.phantoms.head import Frame, Head, box_around, refine
from brats3d.phantoms.noise import Draw
from brats3d.phantoms.settings import Ranges

CORE, EDEMA, ENHANCING, CYST, BLOOD = 1, 2, 3, 4, 5
"""Tissues of a tumour. Cyst and blood belong to the core, as what does not enhance does."""

MIN_TUMOUR_ML = 1.0
"""A case whose whole tumour came out smaller is grown again, larger."""

MIN_ENHANCING_ML = 0.1
"""Enhancement that came out smaller is none: a speck that no reader would outline. BraTS 2023 drops lesions up to
0.05 ml (https://github.com/rachitsaluja/BraTS-2023-Metrics)."""


@dataclass(frozen=True)
class Focus:
    """One tumour: an ellipsoid of mean ``radius_mm`` around ``centre_mm`` (from the middle of the grid), the stretch of
    its axes, how far the core pushes tissue away, and how much further than the core the edema reaches."""

    centre_mm: torch.Tensor
    radius_mm: float
    stretch: torch.Tensor
    push_mm: float
    edema_mm: float


@dataclass(frozen=True)
class Tumour:
    """What has grown.

    Args:
        tissue: (X, Y, Z) uint8, 0 or one of the tissues above; all within the brain. The core is never empty
            where there are foci.
        fade: (X, Y, Z) from 0 beside the core to 1 where edema ends.
        thin: (X, Y, Z) share of the core that has given way to what is around it, in diffuse tumours; otherwise None.
        around: share of that which is edema and not healthy tissue.
    """

    tissue: torch.Tensor
    fade: torch.Tensor
    thin: torch.Tensor | None = None
    around: float = 0


def place_tumour(draw: Draw, ranges: Ranges, coords: torch.Tensor, low_grade: bool) -> list[Focus]:
    """Draw the foci, whose centres lie in grey or white matter. Sizes in mm, see :class:`Ranges`."""
    r = ranges
    gm, wm, depth = sample_atlas(coords, COARSE_MM)
    more = draw.of("foci")
    inside = (gm + wm > 0.5) & (depth > 0)
    if not more.chance(r.cerebellar):
        _, y, z = to_mni(coords)
        inside &= (y > -36) | (z > -14)
    candidates = inside.nonzero()
    middle = torch.tensor([(n - 1) / 2 for n in gm.shape], device=draw.device)

    def place(draw: Draw, radius_mm: Sequence[float]) -> Focus:
        radius = draw.uniform(*radius_mm)
        reach_mm, has_edema = (r.edema_low_mm, r.has_edema_low) if low_grade else (r.edema_high_mm, r.has_edema)
        edema = draw.uniform(*reach_mm) * draw.chance(has_edema)
        return Focus(
            centre_mm=(candidates[draw.integer(len(candidates))] - middle) * COARSE_MM,
            radius_mm=radius,
            stretch=draw.vector(*r.stretch),
            push_mm=draw.uniform(*r.push) * radius * draw.chance(r.pushes),
            edema_mm=edema,
        )

    first_radius = r.radius_low_mm if low_grade else r.radius_high_mm
    if more.chance(r.small):
        first_radius = r.radius_small_mm
    second = draw.chance(r.second_focus)
    foci = [place(draw, first_radius)]
    if second:
        foci.append(place(draw, r.radius_second_mm))
        while len(foci) < 4 and more.chance(r.more_foci):
            foci.append(place(more, r.radius_second_mm))
    return foci


def push_tissue(coords: torch.Tensor, foci: Sequence[Focus]) -> torch.Tensor:
    """Mass effect: move tissue away from each focus by a Gaussian of 1.6 radii.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        The same, looking up the atlas nearer to each centre, and never beyond it.
    """
    frame = _coarse_frame(coords)
    for focus in foci:
        offsets, distance = _distance_mm(focus, frame)
        pull = focus.push_mm * torch.exp(-((distance / (1.6 * focus.radius_mm)) ** 2)) / (distance + 1e-3)
        coords = coords - torch.stack([offset * pull.clamp(max=1) for offset in offsets])
    return coords


def grow_tumour(draw: Draw, ranges: Ranges, head: Head, foci: Sequence[Focus], low_grade: bool) -> Tumour:
    """Grow the foci, larger and larger until the whole tumour has :data:`MIN_TUMOUR_ML`; no foci, no tumour."""
    noise = draw
    while True:
        tissue = torch.zeros_like(head.brain, dtype=torch.uint8)
        fade = torch.ones(head.brain.shape, device=tissue.device)
        deepest = torch.zeros_like(fade)
        for number, focus in enumerate(foci):
            own = draw.of(f"focus {number}")
            tissue, fade, depth = _grow_focus(noise, own, ranges, head, focus, tissue, fade, low_grade)
            if low_grade:
                deepest = torch.maximum(deepest, depth)
        tissue *= head.brain
        voxel_ml = head.frame.step_mm**3 / 1000
        if (tissue == ENHANCING).sum() * voxel_ml < MIN_ENHANCING_ML:
            tissue = torch.where(tissue == ENHANCING, CORE, tissue)
        core_ml = ((tissue > 0) & (tissue != EDEMA)).sum() * voxel_ml
        enough = (tissue > 0).sum() * voxel_ml >= MIN_TUMOUR_ML and core_ml > 0
        if (enough and core_ml >= ranges.min_core_ml) or not foci:
            thin = _thin_out(draw.of("diffuse"), ranges, deepest) if low_grade else None
            return Tumour(tissue, fade, thin, max((min(focus.edema_mm / 5, 1) for focus in foci), default=0))
        if enough:
            noise = draw.of("larger core")  # so that the rest of the case stays as it was
        foci = [replace(focus, radius_mm=focus.radius_mm * 1.3) for focus in foci]


def _grow_focus(
    draw: Draw,
    own: Draw,
    ranges: Ranges,
    head: Head,
    focus: Focus,
    tissue: torch.Tensor,
    fade: torch.Tensor,
    low_grade: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Paint one focus: edema where there is none yet, then the core, what of it enhances, cysts and blood.

    Returns:
        The tissue, the fading of the edema, and how many mm below the core's surface a voxel lies.
    """
    r, radius, shape, step = ranges, focus.radius_mm, tissue.shape, head.frame.step_mm
    csf, _, wm = head.tissue
    _, distance = _distance_mm(focus, head.frame)
    detour = refine(_detour_mm(own, r, head.coords, focus)[None], head.frame)[0] if r.infiltrates else 0
    distance = distance + detour
    edges = draw.fractal(shape, (30, 15, 8), step) * draw.uniform(*r.edema_roughness_mm)
    reach = radius + focus.edema_mm + r.edema_in_white_matter_mm * (wm - 0.5)
    edema = (distance + edges < reach) & (csf <= 0.7)
    depth = radius - _core_distance(own, r, head.frame, focus, distance, detour)
    depth = depth - draw.fractal(shape, (30, 15, 8), step) * radius * draw.uniform(*r.roughness)
    core = depth > 0
    if r.infiltrates:
        core &= csf <= 0.9
    if any(r.edema_fade):
        fade = torch.minimum(fade, ((distance + edges - radius) / (reach - radius).clamp(min=1)).clamp(0, 1))
    tissue = torch.where(edema & (tissue == 0), EDEMA, tissue)
    if low_grade:
        tissue = torch.where(core, CORE, tissue)
        if draw.chance(r.low_grade_enhances):
            spots = draw.fractal(shape, (10, 5), step) > own.uniform(*r.low_grade_enhancement_level)
            tissue = torch.where(core & spots, ENHANCING, tissue)
    else:
        tissue = torch.where(core, ENHANCING, tissue)
        if own.chance(r.shell):
            tissue = torch.where(core & (depth < min(own.uniform(*r.shell_mm), radius / 2)), CORE, tissue)
        if draw.chance(r.has_necrosis):
            patches = draw.fractal(shape, (14, 7), step) > draw.uniform(*r.necrosis_level)
            tissue = torch.where(core & patches & (depth > draw.uniform(*r.rim_mm)), CORE, tissue)
    return _fill_core(own, r, head.frame, focus, core, depth, tissue), fade, depth


def _thin_out(own: Draw, ranges: Ranges, depth: torch.Tensor) -> torch.Tensor | None:
    """Diffuse tumours: cells grow fewer towards the surface, so that the core merges into what is around it.

    Args:
        depth: (X, Y, Z) mm below the core's surface.
    """
    if not own.chance(ranges.diffuse):
        return None
    return (1 - depth / own.uniform(*ranges.margin_mm)).clamp_(0, 1) * own.uniform(*ranges.margin_fade)


def _core_distance(
    own: Draw, ranges: Ranges, frame: Frame, focus: Focus, distance: torch.Tensor, detour: torch.Tensor | float
) -> torch.Tensor:
    """Distance in mm by which the core is told: the focus's own, or the nearest of several lobes', each smaller."""
    for _ in range(own.integer(ranges.lobes)):
        size = own.uniform(0.4, 0.8)
        centre = focus.centre_mm + own.vector(-1, 1) * focus.radius_mm * 0.8
        lobe = replace(focus, centre_mm=centre, stretch=own.vector(*ranges.stretch))
        distance = torch.minimum(distance, _distance_mm(lobe, frame)[1] + detour + (1 - size) * focus.radius_mm)
    return distance


def _fill_core(
    own: Draw,
    ranges: Ranges,
    frame: Frame,
    focus: Focus,
    core: torch.Tensor,
    depth: torch.Tensor,
    tissue: torch.Tensor,
) -> torch.Tensor:
    """A cyst, smooth and full of fluid, and haemorrhage in patches, both within the core."""
    if own.chance(ranges.cystic):
        centre = focus.centre_mm + own.vector(-0.4, 0.4) * focus.radius_mm
        hole = replace(focus, centre_mm=centre, stretch=own.vector(*ranges.stretch))
        wall_mm = own.uniform(1, 4)
        inside = _distance_mm(hole, frame)[1] < own.uniform(*ranges.cyst) * focus.radius_mm
        tissue = torch.where(core & inside & (depth > wall_mm), CYST, tissue)
    if own.chance(ranges.bleeds):
        patches = own.fractal(core.shape, (16, 8), frame.step_mm) > own.uniform(*ranges.bleed_level)
        tissue = torch.where(core & patches & ((tissue == CORE) | (tissue == CYST)), BLOOD, tissue)
    return tissue


def _detour_mm(own: Draw, ranges: Ranges, coords: torch.Tensor, focus: Focus) -> torch.Tensor:
    """How much longer than the straight line the way from the focus is, along tissue that cells can migrate through.

    The shortest way on the coarse grid with 26 neighbours, where a millimetre of grey matter counts ``slow_in_gm``,
    of CSF 5, and across the midline 12 but for white matter (the corpus callosum, the brain stem); less the shortest
    way where every millimetre counts once.

    Returns:
        (x, y, z) on the whole coarse grid, at least 0.
    """
    gm, wm, depth = sample_atlas(coords, COARSE_MM)
    csf = (1 - gm - wm).clamp(0, 1)
    slow = wm + gm * own.uniform(*ranges.slow_in_gm) + 5 * csf
    falx = (to_mni(coords)[0].abs() < COARSE_MM) & (wm < 0.35)
    slow = torch.where(falx | (depth <= 0), 12.0, slow.clamp(min=1))
    _, straight = _distance_mm(focus, _coarse_frame(coords))
    reach = focus.radius_mm + focus.edema_mm + 30
    box = box_around(straight < reach)
    slowness = torch.stack([slow[box], torch.ones_like(slow[box])])
    start = straight[box] <= max(1.5 * COARSE_MM, float(straight.min()))
    time = torch.where(start, straight[box], 1e6).expand_as(slowness).contiguous()
    steps = [d for d in product((-1, 0, 1), repeat=3) if any(d)]
    stretch = focus.stretch.cpu()
    lengths = [float(torch.tensor([k * COARSE_MM for k in d]).div(stretch).norm()) for d in steps]
    ways = []
    for step, length in zip(steps, lengths, strict=True):
        to, since = (
            (slice(None), *(slice(max(0, s * k), n + min(0, s * k)) for k, n in zip(step, time.shape[1:], strict=True)))
            for s in (1, -1)
        )
        ways.append((to, since, (slowness[to] + slowness[since]) * (length / 2)))
    while True:
        before = time.clone()
        for to, since, way in ways:
            time[to] = torch.minimum(time[to], time[since] + way)
        if torch.equal(before, time):
            break
    detour = torch.full_like(straight, reach)
    detour[box] = (time[0] - time[1]).clamp(0, reach)
    return detour


def _coarse_frame(coords: torch.Tensor) -> Frame:
    shape = tuple(coords.shape[1:])
    return Frame(start=(0, 0, 0), shape=shape, whole=shape, step_mm=COARSE_MM)


def _distance_mm(focus: Focus, frame: Frame) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Offsets from a focus's centre along each axis, and the distance, both measured in its stretched axes."""
    offsets = [axis - c for axis, c in zip(frame.axes_mm(focus.centre_mm.device), focus.centre_mm, strict=True)]
    return offsets, sum((o / s) ** 2 for o, s in zip(offsets, focus.stretch, strict=True)).sqrt()
