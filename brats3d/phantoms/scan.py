"""The scan of a phantom: how bright tissues are in each sequence, what else is bright, what a scanner does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from brats3d.labels import MODALITIES
from brats3d.phantoms.atlas import INSIDE, NEAR, sample_landmarks, to_mni
from brats3d.phantoms.head import Head, box_around, refine
from brats3d.phantoms.noise import Draw, Range, blur, nodes
from brats3d.phantoms.settings import Ranges
from brats3d.phantoms.tumour import BLOOD, CORE, CYST, EDEMA, ENHANCING, Tumour

TISSUES = ("csf", "gm", "wm", "core", "edema", "enhancing", "cyst", "blood")
"""What :func:`contrast` gives a brightness to, in this order."""


def contrast(draw: Draw, ranges: Ranges, low_grade: bool) -> dict[str, list[float]]:
    """Brightness of :data:`TISSUES` in each sequence, see :class:`Contrasts`.

    T1ce repeats T1 but for what enhances: tissue that takes up no agent looks alike in both, unless they were scanned
    in different ways (``t1ce_other``). The core of a low-grade tumour is as a rule darker in T1 and brighter in T2 than
    the edema around it.
    """
    u, k = draw.uniform, ranges.contrasts
    c1, g1 = u(*k.t1_csf), u(*k.t1_gm)
    w1 = g1 + u(*k.t1_wm)
    core, edema = (u(*k.t1_core_low), u(*k.t1_edema_low)) if low_grade else (u(*k.t1_core), u(*k.t1_edema))
    n1, e1 = g1 - core, g1 - edema
    # The agent, and a second scan, shift what does not enhance a little.
    c1c, g1c, w1c, n1c, e1c = (x + draw.normal(k.t1ce_shift) for x in (c1, g1, w1, n1, e1))
    c1c, w1c = min(c1c, g1c - (g1 - c1) / 4), max(w1c, g1c + (w1 - g1) / 4)
    other = draw.of("another T1")
    if other.chance(k.t1ce_other):
        c1c, g1c = other.uniform(*k.t1_csf), other.uniform(*k.t1_gm)
        w1c = g1c + other.uniform(*k.t1_wm)
        n1c, e1c = (g1c - darker * other.uniform(0.6, 1.5) for darker in (core, edema))
    w2 = u(*k.t2_wm)
    g2 = w2 + u(*k.t2_gm)
    wf = u(*k.flair_wm)
    gf = wf + u(*k.flair_gm)
    values = {
        "t1": [c1, g1, w1, n1, e1, g1 - u(*k.t1_enhancing)],
        "t1ce": [c1c, g1c, w1c, n1c, e1c, w1c + u(*k.t1ce_enhancing)],
        "t2": [g2 + u(*k.t2_csf), g2, w2, g2 + u(*k.t2_core), g2 + u(*k.t2_edema), g2 + u(*k.t2_enhancing)],
        "flair": [
            wf - u(*k.flair_csf),
            gf,
            wf,
            gf + u(*k.flair_core),
            gf + u(*k.flair_edema),
            gf + u(*k.flair_enhancing),
        ],
    }
    if low_grade:
        values["t2"][3] = g2 + u(*k.t2_core_low)
        values["flair"][3] = gf + u(*k.flair_core_low)
    own = draw.of("fluids")
    cyst, blood = own.uniform(0, 0.12), own.uniform(0, 0.4)
    dark_cyst, dark_blood = own.chance(0.5), own.chance(0.5)
    fluids = {
        "t1": (c1 + cyst, w1 + blood),
        "t1ce": (c1c + cyst, w1c + blood),
        "t2": (values["t2"][0] * own.uniform(0.85, 1.1), g2 + (-1 if dark_blood else 1) * own.uniform(0, 0.25)),
        "flair": (
            values["flair"][0] if dark_cyst else gf + own.uniform(-0.1, 0.25),
            gf + (-1 if dark_blood else 1) * own.uniform(0, 0.3),
        ),
    }
    return {name: [*tissues, *fluids[name]] for name, tissues in values.items()}


def acquire(
    draw: Draw, ranges: Ranges, head: Head, tumour: Tumour, values: Mapping[str, Sequence[float]]
) -> dict[str, torch.Tensor]:
    """Scan the case in every sequence: mix the tissues, then distractors and texture, then the scanner.

    Args:
        values: sequence -> brightness of :data:`TISSUES`, see :func:`contrast`.

    Returns:
        Sequence -> (X, Y, Z) float32 of whole numbers, 0 outside the brain and nowhere within.
    """
    r, shape, step = ranges, head.brain.shape, head.frame.step_mm
    kinds = [k for k in (CORE, EDEMA, ENHANCING, CYST, BLOOD) if k <= ENHANCING or (tumour.tissue == k).any()]
    parts = torch.stack([tumour.tissue == k for k in kinds]).float()
    if any(r.edema_fade):
        parts[1] *= 1 - tumour.fade * draw.of("fade").uniform(*r.edema_fade)
    if tumour.thin is not None:
        lost = parts[0] * tumour.thin
        parts[0] -= lost
        parts[1] += lost * tumour.around
    if draw.chance(r.faint):
        soft = draw.of("soft").uniform(*r.soft_mm)
        parts = blur(parts, [soft / step] * 3) * draw.uniform(*r.opacity)
    opacity = parts.sum(0)
    extras = _distractors(draw, r, head, tumour.tissue == 0)
    ghost = draw.of("skull's brightness")
    near_coils = draw.of("hindbrain")
    hindbrain = _hindbrain(head) if any(r.hindbrain_gain) or any(r.folia) else 0
    healthy = _mix_healthy(draw.of("places"), r, head, hindbrain, values)
    box, variation = _vary_tumour(draw.of("variation"), r, parts, values["t1ce"], step)
    has_skull = bool(head.skull.any())
    images = {}
    for name in MODALITIES:
        mixed = [values[name][k + 2] for k in kinds]
        image = healthy[name] * (1 - opacity) + _mix(mixed, parts)
        if name in variation:
            image[box] += variation[name]
        texture = draw.fractal(shape, (10, 5, 3), step) * draw.uniform(*r.texture)
        image += texture * (0.4 + opacity * draw.uniform(*r.tumour_texture))
        for extra in extras.get(name, ()):
            image += extra
        if any(r.hindbrain_gain):
            image *= 1 + hindbrain * near_coils.uniform(*r.hindbrain_gain)
        if has_skull:
            image = torch.where(head.skull, ghost.uniform(0.05, 1.1) + 2 * texture, image)
        images[name] = _scan(draw, draw.of(f"scan {name}"), r, image, head.brain | head.skull, step)
    return images


def _distractors(draw: Draw, ranges: Ranges, head: Head, healthy: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What is bright without being tumour, as (X, Y, Z) to add to a sequence: vessels, dura, choroid plexus, spots."""
    r, step = ranges, head.frame.step_mm
    csf, gm, wm = head.tissue
    shape = csf.shape
    healthy = healthy & head.brain
    vessels = healthy & (csf > 0.4) & (draw.fractal(shape, (8, 4), step) > draw.uniform(*r.vessel_level))
    spots = healthy & (wm > 0.6) & (draw.fractal(shape, (14, 7), step) > draw.uniform(*r.spot_level))
    agent = [vessels * draw.uniform(*r.vessel_gain)]
    bright = [spots * draw.uniform(*r.spot_gain)]
    extras = {"t1ce": agent, "t2": list(bright), "flair": list(bright)}
    own = draw.of("distractors")
    if any(r.tube_gain):
        extras["t1ce"].append(_tubes(own, shape, step) * (healthy * own.uniform(*r.tube_gain)))
    if any(r.dura_gain) or any(r.plexus_gain) or any(r.cap_gain) or any(r.flow_gain):
        near, depth = (refine(sample_landmarks(head.coords, part), head.frame)[0] for part in (NEAR, INSIDE))
        x, y, z = refine(to_mni(head.coords), head.frame)
        midline = x.abs() < own.uniform(1, 4)
        patches = own.fractal(shape, (40, 12), step)
        dura = (depth < own.uniform(1, 4)) & (patches > own.uniform(-1, 1.5))
        vault = (z > 5) | (y < -75)  # not the base of the skull
        sinus = midline & vault & (depth < own.uniform(3, 9)) & (csf + gm > 0.6)
        extras["t1ce"].append((healthy & dura) * own.uniform(*r.dura_gain))
        extras["t1ce"].append((healthy & sinus) * own.uniform(*r.dura_gain))
        fine = own.fractal(shape, (8, 4), step)
        plexus = (healthy & (near > 0.35) & (csf > 0.5) & (fine > own.uniform(0, 1.5))) * own.uniform(*r.plexus_gain)
        extras["t1ce"].append(plexus)
        extras["flair"].append(plexus * own.uniform(0, 0.5))
        caps = ((near - own.uniform(0.1, 0.5)) * 4 + patches * 0.4).clamp_(0, 1) * (wm * healthy)
        caps *= (near * 5).clamp_(max=1)
        caps *= own.uniform(*r.cap_gain)
        extras["flair"].append(caps)
        extras["t2"].append(caps * own.uniform(0.3, 1))
        extras["t1"] = [caps * -own.uniform(0, 0.4)]
        flow = (healthy & (csf > 0.5)) * (-0.5 - fine).clamp_(0, 1) * own.uniform(*r.flow_gain)
        extras["flair"].append(flow)
        extras["t2"].append(flow * -own.uniform(0, 1))
    return extras


_FOLIA_GM = 0.7
"""Share of grey matter in a voxel of folia: the cortex of the cerebellum is most of it."""


def _mix_healthy(
    own: Draw, ranges: Ranges, head: Head, hindbrain: torch.Tensor | float, values: Mapping[str, Sequence[float]]
) -> dict[str, torch.Tensor]:
    """Each sequence without a tumour, from healthy tissue that is not the same everywhere.

    Each of grey and white matter varies by a smooth share of its own, grey matter deep in the brain is nearer to white
    matter (iron and myelin make it so), and both mix in the cerebellum. What differs is the tissue, so that it shows in
    all sequences, and in T1ce as in T1.

    Args:
        hindbrain: (X, Y, Z) from 0 to 1.
        values: sequence -> brightness of :data:`TISSUES`.
    """
    r, tissue, shape = ranges, head.tissue, head.brain.shape
    if not (any(r.regional) or any(r.deep_gm) or any(r.folia)):
        return {name: _mix(values[name][:3], tissue) for name in MODALITIES}
    _, grey, white = tissue
    length = own.uniform(*r.regional_mm) / head.frame.step_mm
    patterns = own.white((2, 2, *nodes(shape, length)))  # two for grey, two for white matter
    deep = refine(_deep(head.coords)[None], head.frame)[0] * grey
    folia = own.uniform(*r.folia) * hindbrain
    to_white = grey * folia * (1 - _FOLIA_GM) - white * folia * _FOLIA_GM
    images: dict[str, torch.Tensor] = {}
    for name in ("t1", "t2", "flair"):
        pattern = sum(own.normal(1) * own.uniform(*r.regional) * part for part in patterns)
        share = F.interpolate(pattern[None], shape, mode="trilinear", align_corners=True)[0].clamp_(-0.5, 0.5).add_(1)
        whiter = to_white + own.uniform(*r.deep_gm) * deep
        for alike in (name, "t1ce") if name == "t1" else (name,):
            csf, gm, wm = values[alike][:3]
            images[alike] = _mix((csf, gm, wm), (tissue[0], grey * share[0], white * share[1])) + (wm - gm) * whiter
    return images


def _vary_tumour(
    own: Draw, ranges: Ranges, parts: torch.Tensor, t1ce: Sequence[float], step_mm: int
) -> tuple[tuple[slice, ...], dict[str, torch.Tensor]]:
    """What makes a tumour's parts unlike one another: more and less fluid, more and less of the agent taken up.

    Fluid makes T1 darker and T2 brighter, and FLAIR either.

    Args:
        parts: (K, X, Y, Z) fractions of core, edema, enhancing and other tissue of the tumour.
        t1ce: brightness of :data:`TISSUES` in T1ce.

    Returns:
        The box around the tumour, and sequence -> what is to be added in it; nothing where nothing varies.
    """
    found = parts.amax(0) > 1e-3  # a blur has no end
    if not found.any() or not (any(ranges.core_variation) or any(ranges.uptake_variation)):
        return (), {}
    box = box_around(found)
    core, edema, enhancing = parts[:3, *box]
    wet = core + enhancing + 0.5 * edema
    fluid = own.fractal(wet.shape, (24, 12, 6), step_mm) * wet * own.uniform(*ranges.core_variation)
    dark = -own.uniform(0.2, 1)
    lack = own.fractal(wet.shape, (12, 6), step_mm).add_(1).div_(2).clamp_(0, 1)
    uptake = min(0, t1ce[CORE + 2] - t1ce[ENHANCING + 2]) * own.uniform(*ranges.uptake_variation)
    return box, {
        "t1": dark * fluid,
        "t1ce": dark * fluid + uptake * lack * enhancing,
        "t2": own.uniform(0.2, 1.2) * fluid,
        "flair": own.uniform(-1, 1) * fluid,
    }


def _deep(coords: torch.Tensor) -> torch.Tensor:
    """Where the basal ganglia and the thalamus lie: 0 to 1, most of it over about 12 mm at the edge."""
    x, y, z = to_mni(coords)
    inside = torch.sigmoid((33 - x.abs()) / 3)
    for axis, low, high in ((y, -34, 22), (z, -14, 20)):
        inside = inside * torch.sigmoid((axis - low) / 3) * torch.sigmoid((high - axis) / 3)
    return inside


def _hindbrain(head: Head) -> torch.Tensor:
    """The cerebellum and the lower brain stem, which coils and flow make brighter or darker than the rest. 0 to 1."""
    _, y, z = to_mni(head.coords)
    soft = torch.sigmoid((-36 - y) / 4) * torch.sigmoid((-14 - z) / 4)
    stem = torch.sigmoid((-20 - z) / 4) * torch.sigmoid((-18 - y) / 4)
    return refine(torch.maximum(soft, stem)[None], head.frame)[0]


def _tubes(own: Draw, shape: Sequence[int], step_mm: int) -> torch.Tensor:
    """Vessels 1 to 3 mm wide: lines along which two smooth noises are 0 at once. From 0 to 1."""
    length, width = own.uniform(16, 30), own.uniform(0.05, 0.14)
    a, b = (own.fractal(shape, (length, length / 2), step_mm) for _ in range(2))
    return (1.5 - (a * a + b * b) / width**2).clamp_(0, 1)


def _scan(
    draw: Draw, own: Draw, ranges: Ranges, image: torch.Tensor, inside: torch.Tensor, step_mm: int
) -> torch.Tensor:
    """Bias field (60 mm), blur and thick slices, ghosts, noise, gamma, ringing, and the scanner's own units."""
    r = ranges
    image = image * torch.exp(draw.uniform(*r.bias) * draw.field(image.shape, 60 / step_mm))
    if draw.chance(r.blurred):
        sigma_mm = [draw.uniform(*r.blur_mm) for _ in "xyz"]
        sigma_mm[draw.integer(3)] = draw.uniform(*r.blur_thick_mm)
        image = blur(image, [sigma / step_mm for sigma in sigma_mm])
    if own.chance(r.thick):
        axis = 2 if own.chance(r.axial) else own.integer(3)
        thickness = max(1, round(own.uniform(*r.slice_mm) / step_mm))
        image = _resample_slices(image, axis, thickness, own.integer(thickness))
    if own.chance(r.ghosts):
        image = _add_ghosts(own, r.ghost, image * inside)
    sigma = draw.uniform(*r.noise)
    image = image + draw.white(image.shape) * sigma
    if r.rician:
        image = (image.square() + (own.white(image.shape) * sigma).square()).sqrt_()
    image = image.clamp_(1e-3) ** draw.uniform(*r.gamma)
    lowest = 1
    if own.chance(r.rings):
        image, lowest = _ring(own, r.ringing, image * inside), np.iinfo(np.int16).min
    mean = draw.ratio(*r.brain_mean)
    image = image * (mean * inside.sum() / (image * inside).sum())
    image = image.round_().clamp_(lowest, np.iinfo(np.int16).max)
    return torch.where(image == 0, 1, image) * inside


def _resample_slices(image: torch.Tensor, axis: int, thickness: int, start: int = 0) -> torch.Tensor:
    """Average over slices ``thickness`` voxels thick along an axis, and back to the grid by linear interpolation.

    The first slice begins ``start`` voxels before the image: no two sequences need to share their slices.
    """
    length = image.shape[axis]
    lines = image.movedim(axis, -1)
    flat = lines.reshape(1, -1, length)
    slices = F.avg_pool1d(F.pad(flat, (start, -(length + start) % thickness), mode="replicate"), thickness)
    back = F.interpolate(slices, size=slices.shape[-1] * thickness, mode="linear", align_corners=False)
    return back[..., start : start + length].reshape(lines.shape).movedim(-1, axis)


def _add_ghosts(own: Draw, ghost: Range, image: torch.Tensor) -> torch.Tensor:
    """Weak copies shifted along the direction of phase encoding, as periodic motion leaves them."""
    axis, shift = own.integer(3), own.integer(40) + 15
    for side in (-shift, shift):
        image = image + image.roll(side, axis) * own.uniform(*ghost) * (1 if own.chance(0.5) else -1)
    return image


def _ring(own: Draw, ringing: Range, image: torch.Tensor) -> torch.Tensor:
    """Overshoot at edges along one axis, as windowed-sinc and cubic interpolation leave it; it may fall below 0."""
    axis = own.integer(3)
    mean = (image.roll(1, axis) + image + image.roll(-1, axis)) / 3
    return image + (image - mean) * own.uniform(*ringing)


def _mix(values: Sequence[float], fractions: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    return sum(value * fraction for value, fraction in zip(values, fractions, strict=True))
