"""The scan of a phantom: how bright tissues are in each sequence, what else is bright, what a scanner does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from brats3d.labels import MODALITIES
from brats3d.phantom_atlas import INSIDE, NEAR, sample_landmarks, to_mni
from brats3d.phantom_head import Head, refine
from brats3d.phantom_noise import Draw, blur
from brats3d.phantom_ranges import Range, Ranges
from brats3d.phantom_tumour import BLOOD, CORE, CYST, EDEMA, ENHANCING, Tumour

__all__ = ["TISSUES", "acquire", "contrast"]

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
        "t1ce": [c1c, g1c, w1c, n1c, e1c, max(g1c, w1c) + u(*k.t1ce_enhancing)],
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
    r, tissue, shape, step = ranges, head.tissue, head.brain.shape, head.frame.step_mm
    kinds = [k for k in (CORE, EDEMA, ENHANCING, CYST, BLOOD) if k <= ENHANCING or (tumour.tissue == k).any()]
    parts = torch.stack([tumour.tissue == k for k in kinds]).float()
    if any(r.edema_fade):
        parts[1] *= 1 - tumour.fade * draw.of("fade").uniform(*r.edema_fade)
    if draw.chance(r.faint):
        soft = draw.of("soft").uniform(*r.soft_mm)
        parts = blur(parts, [soft / step] * 3) * draw.uniform(*r.opacity)
    opacity = parts.sum(0)
    extras = _distractors(draw, r, head, tumour.tissue == 0)
    ghost = draw.of("skull's brightness")
    near_coils = draw.of("hindbrain")
    places = _Places(draw.of("places"), r, head) if any(r.regional) or any(r.deep_gm) or any(r.folia) else None
    variation = _vary_tumour(draw.of("variation"), r, parts, kinds, values["t1ce"], step)
    hindbrain = _hindbrain(head) if any(r.hindbrain_gain) else None
    has_skull = bool(head.skull.any())
    images = {}
    for name in MODALITIES:
        mixed = [values[name][k + 2] for k in kinds]
        image = places.mix(name, values[name]) if places else _mix(values[name][:3], tissue)
        image = image * (1 - opacity) + _mix(mixed, parts)
        for box, change in variation.get(name, ()):
            image[box] += change
        texture = draw.fractal(shape, (10, 5, 3), step) * draw.uniform(*r.texture)
        image += texture * (0.4 + opacity * draw.uniform(*r.tumour_texture))
        for extra in extras.get(name, ()):
            image += extra
        if hindbrain is not None:
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
        midline = refine(to_mni(head.coords)[:1], head.frame)[0].abs() < own.uniform(1, 4)
        patches = own.fractal(shape, (40, 12), step)
        dura = (depth < own.uniform(1, 4)) & (patches > own.uniform(-1, 1.5))
        vault = refine(_vault(head.coords)[None], head.frame)[0] > 0.5
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


class _Places:
    """Healthy tissue that is not the same everywhere: each of grey and white matter by a smooth share of its own, and
    grey matter deep in the brain by how near it is to white matter (iron and myelin make it so), and both in the
    cerebellum by how they mix.

    What differs is the tissue, so that it shows in all sequences, in each to another extent, and in T1ce as in T1.
    """

    def __init__(self, own: Draw, ranges: Ranges, head: Head) -> None:
        self.own, self.ranges, self.head = own, ranges, head
        shape, step = head.brain.shape, head.frame.step_mm
        length = own.uniform(*ranges.regional_mm)
        self.fields = own.white((2, 2, *(round(n * step / length) + 2 for n in shape)))
        self.deep = refine(_deep(head.coords)[None], head.frame)[0] * head.tissue[1]
        self.weights: dict[str, tuple[list[float], float]] = {}
        for name in MODALITIES:
            drawn = [own.normal(1) * own.uniform(*ranges.regional) for _ in range(2)], own.uniform(*ranges.deep_gm)
            self.weights[name] = self.weights["t1"] if name == "t1ce" else drawn
        mixed = own.uniform(*ranges.folia) * _hindbrain(head)
        self.share_gm, self.share_wm = mixed * (1 - _FOLIA_GM), mixed * _FOLIA_GM

    def mix(self, name: str, values: Sequence[float]) -> torch.Tensor:
        """The image of a sequence without a tumour, from the brightness of CSF, grey and white matter."""
        csf, gm, wm = values[:3]
        weights, deep = self.weights[name]
        field = sum(weight * field for weight, field in zip(weights, self.fields, strict=True))
        share = F.interpolate(field[None], self.head.brain.shape, mode="trilinear", align_corners=True)[0]
        share = share.clamp_(-0.5, 0.5).add_(1)
        _, grey, white = self.head.tissue
        image = csf * self.head.tissue[0] + gm * grey * share[0] + wm * white * share[1]
        return image + (wm - gm) * (deep * self.deep + grey * self.share_gm - white * self.share_wm)


def _vary_tumour(
    own: Draw, ranges: Ranges, parts: torch.Tensor, kinds: Sequence[int], t1ce: Sequence[float], step_mm: int
) -> dict[str, list[tuple[tuple[slice, ...], torch.Tensor]]]:
    """What makes a tumour's parts unlike one another: more and less fluid, more and less of the agent taken up.

    Fluid makes T1 darker and T2 brighter, and FLAIR either.

    Args:
        parts: (K, X, Y, Z) fractions of the tumour's tissues.
        kinds: which tissues these are.
        t1ce: brightness of all tissues in T1ce.

    Returns:
        Sequence -> boxes and what is to be added in them.
    """
    found = parts.amax(0) > 0
    if not found.any() or not (any(ranges.core_variation) or any(ranges.uptake_variation)):
        return {}
    ends = [found.flatten(1).any(1) if axis == 0 else found.movedim(axis, 0).flatten(1).any(1) for axis in range(3)]
    box = tuple(slice(int(e.nonzero()[0]), int(e.nonzero()[-1]) + 1) for e in ends)
    inside = parts[:, *box]
    part = {kind: inside[index] for index, kind in enumerate(kinds)}
    solid = part[CORE] + part[ENHANCING] + 0.5 * part[EDEMA]
    fluid = own.fractal(solid.shape, (24, 12, 6), step_mm) * solid * own.uniform(*ranges.core_variation)
    dark = -own.uniform(0.2, 1)
    lack = own.fractal(solid.shape, (12, 6), step_mm).add_(1).div_(2).clamp_(0, 1)
    uptake = (t1ce[CORE + 2] - t1ce[ENHANCING + 2]) * own.uniform(*ranges.uptake_variation)
    return {
        "t1": [(box, dark * fluid)],
        "t1ce": [(box, dark * fluid + uptake * lack * part[ENHANCING])],
        "t2": [(box, own.uniform(0.2, 1.2) * fluid)],
        "flair": [(box, own.uniform(-1, 1) * fluid)],
    }


def _deep(coords: torch.Tensor) -> torch.Tensor:
    """Where the basal ganglia and the thalamus lie, 0 to 1 with an edge of about 6 mm."""
    x, y, z = to_mni(coords)
    inside = torch.sigmoid((33 - x.abs()) / 3)
    for axis, low, high in ((y, -34, 22), (z, -14, 20)):
        inside = inside * torch.sigmoid((axis - low) / 3) * torch.sigmoid((high - axis) / 3)
    return inside


def _vault(coords: torch.Tensor) -> torch.Tensor:
    """1 beside the vault of the skull, along which the sagittal sinus runs; 0 beside its base."""
    _, y, z = to_mni(coords)
    return ((z > 5) | (y < -75)).float()


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


def _mix(values: Sequence[float], fractions: torch.Tensor) -> torch.Tensor:
    return sum(value * fraction for value, fraction in zip(values, fractions, strict=True))
