"""Make the pictures of docs/phantoms.md: each step of the generator off and on in one case, and galleries.

python docs/phantom_pictures.py [--output docs/phantoms] [--size small] [NAME ...]

This takes about ten minutes on one core; ``--size small`` makes coarse pictures in half a minute, to try it out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from brats3d.labels import BRATS2020, MODALITIES, REGION_COLOURS, REGIONS_TO_READ
from brats3d.phantoms import (
    SETTINGS,
    SIZES,
    Contrasts,
    Phantom,
    RandomStream,
    Setting,
    find_brain_box,
    make_phantom,
    place_head,
    sample_tissue,
    strip_skull,
)

OFF = (0, 0)
MIDDLE = Contrasts(
    **{
        f.name: (sum(v) / 2,) * 2 if isinstance(v := getattr(Contrasts(), f.name), tuple) else 0
        for f in fields(Contrasts)
    }
)
"""The middle of every range, so that both pictures of a pair have the same contrast."""
STILL = Setting(
    texture=(0.01, 0.01),
    bias=OFF,
    noise=(0.004, 0.004),
    blurred=0,
    faint=0,
    vessel_gain=OFF,
    spot_gain=OFF,
    gamma=(1, 1),
    strip_mm=(1, 1),
    sharpness=(2, 2),
    second_focus=0,
    brain_mean=(1000, 1000),
    contrasts=MIDDLE,
)
"""Little texture and noise and no blur: voxels have about the brightness of their tissue."""
UNMOVED = {"rotation_deg": OFF, "scale": (0.9, 0.9), "shift_mm": OFF, "warp_mm": OFF}
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
GAP = 6
"""Pixels between two panels."""


@dataclass(frozen=True)
class Step:
    """One step of the generator, shown off and on.

    Args:
        seed: of the case.
        sequence: the sequence to show.
        on: fields of the setting with the step on.
        off: fields with the step off, if it is on in STILL.
        base: fields that differ from STILL in both pictures.
        view: axial, coronal or sagittal.
        outline: draw the outlines of the regions.
        slice_at: position of the slice, as a fraction of the grid; by default where most changes.
        crop_mm: edge of a square around the place where most changes; by default the whole slice.
    """

    seed: int
    sequence: str
    on: Mapping[str, Any]
    off: Mapping[str, Any]
    base: Mapping[str, Any]
    view: str = "axial"
    outline: bool = False
    slice_at: float | None = None
    crop_mm: int | None = None


QUIET = {"low_grade": 1, "radius_low_mm": (6, 6), "has_edema": 0, "pushes": 0}
HIGH = {"low_grade": 0, "radius_high_mm": (24, 24), "edema_high_mm": (18, 18), "has_edema": 1, "pushes": 0}
LOW = {"low_grade": 1, "radius_low_mm": (28, 28), "edema_low_mm": (10, 10), "has_edema": 1, "pushes": 0}
SOLID = {**HIGH, "has_necrosis": 0}
TINY = {**SOLID, "radius_high_mm": (4, 4), "edema_high_mm": (8, 8), "roughness": (0.1, 0.1)}
SMALL_CORE = {"small_core": 1, "small_core_mm": (8, 8), "small_core_edema_mm": (26, 26)}

STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "place": Step(1, "t1", {"rotation_deg": (6, 6), "scale": (0.84, 0.84)}, UNMOVED, QUIET, slice_at=0.5),
        "warp": Step(1, "t1", {"warp_mm": (5, 5)}, {}, {**QUIET, **UNMOVED}, slice_at=0.5),
        "rigid": Step(5, "t1", {"rigid_rotation_deg": (-12, 12)}, UNMOVED, QUIET, "coronal", slice_at=0.55),
        "bend": Step(3, "t1", {"bend_mm": (5, 5)}, {}, {**QUIET, **UNMOVED}, slice_at=0.5),
        "fold": Step(1, "t1", {"fold_mm": (1.6, 1.6)}, {}, {**QUIET, **UNMOVED}, slice_at=0.6),
        "strip": Step(1, "t2", {"strip_mm": (3, 3)}, {"strip_mm": OFF}, QUIET, "coronal", slice_at=0.55),
        "bites": Step(4, "t1", {"bitten": 1, "bite_mm": (10, 10)}, {}, QUIET),
        "skull": Step(8, "t1", {"leaves_skull": 1, "skull_mm": (4, 4)}, {}, QUIET, slice_at=0.57),
        "ventricles": Step(1, "t1", {"ventricle_mm": (7, 7)}, {}, QUIET),
        "skew": Step(
            1,
            "t1",
            {"ventricle_skew": (0.6, 0.6)},
            {},
            {**QUIET, "ventricle_mm": (4.5, 4.5), "ventricle_level": (0.4, 0.4)},
            crop_mm=80,
        ),
        "walls": Step(1, "t1", {"ventricle_level": (0.4, 0.4)}, {}, QUIET, crop_mm=80),
        "gyri": Step(63, "t1", {"gyri": (0.6, 0.6)}, {}, QUIET, slice_at=0.55),
        "csf": Step(1, "t2", {"csf_weight": (3, 3)}, {}, QUIET, slice_at=0.5),
        "atrophy": Step(
            6, "t1", {"atrophic": 1}, {}, {**QUIET, "gyri": (0.3, 0.3), "ventricle_level": (0.4, 0.4)}, slice_at=0.52
        ),
        "sharpness": Step(1, "t1", {"sharpness": (3, 3)}, {"sharpness": (1, 1)}, QUIET, slice_at=0.5),
        "small": Step(63, "flair", {"small": 1, "radius_small_mm": (6, 6)}, {}, HIGH, outline=True),
        "foci": Step(4, "flair", {"second_focus": 1, "more_foci": 1}, {}, HIGH, outline=True),
        "push": Step(63, "t1", {"pushes": 1, "push": (0.6, 0.6)}, {"pushes": 1, "push": OFF}, HIGH, slice_at=0.52),
        "edema": Step(63, "flair", {"has_edema": 1}, {"has_edema": 0}, HIGH, outline=True),
        "infiltration": Step(2, "flair", {"infiltrates": True}, {}, HIGH, "coronal", outline=True),
        "fade": Step(63, "flair", {"edema_fade": (0.7, 0.7)}, {}, HIGH),
        "roughness": Step(63, "t1ce", {"roughness": (0.45, 0.45)}, {"roughness": OFF}, SOLID, outline=True),
        "lobes": Step(63, "t1ce", {"lobes": 3}, {}, SOLID, outline=True),
        "grade": Step(63, "t1ce", LOW, HIGH, {}, outline=True),
        "enhancement": Step(63, "t1ce", {"low_grade_enhances": 1, "low_grade_enhancement_level": (0.6, 0.6)}, {}, LOW),
        "diffuse": Step(63, "t2", {"diffuse": 1, "margin_mm": (18, 18), "margin_fade": (0.8, 0.8)}, {}, LOW),
        "necrosis": Step(63, "t1ce", {"has_necrosis": 1, "necrosis_level": (-1, -1)}, {}, SOLID, outline=True),
        "shell": Step(63, "t1ce", {"shell": 1, "shell_mm": (8, 8)}, {}, SOLID, outline=True),
        "cyst": Step(63, "flair", {"cystic": 1}, {}, LOW, outline=True),
        "blood": Step(63, "t1", {"bleeds": 1, "bleed_level": (0.8, 0.8)}, {}, LOW),
        "least-core": Step(63, "t1ce", {"min_core_ml": 2}, {}, TINY, outline=True, crop_mm=90),
        "small-core": Step(63, "flair", SMALL_CORE, {}, HIGH, outline=True, crop_mm=80),
        "edema-shift": Step(
            63, "flair", {"edema_shift": (0.6, 0.6)}, {}, {**HIGH, **SMALL_CORE}, outline=True, crop_mm=80
        ),
        "fingers": Step(63, "flair", {"fingers_mm": (20, 20)}, {}, HIGH, outline=True, crop_mm=80),
        "coreless": Step(63, "flair", {"coreless": 1}, {}, {**LOW, "fingers_mm": (15, 15)}, outline=True, crop_mm=80),
        "swirl": Step(63, "t1ce", {"swirl": (0.5, 0.5)}, {}, SOLID, outline=True, crop_mm=80),
        "thin-rim": Step(63, "t1ce", {"thin_rim": 1, "thin_rim_mm": (1.5, 1.5)}, {}, HIGH, outline=True, crop_mm=80),
        "nodule": Step(
            63, "t1ce", {"nodule": 1, "nodule_mm": (8, 8)}, {}, SOLID, outline=True, slice_at=0.584, crop_mm=80
        ),
        "satellites": Step(63, "t1ce", {"satellites": 1, "satellite_mm": (5, 5)}, {}, HIGH, outline=True, crop_mm=80),
        "cavity": Step(63, "flair", {"resected": 1, "cavity_mm": (16, 16)}, {}, LOW, outline=True, crop_mm=80),
        "core-like": Step(63, "flair", {"core_like": 1, "core_like_level": OFF}, {}, HIGH, outline=True, crop_mm=80),
        "visible": Step(
            63,
            "flair",
            {"least_contrast": (0.12, 0.12)},
            {},
            {**HIGH, "edema_fade": (1, 1)},
            outline=True,
            crop_mm=80,
        ),
        "visible-uptake": Step(
            63,
            "t1ce",
            {"least_contrast": (0.03, 0.03), "least_uptake": (0.5, 0.5)},
            {},
            {**SOLID, "uptake_variation": (0.8, 0.8)},
            outline=True,
            crop_mm=80,
        ),
        "other-t1": Step(
            8,
            "t1ce",
            {"contrasts": replace(Contrasts(), t1ce_other=1)},
            {"contrasts": Contrasts()},
            QUIET,
        ),
        "soft": Step(
            63, "flair", {"soft_mm": (2.5, 2.5)}, {"soft_mm": (0.5, 0.5)}, {**HIGH, "faint": 1, "opacity": (1, 1)}
        ),
        "regional": Step(1, "t1", {"regional": (0.1, 0.1), "regional_mm": (40, 40)}, {}, QUIET),
        "deep": Step(1, "t1", {"deep_gm": (1, 1)}, {}, QUIET),
        "folia": Step(1, "t1", {"folia": (0.9, 0.9)}, {}, QUIET, "coronal", slice_at=0.7),
        "relaxation": Step(4, "t1", {"relaxation": 1}, {}, QUIET, slice_at=0.5),
        "random-contrast": Step(1, "t1", {"random_contrast": 1}, {}, QUIET, slice_at=0.5),
        "classes": Step(63, "t2", {"class_spread": (0.08, 0.08), "class_mm": (30, 30)}, {}, HIGH, slice_at=0.5),
        "self-texture": Step(63, "t2", {"self_texture": (0.5, 0.5)}, {}, LOW, crop_mm=100),
        "variation": Step(63, "t2", {"core_variation": (0.25, 0.25)}, {}, LOW),
        "uptake": Step(63, "t1ce", {"uptake_variation": (0.8, 0.8)}, {}, SOLID),
        "uneven-uptake": Step(
            4, "t1ce", {"uneven_uptake": (0.9, 0.9)}, {}, {**SOLID, "second_focus": 1, "more_foci": 1}
        ),
        "uneven-edema": Step(63, "flair", {"uneven_edema": (0.8, 0.8)}, {}, HIGH, outline=True),
        "weak-uptake": Step(
            63,
            "t1ce",
            {"contrasts": replace(Contrasts(), weak_uptake=1)},
            {"contrasts": Contrasts()},
            HIGH,
        ),
        "faint": Step(63, "flair", {"opacity": (0.35, 0.35)}, {"opacity": (1, 1)}, {**HIGH, "faint": 1}),
        "vessels": Step(1, "t1ce", {"vessel_gain": (0.9, 0.9), "vessel_level": (1.2, 1.2)}, {}, QUIET),
        "spots": Step(1, "flair", {"spot_gain": (0.4, 0.4), "spot_level": (1.8, 1.8)}, {}, QUIET),
        "tubes": Step(1, "t1ce", {"tube_gain": (1, 1)}, {}, QUIET),
        "dura": Step(4, "t1ce", {"dura_gain": (0.9, 0.9)}, {}, QUIET, "coronal", slice_at=0.62),
        "plexus": Step(4, "t1ce", {"plexus_gain": (0.8, 0.8)}, {}, QUIET),
        "caps": Step(4, "flair", {"cap_gain": (0.5, 0.5)}, {}, QUIET),
        "flow": Step(1, "flair", {"flow_gain": (0.4, 0.4)}, {}, QUIET),
        "texture": Step(63, "t2", {"texture": (0.07, 0.07), "tumour_texture": (2, 2)}, {}, LOW),
        "hindbrain": Step(1, "t2", {"hindbrain_gain": (0.3, 0.3)}, {}, QUIET, "sagittal", slice_at=0.49),
        "misregistration": Step(
            63, "flair", {"misregistered": 1, "misregistered_mm": (2, 2)}, {}, HIGH, outline=True, crop_mm=70
        ),
        "bias": Step(1, "t1", {"bias": (0.25, 0.25)}, {}, QUIET),
        "blur": Step(
            1, "t2", {"blur_thick_mm": (2.4, 2.4)}, {"blur_thick_mm": OFF}, {**QUIET, "blurred": 1, "blur_mm": OFF}
        ),
        "slices": Step(63, "flair", {"thick": 1, "axial": 1, "slice_mm": (6, 6)}, {}, HIGH, "coronal"),
        "gaps": Step(
            63, "flair", {"slice_gap_mm": (3, 3)}, {}, {**HIGH, "thick": 1, "axial": 1, "slice_mm": (2, 2)}, "coronal"
        ),
        "tilt": Step(
            63,
            "t1",
            {"slice_tilt": (0.2, 0.2)},
            {},
            {**QUIET, "thick": 1, "axial": 1, "slice_mm": (6, 6)},
            "coronal",
            slice_at=0.5,
            crop_mm=60,
        ),
        "ghosts": Step(1, "t1", {"ghosts": 1, "ghost": (0.08, 0.08)}, {}, QUIET),
        "noise": Step(63, "flair", {"noise": (0.05, 0.05), "rician": True}, {}, HIGH),
        "gamma": Step(1, "t2", {"gamma": (1.4, 1.4)}, {"gamma": (0.7, 0.7)}, QUIET, slice_at=0.5),
        "rings": Step(3, "t2", {"rings": 1, "ringing": (0.5, 0.5)}, {}, QUIET, crop_mm=60, slice_at=0.5),
        "partial": Step(4, "t1", {"partial": 1, "uncovered": (0.3, 0.3)}, {}, QUIET, "coronal", slice_at=0.5),
    }
)


@cache
def cached_phantom(seed: int, setting: Setting, size: str) -> Phantom:
    """Make a case once."""
    return make_phantom(seed, size, setting=setting)


def show(plane: np.ndarray, window: tuple[float, float], zoom: int) -> np.ndarray:
    """Draw a plane as a grey picture, uint8 (rows, columns, 3), on a black background."""
    low, high = window
    grey = (np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    grey = np.where(plane == 0, 0, grey).astype(np.uint8)
    large = Image.fromarray(grey).resize((grey.shape[1] * zoom, grey.shape[0] * zoom), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(large)[..., None], 3, -1)


def window_of(volume: np.ndarray) -> tuple[float, float]:
    """Return the display window: from the 1st percentile of the foreground to a little above the 99.7th."""
    low, high = np.percentile(volume[volume != 0], (1, 99.7))
    return float(low), float(low + 1.1 * (high - low))


def draw_outlines(picture: np.ndarray, label: np.ndarray, zoom: int) -> np.ndarray:
    """Draw the outlines of WT, TC and ET in the project's colours."""
    picture = picture.copy()
    for region in REGIONS_TO_READ:
        mask = np.isin(label, BRATS2020.regions[region]).repeat(zoom, 0).repeat(zoom, 1)
        mask = ndimage.gaussian_filter(mask.astype(np.float32), zoom / 2) > 0.5
        border = mask & ~ndimage.binary_erosion(mask, iterations=max(1, zoom // 2))
        picture[border] = [int(REGION_COLOURS[region][i : i + 2], 16) for i in (1, 3, 5)]
    return picture


def upright(volume: np.ndarray, view: str, index: int) -> np.ndarray:
    """Return a plane in radiological view: anterior or superior up, the patient's right (or front) on the left."""
    plane = volume.take(index, AXES[view]).T
    return plane if view == "axial" else plane[::-1]


def brain_box_of(volumes: Sequence[np.ndarray], margin: int) -> tuple[slice, ...]:
    """Return the box around the foreground, with a margin."""
    inside = np.any([volume != 0 for volume in volumes], axis=0)
    spans = [np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(max(0, s[0] - margin), s[-1] + 1 + margin) for s in spans)


def beside(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Place panels of the same height side by side."""
    gap = np.zeros((panels[0].shape[0], GAP, 3), np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], 1)


def below(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Place rows below each other, centred."""
    width = max(row.shape[1] for row in rows)
    padded = []
    for row in rows:
        left = (width - row.shape[1]) // 2
        padded += [np.pad(row, ((0, GAP), (left, width - row.shape[1] - left), (0, 0)))]
    return np.concatenate(padded)[:-GAP]


def picture_of(step: Step, size: str) -> np.ndarray:
    """Draw a step off and on, in the slice and around the place where most changes."""
    off, on = (
        cached_phantom(step.seed, replace(STILL, **{**step.base, **change}), size) for change in (step.off, step.on)
    )
    zoom = 2 * SIZES[size].voxel_mm
    a, b = (case.images[step.sequence].astype(np.float32) for case in (off, on))
    both = (a != 0) & (b != 0)
    change = np.abs(a / a[both].mean() - b / b[both].mean()) if both.any() else np.zeros_like(a)
    change += (off.label != on.label) * step.outline
    axis = AXES[step.view]
    others = tuple({0, 1, 2} - {axis})
    index = int(change.sum(others).argmax()) if step.slice_at is None else int(step.slice_at * a.shape[axis])
    box = list(brain_box_of((a, b), 3))
    if step.crop_mm is not None:
        edge = step.crop_mm // SIZES[size].voxel_mm
        spread = ndimage.uniform_filter(change.take(index, axis), edge // 3)
        place = np.unravel_index(spread.argmax(), spread.shape)
        for k, middle in zip(others, place, strict=True):
            start = int(np.clip(middle - edge // 2, 0, a.shape[k] - edge))
            box[k] = slice(start, start + edge)
        zoom *= 2
    box[axis] = slice(None)
    window = window_of(a)
    panels = []
    for case in (off, on):
        panel = show(upright(case.images[step.sequence][tuple(box)], step.view, index), window, zoom)
        label = upright(case.label[tuple(box)], step.view, index)
        panels.append(draw_outlines(panel, label, zoom) if step.outline else panel)
    return beside(panels)


def atlas_picture(size: str) -> np.ndarray:
    """Draw the fractions of CSF, grey and white matter of the atlas."""
    rng = RandomStream(0, torch.device("cpu"))
    setting = replace(STILL, **UNMOVED, sharpness=(1, 1))
    coords = place_head(rng, setting, SIZES[size])
    box = find_brain_box(coords, SIZES[size].voxel_mm)
    brain, _ = strip_skull(rng, setting, coords, box)
    fractions = (sample_tissue(rng, setting, coords, box) * brain).numpy()
    index = round(fractions.shape[-1] * 0.55)
    zoom = 2 * SIZES[size].voxel_mm
    return beside([show(upright(volume, "axial", index), (0, 1), zoom) for volume in fractions])


def case_row(case: Phantom, zoom: int) -> np.ndarray:
    """Draw a case in T1, T1ce, T2, FLAIR and FLAIR with its regions, in the slice with the most tumour."""
    index = int((case.label > 0).sum((0, 1)).argmax())
    middle = [round(n / 2 + shift) for n, shift in zip(case.label.shape, (0, case.label.shape[1] * 0.03), strict=False)]
    half = [round(n * fraction) for n, fraction in zip(case.label.shape, (0.315, 0.4), strict=False)]
    box = tuple(slice(m - h, m + h) for m, h in zip(middle, half, strict=True))
    panels = [
        show(upright(case.images[name][box], "axial", index), window_of(case.images[name]), zoom) for name in MODALITIES
    ]
    return beside([*panels, draw_outlines(panels[-1], upright(case.label[box], "axial", index), zoom)])


def gallery(seeds: Sequence[int], setting: str, size: str) -> np.ndarray:
    """Draw cases below each other."""
    return below([case_row(cached_phantom(seed, SETTINGS[setting], size), SIZES[size].voxel_mm) for seed in seeds])


GALLERIES: Mapping[str, tuple[str, Sequence[int]]] = MappingProxyType(
    {
        "varied": ("varied", range(8)),
        "plain": ("plain", (0, 1)),
        "new-scanner": ("new-scanner", (0, 1)),
        "wide": ("wide", range(6)),
    }
)


def save(picture: np.ndarray, path: Path) -> None:
    """Save a small JPEG, in greyscale if it has no colours."""
    grey = (picture == picture[..., :1]).all()
    image = Image.fromarray(picture[..., 0] if grey else picture)
    image.save(path, quality=76, optimize=True, **({} if grey else {"subsampling": 0}))


def names() -> list[str]:
    """Return the names of all pictures."""
    return ["atlas", *STEPS, *(f"gallery-{name}" for name in GALLERIES)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these pictures")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "phantoms")
    parser.add_argument("--size", choices=SIZES, default="full")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or names():
        if name == "atlas":
            picture = atlas_picture(options.size)
        elif name in STEPS:
            picture = picture_of(STEPS[name], options.size)
        else:
            setting, seeds = GALLERIES[name.removeprefix("gallery-")]
            picture = gallery(seeds, setting, options.size)
        save(picture, options.output / f"{name}.jpg")
        print(options.output / f"{name}.jpg")


if __name__ == "__main__":
    main()
