"""Synthetic BraTS cases grown from a real anatomical atlas: anatomy, deformation, tumour, contrast, acquisition.

The anatomy is the average of 152 healthy volunteers (ICBM 2009), so a case holds no patient's data. Everything after
the atlas is pure torch, on any device; all lengths are in millimetres of the head unless a name says otherwise.

Atlas: Fonov et al., "Unbiased average age-appropriate atlases for pediatric studies", NeuroImage 54 (2011), 313-327,
https://doi.org/10.1016/j.neuroimage.2010.07.033, as carried by nilearn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F

from brats3d.labels import MODALITIES

__all__ = [
    "COARSE_MM",
    "MIN_ENHANCING_ML",
    "MIN_TUMOUR_ML",
    "SIZES",
    "Focus",
    "Frame",
    "Head",
    "Phantom",
    "Range",
    "Ranges",
    "Size",
    "acquire",
    "check",
    "contrast",
    "grow_tumour",
    "load_anatomy",
    "make_phantom",
    "place_head",
    "place_tumour",
    "push_tissue",
    "sample_tissue",
    "strip_skull",
]

Range = tuple[float, float]

COARSE_MM = 4
"""Step of the grid on which the deformation lives: it is smooth, so a finer one shows no difference."""

MIN_TUMOUR_ML = 1.0
"""A case whose whole tumour came out smaller is grown again, larger."""

MIN_ENHANCING_ML = 0.1
"""Enhancement that came out smaller is none: a speck that no reader would outline. BraTS 2023 drops lesions up to
0.05 ml (https://github.com/rachitsaluja/BraTS-2023-Metrics)."""


@dataclass(frozen=True)
class Size:
    """How many voxels a case has, and how many millimetres of the head one voxel covers."""

    shape: tuple[int, int, int]
    step_mm: int


SIZES: Mapping[str, Size] = MappingProxyType({"full": Size((240, 240, 155), 1), "small": Size((48, 48, 40), COARSE_MM)})
"""``small`` is the same head sampled every 4 mm. Its files still say 1 mm, so that they pass for BraTS: volumes and
distances read from them are 1/64 and 1/4 of the head's."""


@dataclass(frozen=True)
class Ranges:
    """What a case is drawn from: uniform between the two ends, or the chance of something, between 0 and 1.

    Intensities are in arbitrary units in which white and grey matter lie between about 0.2 and 1.
    """

    # anatomy and deformation
    rotation_deg: Range = (-6, 6)
    # The ICBM brain is about 1.9 l within its mask; adult brains with the CSF around them average about 1.4 l.
    scale: Range = (0.84, 1.0)
    shift_mm: Range = (-4, 4)
    warp_mm: Range = (1, 5)
    warp_length_mm: Range = (24, 50)
    sharpness: Range = (1, 2.5)  # exponent of the tissue fractions: the average atlas is smoother than any one brain
    strip_mm: Range = (0, 3)  # how deep below the atlas's brain surface the skull-stripping cuts
    # tumour
    low_grade: float = 0.4
    low_grade_enhances: float = 0.3
    low_grade_enhancement_level: float = 1.6  # of unit noise, above which the core enhances
    second_focus: float = 0.2
    radius_low_mm: Range = (10, 34)
    radius_high_mm: Range = (6, 28)
    radius_second_mm: Range = (4, 12)
    stretch: Range = (0.75, 1.3)
    pushes: float = 0.6
    push: Range = (0.1, 0.45)  # displacement at the centre, in radii
    roughness: Range = (0.1, 0.3)  # of the core's surface, in radii
    has_edema: float = 0.85
    edema_low_mm: Range = (0, 14)
    edema_high_mm: Range = (0, 30)
    edema_roughness_mm: Range = (2, 7)
    edema_in_white_matter_mm: float = 8  # how much further edema reaches in white than in grey matter
    rim_mm: Range = (1.5, 9)  # thickness of the enhancing rim
    necrosis_level: Range = (-2.5, 0.3)  # of unit noise: low, the whole inside is necrotic; high, patches of it
    has_necrosis: float = 0.85
    # unlabelled distractors: level of unit noise above which they stand, and brightness
    vessel_level: Range = (1.2, 2.2)
    vessel_gain: Range = (0, 0.9)
    spot_level: Range = (1.6, 2.8)  # white-matter hyperintensities
    spot_gain: Range = (0, 0.3)
    # acquisition
    faint: float = 0.5  # chance that a tumour is blended with the tissue below by `opacity`, with soft edges
    opacity: Range = (0.3, 1)
    texture: Range = (0.01, 0.06)
    tumour_texture: Range = (0.3, 1.5)  # times texture, beside 0.4 in healthy tissue
    bias: Range = (0, 0.18)
    blurred: float = 0.6
    blur_mm: Range = (0, 0.6)  # standard deviation
    blur_thick_mm: Range = (0, 2.4)  # across slices; clinical ones of 5 mm are about 2.1
    noise: Range = (0.003, 0.04)
    gamma: Range = (0.8, 1.25)
    brain_mean: Range = (100, 2000)  # raw units of the scanner, drawn on a logarithmic scale


@dataclass(frozen=True)
class Phantom:
    """One synthetic case, as BraTS 2020 would hold it.

    Args:
        case_id: name of the case, one path component.
        images: modality -> int16 array (X, Y, Z); 0 outside the brain and at least 1 inside, in every modality.
        label: uint8 array (X, Y, Z) with the values 0, 1 (core that does not enhance), 2 (edema), 4 (enhancing).
        affine: (4, 4) voxel -> RAS millimetres, in BraTS's LPS voxel order.
        seed: ``make_phantom(seed)`` gives this case again.
    """

    case_id: str
    images: dict[str, np.ndarray]
    label: np.ndarray
    affine: np.ndarray
    seed: int


def make_phantom(seed: int, size: str = "full", device: str | torch.device = "cpu") -> Phantom:
    """Make one case. The same seed on the same device gives the same voxels.

    Args:
        seed: any integer from 0.
        size: ``full`` (240 x 240 x 155 voxels of 1 mm) or ``small`` (48 x 48 x 40, for tests; see :data:`SIZES`).
        device: where to compute, such as ``"cuda"``.

    Raises:
        ValueError: if size is unknown or seed negative.
    """
    check(size in SIZES, f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    check(seed >= 0, f"seed: expected an integer from 0, got {seed}")
    draw = _Draw(seed, torch.device(device), Ranges())
    grid = SIZES[size]
    low_grade = draw.chance(draw.ranges.low_grade)

    coords = place_head(draw, grid)
    foci = place_tumour(draw, coords, low_grade)
    frame = _brain_box(coords, grid.step_mm)
    brain = strip_skull(draw, coords, frame)
    head = Head(frame, brain, sample_tissue(draw, push_tissue(coords, foci), frame))
    label = grow_tumour(draw, head, foci, low_grade)
    images = acquire(draw, head, label, contrast(draw, low_grade))

    label = torch.where(label == 3, 4, label)  # the steps number the tissues 1, 2, 3; BraTS's ET is 4
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = grid.shape[1] - 1
    return Phantom(
        case_id=f"phantom_{seed}",
        images={name: _paste(image.to(torch.int16), frame, grid.shape) for name, image in images.items()},
        label=_paste(label, frame, grid.shape),
        affine=affine,
        seed=seed,
    )


@dataclass(frozen=True)
class Frame:
    """A box of a case's grid: first voxel, shape, and the shape of the whole grid, in voxels of ``step_mm``."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    step_mm: int

    def axes_mm(self, device: torch.device) -> list[torch.Tensor]:
        """Positions of the voxels from the middle of the whole grid, along each axis, ready to broadcast."""
        axes = [
            (torch.arange(a, a + n, device=device) - (whole - 1) / 2) * self.step_mm
            for a, n, whole in zip(self.start, self.shape, self.whole, strict=True)
        ]
        return [axis.view([-1 if i == k else 1 for i in range(3)]) for k, axis in enumerate(axes)]


@lru_cache(maxsize=4)
def load_anatomy(step_mm: int, device: torch.device) -> torch.Tensor:
    """The ICBM 2009 atlas, cropped to the brain, in LPS order.

    Args:
        step_mm: 1, or the edge of the blocks of voxels to average.

    Returns:
        (3, X, Y, Z) float32: fraction of grey matter, of white matter, and depth in mm below the brain's surface
        (0 outside, at most 8). The origin of atlas coordinates is the middle of the array.
    """
    from nilearn import datasets
    from scipy import ndimage

    loaders = (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template, datasets.load_mni152_brain_mask)
    gm, wm, mask = (load(resolution=1).get_fdata().astype(np.float32)[::-1, ::-1] for load in loaders)  # RAS -> LPS
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    # at least 6 mm around the brain, and edges that blocks of 4 mm divide
    pad = [(6, 6 + -(s.stop - s.start + 12) % COARSE_MM) for s in box]
    gm, wm, mask = (np.pad(volume[box], pad) for volume in (gm * mask, wm * mask, mask))
    mask = ndimage.binary_fill_holes(mask > 0)  # a few single voxels, which skull-stripping would widen
    depth = ndimage.distance_transform_edt(mask).clip(max=8)
    atlas = torch.from_numpy(np.stack([gm, wm, depth]).astype(np.float32))
    return F.avg_pool3d(atlas, step_mm).to(device)


def place_head(draw: _Draw, grid: Size) -> torch.Tensor:
    """Where in the atlas each coarse voxel of the case lies: a random affine map and a smooth random deformation.

    Returns:
        (3, x, y, z) atlas coordinates in mm, on the grid of :data:`COARSE_MM`. The middle of the brain comes to the
        middle of BraTS's grid left to right and a few mm behind and below it, where the SRI24 space has it.
    """
    r = draw.ranges
    shape = [-(-n * grid.step_mm // COARSE_MM) for n in grid.shape]
    middle = torch.tensor([-0.5, 7.0, -4.0] if grid.step_mm == 1 else [0.0, 0.0, 0.0], device=draw.device)
    axes = [(torch.arange(n, device=draw.device) - (n - 1) / 2) * COARSE_MM for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) - middle.view(3, 1, 1, 1)
    (cx, cy, cz), (sx, sy, sz) = (
        f(np.deg2rad([draw.uniform(*r.rotation_deg) for _ in "xyz"])) for f in (np.cos, np.sin)
    )
    rotation = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )
    affine = rotation @ np.diag([1 / draw.uniform(*r.scale) for _ in "xyz"])
    points = torch.einsum("ij,jxyz->ixyz", torch.as_tensor(affine, dtype=torch.float32, device=draw.device), points)
    points += draw.vector(*r.shift_mm).view(3, 1, 1, 1)
    amplitude, length = draw.uniform(*r.warp_mm), draw.uniform(*r.warp_length_mm) / COARSE_MM
    return points + amplitude * torch.stack([draw.field(shape, length) for _ in "xyz"])


@dataclass(frozen=True)
class Focus:
    """One tumour: an ellipsoid of mean ``radius_mm`` around ``centre_mm`` (from the middle of the grid), the stretch of
    its axes, how far the core pushes tissue away, and how much further than the core the edema reaches."""

    centre_mm: torch.Tensor
    radius_mm: float
    stretch: torch.Tensor
    push_mm: float
    edema_mm: float


def place_tumour(draw: _Draw, coords: torch.Tensor, low_grade: bool) -> list[Focus]:
    """Draw one or two foci whose centres lie in grey or white matter. Sizes in mm, see :class:`Ranges`."""
    r = draw.ranges
    gm, wm, depth = _sample_atlas(coords, COARSE_MM)
    candidates = ((gm + wm > 0.5) & (depth > 0)).nonzero()
    middle = torch.tensor([(n - 1) / 2 for n in gm.shape], device=draw.device)
    foci = []
    for first in (True, False)[: 1 + draw.chance(r.second_focus)]:
        radius = draw.uniform(*((r.radius_low_mm if low_grade else r.radius_high_mm) if first else r.radius_second_mm))
        edema = draw.uniform(*(r.edema_low_mm if low_grade else r.edema_high_mm)) * draw.chance(r.has_edema)
        foci.append(
            Focus(
                centre_mm=(candidates[draw.integer(len(candidates))] - middle) * COARSE_MM,
                radius_mm=radius,
                stretch=draw.vector(*r.stretch),
                push_mm=draw.uniform(*r.push) * radius * draw.chance(r.pushes),
                edema_mm=edema,
            )
        )
    return foci


def push_tissue(coords: torch.Tensor, foci: Sequence[Focus]) -> torch.Tensor:
    """Mass effect: move tissue away from each focus by a Gaussian of 1.6 radii.

    Args:
        coords: (3, x, y, z) atlas coordinates in mm on the coarse grid.

    Returns:
        The same, looking up the atlas nearer to each centre, and never beyond it.
    """
    shape = tuple(coords.shape[1:])
    frame = Frame(start=(0, 0, 0), shape=shape, whole=shape, step_mm=COARSE_MM)
    for focus in foci:
        offsets, distance = _distance_mm(focus, frame)
        pull = focus.push_mm * torch.exp(-((distance / (1.6 * focus.radius_mm)) ** 2)) / (distance + 1e-3)
        coords = coords - torch.stack([offset * pull.clamp(max=1) for offset in offsets])
    return coords


def strip_skull(draw: _Draw, coords: torch.Tensor, frame: Frame) -> torch.Tensor:
    """The (X, Y, Z) brain mask: the skull, which no tumour pushes, less a rim of uneven depth (see `strip_mm`)."""
    depth = _sample_atlas(_refine(coords, frame), frame.step_mm)[2]
    cut = draw.uniform(*draw.ranges.strip_mm)
    brain = depth > (cut + min(cut, 1) * draw.field(depth.shape, 15 / frame.step_mm)).clamp_(0.5)
    for axis, whole in zip(frame.axes_mm(coords.device), frame.whole, strict=True):
        brain &= axis.abs() < (whole - 2) / 2 * frame.step_mm  # background all around, even where a large head is cut
    return brain


def sample_tissue(draw: _Draw, coords: torch.Tensor, frame: Frame) -> torch.Tensor:
    """The deformed anatomy within the frame, from atlas coordinates on the whole coarse grid.

    Returns:
        (3, X, Y, Z) fractions of CSF, grey and white matter, which add to 1 also outside the brain (the scanner
        does not know where the skull will be stripped).
    """
    gm, wm, _ = _sample_atlas(_refine(coords, frame), frame.step_mm)
    csf = (1 - gm - wm).clamp_(0)
    tissue = torch.stack([csf, gm, wm]).clamp_(1e-4) ** draw.uniform(*draw.ranges.sharpness)
    return tissue / tissue.sum(0)


@dataclass(frozen=True)
class Head:
    """A deformed head: the box it stands in, its (X, Y, Z) brain mask and (3, X, Y, Z) fractions of CSF, GM and WM."""

    frame: Frame
    brain: torch.Tensor
    tissue: torch.Tensor


def grow_tumour(draw: _Draw, head: Head, foci: Sequence[Focus], low_grade: bool) -> torch.Tensor:
    """Grow the foci, larger and larger until the whole tumour has :data:`MIN_TUMOUR_ML`.

    Returns:
        (X, Y, Z) uint8: 1 core that does not enhance, 2 edema, 3 enhancing; all within the brain. The core
        (1 and 3) is never empty.
    """
    while True:
        label = torch.zeros_like(head.brain, dtype=torch.uint8)
        for focus in foci:
            label = _grow_focus(draw, head, focus, label, low_grade)
        label *= head.brain
        voxel_ml = head.frame.step_mm**3 / 1000
        if (label == 3).sum() * voxel_ml < MIN_ENHANCING_ML:
            label = torch.where(label == 3, 1, label)
        if (label > 0).sum() * voxel_ml >= MIN_TUMOUR_ML and ((label == 1) | (label == 3)).any():
            return label
        foci = [replace(focus, radius_mm=focus.radius_mm * 1.3) for focus in foci]


def contrast(draw: _Draw, low_grade: bool) -> dict[str, list[float]]:
    """Brightness of CSF, grey matter, white matter, core, edema and enhancing tumour in each sequence.

    The order of the healthy tissues is what defines a sequence (T1: CSF < GM < WM; T2: WM < GM < CSF; FLAIR: CSF < WM
    <= GM), and T1ce repeats T1 but for what enhances: tissue that takes up no agent looks alike in both. The core of a
    low-grade tumour is darker in T1 and brighter in T2 than the edema around it.
    """
    u = draw.uniform
    c1, g1 = u(0.1, 0.35), u(0.45, 0.7)
    w1 = g1 + u(0.08, 0.35)
    core, edema = (u(0.08, 0.3), u(-0.03, 0.12)) if low_grade else (u(0.02, 0.3), u(-0.05, 0.2))  # darker than GM in T1
    n1, e1 = g1 - core, g1 - edema
    # The agent, and a second scan, shift what does not enhance a little.
    c1c, g1c, w1c, n1c, e1c = (x + draw.normal(0.03) for x in (c1, g1, w1, n1, e1))
    w2 = u(0.25, 0.45)
    g2 = w2 + u(0.05, 0.25)
    wf = u(0.4, 0.6)
    gf = wf + u(0, 0.2)
    values = {
        "t1": [c1, g1, w1, n1, e1, g1 - u(-0.12, 0.2)],
        "t1ce": [c1c, g1c, w1c, n1c, e1c, max(g1c, w1c) + u(0.1, 0.9)],
        "t2": [g2 + u(0.2, 0.6), g2, w2, g2 + u(0.05, 0.6), g2 + u(0.1, 0.45), g2 + u(-0.05, 0.35)],
        "flair": [wf - u(0.15, 0.4), gf, wf, gf + u(-0.35, 0.45), gf + u(0.15, 0.6), gf + u(0, 0.5)],
    }
    if low_grade:
        values["t2"][3] = g2 + u(0.25, 0.7)
        values["flair"][3] = gf + u(-0.1, 0.5)
    return values


def acquire(
    draw: _Draw, head: Head, label: torch.Tensor, values: Mapping[str, Sequence[float]]
) -> dict[str, torch.Tensor]:
    """Scan the case in every sequence: mix the tissues, then distractors, texture, bias field, blur, noise and gamma.

    Args:
        label: (X, Y, Z) from :func:`grow_tumour`.
        values: sequence -> brightness of the six tissues, see :func:`contrast`.

    Returns:
        Sequence -> (X, Y, Z) float32 of whole numbers: at least 1 in the brain, 0 outside.
    """
    r, tissue, shape, step = draw.ranges, head.tissue, head.brain.shape, head.frame.step_mm
    tumour = torch.stack([label == i for i in (1, 2, 3)]).float()
    if draw.chance(r.faint):
        tumour = _blur(tumour, [0.8 / step] * 3) * draw.uniform(*r.opacity)
    opacity = tumour.sum(0)
    healthy = (label == 0) & head.brain
    vessels = healthy & (tissue[0] > 0.4) & (draw.fractal(shape, (8, 4), step) > draw.uniform(*r.vessel_level))
    spots = healthy & (tissue[2] > 0.6) & (draw.fractal(shape, (14, 7), step) > draw.uniform(*r.spot_level))
    extras = {"t1ce": vessels * draw.uniform(*r.vessel_gain)}
    extras["t2"] = extras["flair"] = spots * draw.uniform(*r.spot_gain)
    images = {}
    for name in MODALITIES:
        image = _mix(values[name][:3], tissue) * (1 - opacity) + _mix(values[name][3:], tumour)
        texture = draw.fractal(shape, (10, 5, 3), step) * draw.uniform(*r.texture)
        image += texture * (0.4 + opacity * draw.uniform(*r.tumour_texture))
        if name in extras:
            image += extras[name]
        images[name] = _scan(draw, image, head.brain, step)
    return images


def _scan(draw: _Draw, image: torch.Tensor, brain: torch.Tensor, step_mm: int) -> torch.Tensor:
    """Bias field (60 mm), blur with one axis of thick slices, noise, gamma, and the scanner's own units."""
    r = draw.ranges
    image = image * torch.exp(draw.uniform(*r.bias) * draw.field(image.shape, 60 / step_mm))
    if draw.chance(r.blurred):
        sigma_mm = [draw.uniform(*r.blur_mm) for _ in "xyz"]
        sigma_mm[draw.integer(3)] = draw.uniform(*r.blur_thick_mm)
        image = _blur(image, [sigma / step_mm for sigma in sigma_mm])
    image = image + draw.white(image.shape) * draw.uniform(*r.noise)
    image = image.clamp_(1e-3) ** draw.uniform(*r.gamma)
    mean = float(np.exp(draw.uniform(*np.log(r.brain_mean))))
    image = image * (mean * brain.sum() / (image * brain).sum())
    return image.round_().clamp_(1, np.iinfo(np.int16).max) * brain


def _grow_focus(draw: _Draw, head: Head, focus: Focus, label: torch.Tensor, low_grade: bool) -> torch.Tensor:
    """Paint one focus over label: edema where there is none yet, then the core, and what of the core enhances."""
    r, radius, shape, step = draw.ranges, focus.radius_mm, label.shape, head.frame.step_mm
    csf, _, wm = head.tissue
    _, distance = _distance_mm(focus, head.frame)
    edges = draw.fractal(shape, (30, 15, 8), step) * draw.uniform(*r.edema_roughness_mm)
    reach = radius + focus.edema_mm + r.edema_in_white_matter_mm * (wm - 0.5)
    edema = (distance + edges < reach) & (csf <= 0.7)
    depth = radius - distance - draw.fractal(shape, (30, 15, 8), step) * radius * draw.uniform(*r.roughness)
    core = depth > 0
    label = torch.where(edema & (label == 0), 2, label)
    if low_grade:
        label = torch.where(core, 1, label)
        if draw.chance(r.low_grade_enhances):
            spots = draw.fractal(shape, (10, 5), step) > r.low_grade_enhancement_level
            label = torch.where(core & spots, 3, label)
        return label
    label = torch.where(core, 3, label)
    if draw.chance(r.has_necrosis):
        patches = draw.fractal(shape, (14, 7), step) > draw.uniform(*r.necrosis_level)
        label = torch.where(core & patches & (depth > draw.uniform(*r.rim_mm)), 1, label)
    return label


class _Draw:
    """Everything random of one case: numbers from NumPy, the same on every device; noise from torch, on the device."""

    def __init__(self, seed: int, device: torch.device, ranges: Ranges) -> None:
        self.ranges = ranges
        self.device = device
        self._numbers = np.random.default_rng(seed)
        self._noise = torch.Generator(device).manual_seed(int(self._numbers.integers(2**62)))

    def uniform(self, low: float, high: float) -> float:
        return float(self._numbers.uniform(low, high))

    def normal(self, sigma: float) -> float:
        return float(self._numbers.normal(0, sigma))

    def chance(self, probability: float) -> bool:
        return bool(self._numbers.random() < probability)

    def integer(self, below: int) -> int:
        return int(self._numbers.integers(below))

    def vector(self, low: float, high: float) -> torch.Tensor:
        return torch.tensor(self._numbers.uniform(low, high, 3), dtype=torch.float32, device=self.device)

    def white(self, shape: Sequence[int]) -> torch.Tensor:
        """White noise of unit deviation."""
        return torch.randn(*shape, generator=self._noise, device=self.device)

    def field(self, shape: Sequence[int], length_voxels: float) -> torch.Tensor:
        """Smooth noise: unit normal values at nodes ``length_voxels`` apart, linear between them."""
        return _resize(self.white(_nodes(shape, length_voxels)), shape)

    def fractal(self, shape: Sequence[int], lengths_mm: Sequence[float], step_mm: int) -> torch.Tensor:
        """Noise of several lengths, coarse first, each 0.6 as strong as the one before; unit deviation together.

        Each scale is added on its own nodes, so that only the last is brought to full resolution.
        """
        layers = (self.white(_nodes(shape, length / step_mm)) * 0.6**i for i, length in enumerate(lengths_mm))
        total = next(layers)
        for layer in layers:
            total = _resize(total, layer.shape) + layer
        return _resize(total / total.std(), shape)


def _nodes(shape: Sequence[int], length_voxels: float) -> list[int]:
    return [round(n / max(length_voxels, 1)) + 2 for n in shape]


def _resize(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Bring (X, Y, Z) to another shape over the same extent, linearly, corner to corner."""
    return F.interpolate(volume[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _refine(coords: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Coordinates on the whole coarse grid -> on the frame's voxels."""
    fine = COARSE_MM // frame.step_mm
    box = tuple(slice(a // fine, (a + n) // fine) for a, n in zip(frame.start, frame.shape, strict=True))
    return F.interpolate(coords[:, *box][None], size=frame.shape, mode="trilinear", align_corners=False)[0]


def _sample_atlas(coords: torch.Tensor, step_mm: int) -> torch.Tensor:
    """Look up the atlas, averaged over blocks of ``step_mm``, at (3, X, Y, Z) coordinates in mm."""
    atlas = load_anatomy(step_mm, coords.device)
    half_mm = torch.tensor(atlas.shape[1:], dtype=torch.float32, device=coords.device) * step_mm / 2
    grid = (coords / half_mm.view(3, 1, 1, 1)).flip(0).permute(1, 2, 3, 0)  # grid_sample wants the last axis first
    return F.grid_sample(atlas[None], grid[None], padding_mode="border", align_corners=False)[0]


def _distance_mm(focus: Focus, frame: Frame) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Offsets from a focus's centre along each axis, and the distance, both measured in its stretched axes."""
    offsets = [axis - c for axis, c in zip(frame.axes_mm(focus.centre_mm.device), focus.centre_mm, strict=True)]
    return offsets, sum((o / s) ** 2 for o, s in zip(offsets, focus.stretch, strict=True)).sqrt()


def _brain_box(coords: torch.Tensor, step_mm: int) -> Frame:
    """The box around the brain, with a coarse voxel to spare."""
    inside = _sample_atlas(coords, COARSE_MM)[2] > 0
    found = inside.nonzero()
    start = (found.min(0).values - 1).clamp(min=0).tolist()
    stop = [min(n, hi + 2) for n, hi in zip(inside.shape, found.max(0).values.tolist(), strict=True)]
    fine = COARSE_MM // step_mm
    return Frame(
        start=tuple(lo * fine for lo in start),
        shape=tuple((hi - lo) * fine for lo, hi in zip(start, stop, strict=True)),
        whole=tuple(n * fine for n in inside.shape),
        step_mm=step_mm,
    )


def _mix(values: Sequence[float], fractions: torch.Tensor) -> torch.Tensor:
    return sum(value * fraction for value, fraction in zip(values, fractions, strict=True))


def _blur(volume: torch.Tensor, sigma_voxels: Sequence[float]) -> torch.Tensor:
    """Gaussian blur of the last three axes, by a product with a matrix each: on a CPU many times faster than conv3d."""
    for axis, sigma in enumerate(sigma_voxels, start=volume.ndim - 3):
        i = torch.arange(volume.shape[axis], device=volume.device)
        weights = torch.exp(-0.5 * ((i[:, None] - i) / max(sigma, 1e-3)) ** 2)
        volume = torch.tensordot(volume, weights / weights.sum(0), dims=([axis], [0])).movedim(-1, axis)
    return volume


def _paste(volume: torch.Tensor, frame: Frame, shape: Sequence[int]) -> np.ndarray:
    """Put the box back into zeros of the case's shape."""
    whole = torch.zeros(frame.whole, dtype=volume.dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(frame.start, frame.shape, strict=True))] = volume.cpu()
    return np.ascontiguousarray(whole[tuple(slice(n) for n in shape)].numpy())


def check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
