"""The scan of a phantom: tissues mixed with their brightness, distractors and texture, seen by a scanner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from brats3d.labels import MODALITIES
from brats3d.phantoms.brain_parts import deep_nuclei_mask, hindbrain_mask
from brats3d.phantoms.coverage import draw_coverage
from brats3d.phantoms.distractors import draw_distractors
from brats3d.phantoms.head import Head, refine
from brats3d.phantoms.misregistration import draw_misregistration, move_rigidly
from brats3d.phantoms.random_numbers import RandomStream, node_counts
from brats3d.phantoms.scanner_effects import scan_image
from brats3d.phantoms.self_texture import draw_self_texture
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tissue_classes import add_tissue_classes, split_tumour
from brats3d.phantoms.tumour import BLOOD, CORE, CYST, EDEMA, ENHANCING, Tumour
from brats3d.phantoms.visible_labels import label_what_shows, measure_uptake
from brats3d.phantoms.volume_ops import blur, bounding_box


def scan_case(
    rng: RandomStream, setting: Setting, head: Head, tumour: Tumour, contrast: Mapping[str, Sequence[float]]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Scan the case in every sequence: mix the tissues, add distractors and texture, then apply the scanner.

    Args:
        contrast: sequence -> brightness of each tissue, see :func:`brats3d.phantoms.contrast.draw_contrast`.

    Returns:
        Sequence -> (X, Y, Z) float32 of whole numbers, 0 outside the brain and nowhere inside what the sequence covers;
        and (X, Y, Z) the tissue of the tumour as a reader would label it.
    """
    shape, voxel_mm = head.brain.shape, head.box.voxel_mm
    present = [k for k in (CORE, EDEMA, ENHANCING, CYST, BLOOD) if k <= ENHANCING or (tumour.tissue == k).any()]
    fractions = _tumour_fractions(rng, setting, tumour, present, voxel_mm)
    opacity = fractions.sum(0)
    distractors = draw_distractors(rng, setting, head, tumour.tissue == 0)
    skull_rng, hindbrain_rng = rng.substream("skull's brightness"), rng.substream("hindbrain")
    hindbrain: torch.Tensor | float = 0
    if any(setting.hindbrain_gain) or any(setting.folia):
        hindbrain = refine(hindbrain_mask(head.coords)[None], head.box)[0]
    healthy = mix_healthy(rng.substream("places"), setting, head, hindbrain, contrast)
    add_tissue_classes(rng.substream("classes"), setting, head, healthy)
    changes = (
        vary_tumour(rng.substream("variation"), setting, fractions, contrast["t1ce"], voxel_mm),
        split_tumour(rng.substream("tumour classes"), setting, fractions, voxel_mm),
        draw_self_texture(rng.substream("self texture"), setting, fractions, healthy),
    )
    has_skull = bool(head.skull.any())
    covered = draw_coverage(rng.substream("coverage"), setting, head.brain | head.skull)
    motions = draw_misregistration(rng.substream("misregistration"), setting)
    images, added = {}, {}
    for name in MODALITIES:
        image = healthy[name] * (1 - opacity) + mix([contrast[name][k + 2] for k in present], fractions)
        for box, change in changes:
            if name in change:
                image[box] += change[name]
        if any(setting.least_contrast):
            added[name] = image - healthy[name]
        texture = rng.fractal_noise(shape, (10, 5, 3), voxel_mm) * rng.uniform(*setting.texture)
        image += texture * (0.4 + opacity * rng.uniform(*setting.tumour_texture))
        for distractor in distractors.get(name, ()):
            image += distractor
        if any(setting.hindbrain_gain):
            image *= 1 + hindbrain * hindbrain_rng.uniform(*setting.hindbrain_gain)
        if has_skull:
            image = torch.where(head.skull, skull_rng.uniform(0.05, 1.1) + 2 * texture, image)
        if name in motions:
            image = move_rigidly(image, motions[name], voxel_mm)
        images[name] = scan_image(rng, rng.substream(f"scan {name}"), setting, image, covered[name], voxel_mm)
    uptake = measure_uptake(fractions, contrast["t1ce"], changes[0])
    return images, label_what_shows(rng.substream("label"), setting, tumour, added, uptake, voxel_mm)


def _tumour_fractions(
    rng: RandomStream, setting: Setting, tumour: Tumour, present: Sequence[int], voxel_mm: int
) -> torch.Tensor:
    """Return the fraction of each tumour tissue at each voxel, (K, X, Y, Z): faded, thinned out and blended."""
    fractions = torch.stack([tumour.tissue == k for k in present]).float()
    if any(setting.edema_fade):
        fractions[1] *= 1 - tumour.fade * rng.substream("fade").uniform(*setting.edema_fade)
    if any(setting.uneven_edema) and fractions[1].any():
        patchy = rng.substream("uneven edema")
        box = bounding_box(fractions[1] > 0)
        lack = patchy.fractal_noise(fractions[1][box].shape, (30, 15), voxel_mm).add_(1).div_(2).clamp_(0, 1)
        fractions[1][box] *= 1 - lack * patchy.uniform(*setting.uneven_edema)
    if tumour.thinned is not None:
        lost = fractions[0] * tumour.thinned
        fractions[0] -= lost
        fractions[1] += lost * tumour.surrounding_edema
    alike = rng.substream("core-like edema")
    if alike.chance(setting.core_like):
        noise = alike.fractal_noise(fractions[1].shape, (24, 12), voxel_mm)
        lost = fractions[1] * (noise - alike.uniform(*setting.core_like_level)).clamp_(0, 1)
        fractions[0] += lost
        fractions[1] -= lost
    if rng.chance(setting.faint):
        sigma_mm = rng.substream("soft").uniform(*setting.soft_mm)
        fractions = blur(fractions, [sigma_mm / voxel_mm] * 3) * rng.uniform(*setting.opacity)
    return fractions


_FOLIA_GM = 0.7
"""Fraction of grey matter in the folia of the cerebellum: most of a voxel of them is cortex."""


def mix_healthy(
    rng: RandomStream,
    setting: Setting,
    head: Head,
    hindbrain: torch.Tensor | float,
    contrast: Mapping[str, Sequence[float]],
) -> dict[str, torch.Tensor]:
    """Make each sequence without a tumour, from healthy tissue whose brightness varies in space.

    Grey and white matter each vary smoothly, grey matter deep in the brain is nearer to white matter (because of its
    iron and myelin), and both are mixed in the cerebellum. These are differences of the tissue, so they show in all
    sequences, and in T1ce as in T1.

    Args:
        hindbrain: (X, Y, Z) from 0 to 1, see :func:`brats3d.phantoms.brain_parts.hindbrain_mask`.
        contrast: sequence -> brightness of each tissue.

    Returns:
        Sequence -> (X, Y, Z) brightness.
    """
    tissue, shape = head.tissue, head.brain.shape
    if not (any(setting.regional) or any(setting.deep_gm) or any(setting.folia)):
        return {name: mix(contrast[name][:3], tissue) for name in MODALITIES}
    _, grey, white = tissue
    length = rng.uniform(*setting.regional_mm) / head.box.voxel_mm
    patterns = rng.white_noise((2, 2, *node_counts(shape, length)))  # two for grey matter, two for white
    deep = refine(deep_nuclei_mask(head.coords)[None], head.box)[0] * grey
    folia = rng.uniform(*setting.folia) * hindbrain
    to_white = grey * folia * (1 - _FOLIA_GM) - white * folia * _FOLIA_GM
    images: dict[str, torch.Tensor] = {}
    for name in ("t1", "t2", "flair"):
        pattern = sum(rng.normal(1) * rng.uniform(*setting.regional) * part for part in patterns)
        gain = F.interpolate(pattern[None], shape, mode="trilinear", align_corners=True)[0].clamp_(-0.5, 0.5).add_(1)
        whiter = to_white + rng.uniform(*setting.deep_gm) * deep
        for alike in (name, "t1ce") if name == "t1" else (name,):
            csf, gm, wm = contrast[alike][:3]
            images[alike] = mix((csf, gm, wm), (tissue[0], grey * gain[0], white * gain[1])) + (wm - gm) * whiter
    return images


def vary_tumour(
    rng: RandomStream, setting: Setting, fractions: torch.Tensor, t1ce: Sequence[float], voxel_mm: int
) -> tuple[tuple[slice, ...], dict[str, torch.Tensor]]:
    """Vary the brightness within a tumour: more or less fluid, more or less uptake of contrast agent.

    Fluid makes T1 darker, T2 brighter, and FLAIR either.

    Args:
        fractions: (K, X, Y, Z) fractions of core, edema, enhancing and other tissues of the tumour.
        t1ce: brightness of each tissue in T1ce.

    Returns:
        The box around the tumour, and sequence -> what to add in it; both are empty if nothing varies.
    """
    visible = fractions.amax(0) > 1e-3  # the blur of a tumour has no sharp end
    steps = (setting.core_variation, setting.uptake_variation, setting.uneven_uptake)
    if not visible.any() or not any(map(any, steps)):
        return (), {}
    box = bounding_box(visible)
    core, edema, enhancing = fractions[:3, *box]
    wet = core + enhancing + 0.5 * edema
    fluid = rng.fractal_noise(wet.shape, (24, 12, 6), voxel_mm) * wet * rng.uniform(*setting.core_variation)
    dark = -rng.uniform(0.2, 1)
    lack = rng.fractal_noise(wet.shape, (12, 6), voxel_mm).add_(1).div_(2).clamp_(0, 1)
    lack *= rng.uniform(*setting.uptake_variation)
    if any(setting.uneven_uptake):
        places = rng.substream("uneven uptake")
        dim = places.fractal_noise(wet.shape, (40,), voxel_mm).add_(1).div_(2).clamp_(0, 1)
        lack = torch.maximum(lack, dim * places.uniform(*setting.uneven_uptake))
    uptake = min(0, t1ce[CORE + 2] - t1ce[ENHANCING + 2])
    return box, {
        "t1": dark * fluid,
        "t1ce": dark * fluid + uptake * lack * enhancing,
        "t2": rng.uniform(0.2, 1.2) * fluid,
        "flair": rng.uniform(-1, 1) * fluid,
    }


def mix(brightness: Sequence[float], fractions: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the brightness of voxels that hold these fractions of tissues."""
    return sum(value * fraction for value, fraction in zip(brightness, fractions, strict=True))
