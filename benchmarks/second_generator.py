"""A second generator of brain tumour cases, which judges weights that were trained on the first one.

    python benchmarks/second_generator.py DIR [--cases 24] [--seed 0]

Only the atlas is shared with ``brats3d.phantoms``; everything is made in another way, so that weights cannot gain here
by fitting the first generator. A head is the atlas after a diffeomorphic warp (scaling and squaring of a velocity
field), with a cortex folded along the zero level of a random field. A tumour grows by reaction and diffusion
(Fisher-Kolmogorov: Swanson et al., Cell Prolif. 33 (2000), 317-329), its edema is fluid that diffuses along white
matter, and necrosis is where much of the tumour lies within the reach of oxygen. Brightness follows from relaxation
times by the signal equations of spin echo, MPRAGE, fast spin echo and FLAIR, with K-means clusters of the atlas that
differ a little, as in SynthSeg (Billot et al., Medical Image Analysis 86 (2023), 102789).

Cases have voxels of 1 mm, cropped to the brain, in LPS order. Files are written in BraTS 2020's layout.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.cluster.vq import kmeans2, vq

from brats3d.labels import MODALITIES
from brats3d.phantoms.atlas import load_atlas

COARSE = 3
"""Millimetres between the grid points on which warps and tumours are computed."""
STEP = 0.16
"""Diffusion in one step, in squared voxels; above 1/6 the computation is unstable."""
CLUSTERS = 24
TISSUES = {  # T1 and T2 in ms at 1.5 to 3 T, and proton density relative to water
    "wm": (820, 74, 0.70),
    "gm": (1350, 95, 0.82),
    "csf": (4200, 1500, 1.0),
    "edema": (1550, 150, 0.86),
    "core": (1750, 160, 0.88),
    "enhancing": (1500, 120, 0.86),
    "fluid": (2700, 420, 0.95),
    "scalp": (700, 60, 0.75),
}


Growth = tuple[torch.Tensor, torch.Tensor, dict[str, float]]
"""Cell density and log of the fluid, both (x, y, z) on the coarse grid, and the sizes of :func:`_draw_sizes`."""


@dataclass(frozen=True)
class Tumour:
    """A tumour: int8 labels (X, Y, Z) of BraTS 2020, and how visible edema, core, ET and necrosis are, 0 to 1."""

    label: torch.Tensor
    alpha: dict[str, torch.Tensor]
    low_grade: bool


class Draw:
    """The random numbers of one case."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float = 0, high: float = 1) -> float:
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator)

    def field(self, shape: tuple[int, ...], length: float) -> torch.Tensor:
        """Return smooth noise (X, Y, Z) of mean 0 and deviation 1 that varies over ``length`` voxels."""
        sizes = [math.ceil(n / length) + 1 for n in shape]
        noise = F.interpolate(self.normal(1, 1, *sizes), size=[2 * n - 1 for n in sizes], mode="trilinear")
        noise = F.avg_pool3d(F.pad(noise, [1] * 6, mode="replicate"), 3, 1)
        noise = F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0, 0]
        return (noise - noise.mean()) / noise.std()


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, int16 (4, X, Y, Z), and its label, uint8 (X, Y, Z) with BraTS 2020's values."""
    draw = Draw(seed)
    coarse = _warp(draw)
    box = _brain_box(_look_up(_maps()[0], coarse)[2])
    coarse = coarse[(slice(None), *box)]
    shape = tuple(COARSE * (part.stop - part.start) for part in box)
    healthy = _look_up(_maps()[0], coarse)
    growth = _grow(draw, healthy, coarse)
    coords = _finer(coarse + _mass_effect(draw, coarse, growth[0]), shape)
    gm, wm, depth = _look_up(_maps()[0], coords)
    fold = draw.field(shape, draw.uniform(8, 11))
    csf, gm, wm, from_fold = _tissues(draw, gm, wm, depth, coords, fold)
    brain, scalp = _strip(draw, depth)
    tumour = _label(draw, growth, csf, brain)
    image = _scan(draw, (csf, gm, wm), coords, depth, tumour, scalp, from_fold)
    image = image.mul_(brain)
    crop = ndimage.find_objects(brain.numpy().astype(np.uint8))[0]
    label = tumour.label * brain
    return image[(slice(None), *crop)].round().to(torch.int16).numpy(), label[crop].to(torch.uint8).numpy()


def write_case(folder: Path, seed: int) -> None:
    """Write a case's five files into its folder."""
    image, label = make_case(seed)
    folder.mkdir(parents=True)
    for name, values in zip((*MODALITIES, "seg"), (*image, label), strict=True):
        nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), folder / f"{folder.name}_{name}.nii.gz")


# --- head ---


@lru_cache(maxsize=1)
def _maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Return GM, WM and signed depth in mm, (3, X, Y, Z); and K-means clusters on the coarse grid, (x, y, z)."""
    gm, wm, depth = load_atlas(1, torch.device("cpu")).numpy()
    inside = depth > 0
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    position = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in gm.shape), indexing="ij"))
    features = np.stack([gm, wm, depth / 40, *position], -1).astype(np.float32)
    centres, _ = kmeans2(features[inside][::97], CLUSTERS, minit="++", seed=0)
    middles = (slice(COARSE // 2, n // COARSE * COARSE, COARSE) for n in gm.shape)
    coarse = features[tuple(middles)]
    clusters = vq(coarse.reshape(-1, coarse.shape[-1]), centres)[0].reshape(coarse.shape[:3])
    return torch.from_numpy(np.stack([gm, wm, depth]).astype(np.float32)), torch.from_numpy(clusters).long()


def _points(shape: tuple[int, ...], voxel_mm: float) -> torch.Tensor:
    """Return coordinates (3, X, Y, Z) in mm from the middle."""
    axes = [(torch.arange(n) - (n - 1) / 2) * voxel_mm for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _look_up(maps: torch.Tensor, coords: torch.Tensor, voxel_mm: float = 1) -> torch.Tensor:
    """Sample maps (C, X, Y, Z) at coordinates in mm from their middle."""
    half = torch.tensor(maps.shape[1:]).view(3, 1, 1, 1) * voxel_mm / 2
    grid = (coords / half).flip(0).permute(1, 2, 3, 0)[None]
    return F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]


def _finer(maps: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return F.interpolate(maps[None], size=shape, mode="trilinear")[0]


def _warp(draw: Draw) -> torch.Tensor:
    """Return atlas coordinates (3, x, y, z) in mm on the coarse grid: an affine map after a diffeomorphism."""
    shape = tuple(n // COARSE for n in (174, 210, 180))
    here = _points(shape, COARSE)
    velocity = torch.zeros(3, *shape)
    for mm in (54, 24, 12):
        velocity += torch.stack([draw.field(shape, mm / COARSE) for _ in range(3)]) * draw.uniform(0.03, 0.1) * mm
    shift = velocity / 2**6
    for _ in range(6):
        shift = shift + _look_up(shift, here + shift, COARSE)
    turn = draw.normal(3, 3) * 0.06
    matrix = torch.linalg.matrix_exp(turn - turn.T) @ torch.diag(1 / (0.92 + 0.04 * draw.normal(3)))
    return torch.einsum("ij,jxyz->ixyz", matrix, here + shift)


def _brain_box(depth: torch.Tensor) -> tuple[slice, ...]:
    """Return the box of the brain on the coarse grid, with room for what skull-stripping leaves."""
    return ndimage.find_objects((depth.numpy() > -6).astype(np.uint8))[0]


def _tissues(
    draw: Draw, gm: torch.Tensor, wm: torch.Tensor, depth: torch.Tensor, coords: torch.Tensor, fold: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return fractions of CSF, GM and WM, and the distance in mm from the nearest sulcus."""
    noise = draw.field(tuple(gm.shape), 5) * 0.35
    scores = torch.stack([1 - gm - wm, gm, wm]).clamp_(min=0.02).log_().mul_(draw.uniform(1.5, 3))
    scores[0] += draw.uniform(-0.5, 0.8)
    scores[1] += noise
    atlas = scores.softmax(0)
    slope = torch.stack(torch.gradient(fold)).norm(dim=0).clamp_(min=0.02)
    from_fold = fold.abs() / slope
    hindbrain = torch.sigmoid((-coords[2] - 22) / 2) * torch.sigmoid((coords[1] - 18) / 2)
    cortical = torch.sigmoid((draw.uniform(12, 18) - depth) / 2) * (1 - hindbrain) * draw.uniform(0.6, 0.95)
    gap, ribbon = draw.uniform(0.2, 1.3), draw.uniform(2.4, 3.4)
    folded = torch.minimum(from_fold - gap, depth - 0.7 * gap)
    fluid = torch.sigmoid(-folded / 0.35)
    grey = torch.sigmoid((ribbon - folded) / 0.4) * (1 - fluid)
    folded = torch.stack([fluid, grey, 1 - fluid - grey])
    csf, gm, wm = torch.lerp(atlas, folded, cortical)
    return csf, gm, wm, from_fold


def _strip(draw: Draw, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the brain mask of an imperfect skull-stripping, and the fraction of scalp that it leaves, (X, Y, Z)."""
    shape = tuple(depth.shape)
    cut = draw.uniform(-0.5, 1.5) + 0.6 * draw.field(shape, 12)
    if draw.chance(0.25):
        cut += draw.uniform(3, 8) * torch.sigmoid((draw.field(shape, 22) - 1.8) / 0.1)
    if draw.chance(0.25):
        cut -= draw.uniform(2, 5) * torch.sigmoid((draw.field(shape, 16) - 1.4) / 0.1)
    numbers, _ = ndimage.label((depth > cut).numpy())
    largest = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    return torch.from_numpy(largest), torch.sigmoid((-0.5 - depth) / 0.4)


# --- tumour ---


def _grow(
    draw: Draw, healthy: torch.Tensor, coords: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Grow a tumour on the coarse grid; return cell density and log of the fluid, (x, y, z), and its volumes in ml."""
    gm, wm, depth = healthy
    shape = tuple(gm.shape)
    sizes = _draw_sizes(draw)
    solid = ((gm + wm) > 0.5) & (depth > 0)
    medium = torch.where(solid, wm + draw.uniform(0.1, 0.4) * gm, torch.zeros(())).clamp_(0, 1)
    medium = medium * (draw.uniform(0.3, 0.9) * draw.field(shape, 4)).exp().clamp_(max=2) / 2
    rate = draw.uniform(0.04, 0.2) * (draw.uniform(0.2, 0.8) * draw.field(shape, 5)).exp().clamp_(max=3)
    cells = torch.zeros(shape)
    birth = [0.0] + [draw.uniform(0.2, 0.9) for _ in range(int(sizes["foci"]) - 1)]
    place = wm * (depth > 7) * ((coords[2] > -18) | (coords[1] < 15)) * (coords[2] > -40)
    for _ in range(600):
        grown = float((cells > 0.5).sum()) * COARSE**3 / 1000 / sizes["core"]
        if grown >= 1:
            break
        while birth and birth[0] <= grown:
            near = 1.0 if not cells.any() else (cells + 0.02 * torch.exp(-_squared_mm(coords, cells) / 45**2))
            weight = (place.square() * near * (cells < 0.1)).flatten().double()
            start = np.unravel_index(int(torch.multinomial(weight, 1, generator=draw._generator)), shape)
            cells[tuple(slice(max(0, i - 1), i + 1) for i in start)] = 1
            birth.pop(0)
        cells += STEP * _flow(cells, medium) + rate * cells * (1 - cells) * solid
    fluid = _spread(draw, cells, torch.where(solid, wm + draw.uniform(0.01, 0.12) * gm, torch.zeros(())))
    return cells, fluid, sizes


def _draw_sizes(draw: Draw) -> dict[str, float]:
    """Draw the volumes in ml of the whole tumour, its core, necrosis and enhancing tissue, and the number of foci."""
    low_grade = draw.chance(0.2)
    whole = min(200, max(5, 80 * math.exp(0.7 * float(draw.normal(1)))))
    share = draw.uniform(0.4, 0.97) if low_grade else min(0.85, max(0.03, 0.32 * math.exp(0.7 * float(draw.normal(1)))))
    core = max(0.4, whole * share)
    if low_grade:
        necrosis, enhancing = draw.uniform(0, 0.3) * draw.chance(0.2), draw.uniform(0.01, 0.12) * draw.chance(0.3)
    else:
        necrosis = 0.75 * draw.uniform() ** 2
        enhancing = (1 - necrosis) * draw.uniform(0.5, 1)
    foci = 1 + draw.chance(0.15) + draw.chance(0.07)
    return {"low": low_grade, "whole": whole, "core": core, "necrosis": necrosis, "et": enhancing, "foci": foci}


def _squared_mm(coords: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    middle = (coords * cells).sum((1, 2, 3), keepdim=True) / cells.sum()
    return (coords - middle).square().sum(0)


def _flow(amount: torch.Tensor, medium: torch.Tensor) -> torch.Tensor:
    """Return the divergence of the diffusive flow; a face between two voxels conducts like the worse of them."""
    change = torch.zeros_like(amount)
    for axis, n in enumerate(amount.shape):
        low, high = (tuple(x) for x in (medium.narrow(axis, 0, n - 1)[None], medium.narrow(axis, 1, n - 1)[None]))
        flow = torch.minimum(low[0], high[0]) * amount.diff(dim=axis)
        change.narrow(axis, 0, n - 1).add_(flow)
        change.narrow(axis, 1, n - 1).sub_(flow)
    return change


def _spread(draw: Draw, cells: torch.Tensor, medium: torch.Tensor) -> torch.Tensor:
    """Let fluid leak from the tumour, flow along the medium and be absorbed; return its log."""
    medium = medium * (0.5 * draw.field(tuple(cells.shape), 5)).exp().clamp_(max=2) / 2
    absorbed = draw.uniform(0.0005, 0.005)
    fluid = cells.clone()
    for _ in range(250):
        fluid = torch.maximum(fluid + STEP * _flow(fluid, medium) - absorbed * fluid, cells)
    return fluid.clamp_(min=1e-6).log_()


def _mass_effect(draw: Draw, coords: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return the shift (3, x, y, z) in mm of the tissue around the tumour, as a difference of atlas coordinates."""
    pressure = torch.from_numpy(ndimage.gaussian_filter(cells.numpy(), draw.uniform(2, 5)))
    slope = torch.stack(torch.gradient(pressure))
    radius = (float(cells.sum()) * COARSE**3 * 0.24) ** (1 / 3)
    return slope / slope.norm(dim=0).max().clamp(min=1e-6) * draw.uniform(0, 0.35) * radius


def _label(draw: Draw, growth: Growth, csf: torch.Tensor, brain: torch.Tensor) -> Tumour:
    """Cut the regions out of a grown tumour at the volumes that were drawn."""
    cells, fluid, sizes = growth
    shape = tuple(csf.shape)
    cells, fluid = _finer(torch.stack([cells, fluid]), shape)
    cells = cells + draw.uniform(0.03, 0.15) * draw.field(shape, 4) * (cells > 0.02)
    allowed = brain & (csf < 0.6)
    core, core_level = _top(cells, brain & ((csf < 0.8) | (cells > 0.5)), sizes["core"])
    fluid = fluid + draw.uniform(0.1, 0.4) * draw.field(shape, 5)
    whole, fluid_level = _top(torch.where(core, 1e3, fluid), allowed | core, sizes["whole"])
    reach = torch.from_numpy(ndimage.gaussian_filter(core.numpy().astype(np.float32), draw.uniform(2, 5), truncate=2.5))
    reach += draw.uniform(0.02, 0.2) * draw.field(shape, 5)
    ml = float(core.sum()) / 1000
    necrosis, _ = _top(reach, core, ml * sizes["necrosis"])
    leaky = draw.field(shape, draw.uniform(5, 12)) - draw.uniform(0, 3) * reach
    enhancing, _ = _top(leaky, core & ~necrosis, ml * sizes["et"])
    label = whole * 2 - core.int()
    label[enhancing] = 4
    soft = draw.uniform(0.4, 1)
    alpha = {name: _soften(mask, soft) for name, mask in {"necrosis": necrosis, "enhancing": enhancing}.items()}
    width = draw.uniform(0.15, 0.6) if draw.chance(0.6) else draw.uniform(0.6, 1.2)
    alpha["edema"] = torch.maximum(torch.sigmoid((fluid - fluid_level) / width) * allowed, _soften(core, soft))
    edge = draw.uniform(0.03, 0.12) if sizes["low"] else draw.uniform(0.02, 0.06)
    alpha["core"] = torch.sigmoid((cells - core_level) / edge)
    return Tumour(label, alpha, bool(sizes["low"]))


def _top(values: torch.Tensor, allowed: torch.Tensor, ml: float) -> tuple[torch.Tensor, float]:
    """Return the mask of the highest allowed values, of a volume in ml, and the lowest of these values."""
    inside = values[allowed]
    count = min(round(1000 * ml), len(inside) - 1)
    if count < 1:
        return torch.zeros_like(allowed), math.inf
    level = float(inside.kthvalue(len(inside) - count).values)
    return allowed & (values > level), level


def _soften(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(mask.numpy().astype(np.float32), sigma, truncate=3))


# --- scanner ---


def _scan(
    draw: Draw,
    tissues: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    coords: torch.Tensor,
    depth: torch.Tensor,
    tumour: Tumour,
    scalp: torch.Tensor,
    from_fold: torch.Tensor,
) -> torch.Tensor:
    """Return T1, T1ce, T2 and FLAIR, float32 (4, X, Y, Z), above 0 everywhere."""
    fluid = tissues[0] * (1 - tumour.alpha["core"].clamp(max=1))
    logs = _relaxation(draw, tissues, coords, depth, tumour, scalp)
    agent = _contrast_agent(draw, coords, depth, tumour, from_fold)
    water = torch.tensor(TISSUES["csf"])
    images = []
    for name, protocol in _protocols(draw).items():
        t1, t2, density = logs[0].exp(), logs[1].exp(), logs[2].exp()
        if name == "t1ce":
            t1, t2 = 1 / (1 / t1 + 4.5e-3 * agent), 1 / (1 / t2 + 5e-3 * agent)
        signal = torch.lerp(_signal(t1, t2, density, *protocol), _signal(*water, *protocol), fluid)
        images.append(_acquire(draw, signal, depth > 0))
    return torch.stack(images)


def _protocols(draw: Draw) -> dict[str, tuple[float, float, float]]:
    """Draw repetition, echo and inversion time in ms for each sequence; an inversion time of 0 means none."""

    def t1_weighted() -> tuple[float, float, float]:
        if draw.chance(0.5):
            return draw.uniform(1600, 2300), draw.uniform(2, 5), draw.uniform(800, 1050)
        return draw.uniform(400, 750), draw.uniform(8, 18), 0

    t1 = t1_weighted()
    repetition, csf = draw.uniform(7000, 11000), TISSUES["csf"][0]
    null = csf * math.log(2 / (1 + math.exp(-repetition / csf)))
    return {
        "t1": t1,
        "t1ce": t1_weighted() if draw.chance(0.35) else t1,
        "t2": (draw.uniform(2800, 6000), draw.uniform(80, 125), 0),
        "flair": (repetition, draw.uniform(90, 145), null * draw.uniform(0.93, 1.03)),
    }


def _signal(
    t1: torch.Tensor, t2: torch.Tensor, density: torch.Tensor, repetition: float, echo: float, inversion: float
) -> torch.Tensor:
    """Return the magnitude of the signal of a spin echo, or of an inversion recovery."""
    recovered = (-repetition / t1).exp()
    recovered = 1 - recovered if not inversion else (1 - 2 * (-inversion / t1).exp() + recovered).abs()
    return density * recovered * (-echo / t2).exp()


def _relaxation(
    draw: Draw,
    tissues: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    coords: torch.Tensor,
    depth: torch.Tensor,
    tumour: Tumour,
    scalp: torch.Tensor,
) -> torch.Tensor:
    """Return log T1, log T2 and log density of all tissue but CSF, (3, X, Y, Z)."""
    csf, gm, wm = tissues
    shape = tuple(csf.shape)

    def own(name: str, spread: float) -> torch.Tensor:
        mean = torch.tensor(TISSUES[name]).log()
        return (mean + draw.normal(3) * torch.tensor([0.7 * spread, spread, 0.03])).view(3, 1, 1, 1)

    white, grey = own("wm", 0.06), own("gm", 0.06)
    offsets = (draw.normal(CLUSTERS, 3) * torch.tensor([0.05, 0.05, 0.01]))[_maps()[1]].movedim(-1, 0)
    offsets = F.avg_pool3d(F.pad(offsets[None], [1] * 6, mode="replicate"), 3, 1)[0]
    logs = white + (grey - white) * (gm / (gm + wm).clamp(min=0.05)).clamp(0, 1)
    logs += _look_up(offsets, coords, COARSE)
    texture = draw.field(shape, 2.2)
    logs[:2] += draw.uniform(0.005, 0.03) * texture
    spots = torch.sigmoid((draw.field(shape, 6) + torch.sigmoid((depth - 22) / 4) - draw.uniform(2.2, 3.5)) / 0.15)
    edema, uneven = own("edema", 0.15), draw.field(shape, 9)
    logs = torch.lerp(logs, edema, spots * (wm > 0.5) * draw.uniform(0, 0.8))
    wet = tumour.alpha["edema"] * (draw.uniform(0.7, 1) + draw.uniform(0, 0.15) * uneven).clamp(0, 1)
    logs = torch.lerp(logs, edema, wet * (0.35 + 0.65 * (wm / (gm + wm).clamp(min=0.05)).clamp(0, 1)))
    core = own("core", 0.15) + draw.uniform(0, 0.15) * draw.field(shape, 7)
    logs = torch.lerp(logs, core, tumour.alpha["core"] * draw.uniform(0.75, 1))
    dead = own("fluid", 0.25) + draw.uniform(0, 0.25) * draw.field(shape, 6)
    if draw.chance(0.12):  # blood
        dead[0] -= 1.5 * torch.sigmoid((draw.field(shape, 5) - 0.8) / 0.2)
    logs = torch.lerp(logs, own("enhancing", 0.12) + 0.05 * uneven, tumour.alpha["enhancing"])
    logs = torch.lerp(logs, dead, tumour.alpha["necrosis"])
    rest = own("scalp", 0.3) + 0.3 * draw.field(shape, 5)
    logs = torch.lerp(logs, rest, scalp)
    spread = tumour.alpha["core"].clamp(0, 1)
    logs[:2] += draw.uniform(0, 0.06) * texture * spread
    return logs


def _contrast_agent(
    draw: Draw, coords: torch.Tensor, depth: torch.Tensor, tumour: Tumour, from_fold: torch.Tensor
) -> torch.Tensor:
    """Return the contrast agent in mmol/l (X, Y, Z): in enhancing tissue, vessels, dura and the sagittal sinus."""
    shape = tuple(depth.shape)
    other = draw.field(shape, 16)
    slope = torch.stack(torch.gradient(other)).norm(dim=0).clamp_(min=0.02)
    apart = (from_fold.square() + (other / slope).square()).sqrt()
    vessels = torch.sigmoid((draw.uniform(0.6, 1.3) - apart) / 0.3) * (depth < 28)
    dura = torch.sigmoid((1.5 - depth) / 0.4) * torch.sigmoid((draw.field(shape, 18) - draw.uniform(0.3, 2)) / 0.2)
    sinus = torch.sigmoid((3.5 - coords[0].abs()) / 0.5) * torch.sigmoid((5 - depth) / 0.7) * (coords[2] > 8)
    blood = draw.uniform(0.05, 0.5)
    uptake = math.exp(draw.uniform(math.log(0.06), math.log(0.4)))
    uneven = (1 + draw.uniform(0, 0.35) * draw.field(shape, 4)).clamp(0.2, 2)
    return uptake * uneven * tumour.alpha["enhancing"] + blood * torch.maximum(vessels, torch.maximum(dura, sinus))


def _acquire(draw: Draw, signal: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Shift, blur, slice and weight a sequence as a scanner does, add noise, and scale it to a scanner's units."""
    shape = tuple(signal.shape)
    if draw.chance(0.6):
        turn = draw.normal(3, 3) * 0.004
        matrix = torch.cat([torch.eye(3) + turn - turn.T, draw.normal(3, 1) * 0.006], 1)
        grid = F.affine_grid(matrix[None], [1, 1, *shape], align_corners=False)
        signal = F.grid_sample(signal[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    if draw.chance(0.5):  # thick slices, most of them axial
        axis, mm = 2 if draw.chance(0.7) else int(draw.uniform(0, 2)), draw.uniform(2, 6)
        sliced = list(shape)
        sliced[axis] = max(2, round(shape[axis] / mm))
        signal = F.interpolate(signal[None, None], size=sliced, mode="area")[0, 0]
    signal = signal * _bias(draw, tuple(signal.shape)) / signal.mean()
    sd = math.exp(draw.uniform(math.log(0.006), math.log(0.06)))
    signal = ((signal + sd * draw.normal(*signal.shape)).square() + (sd * draw.normal(*signal.shape)).square()).sqrt()
    if signal.shape != shape:
        signal = F.interpolate(signal[None, None], size=shape, mode="trilinear")[0, 0]
    else:
        signal = _soften(signal, draw.uniform(0.3, 0.7))
    level = math.exp(draw.uniform(math.log(120), math.log(1500)))
    return (signal * level / signal[brain].mean()).clamp_(1, 32000)


def _bias(draw: Draw, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a smooth gain around 1: the exponential of a polynomial of degree 3."""
    x, y, z = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    strength = draw.uniform(0, 0.12)
    a, b, c, d, e, f, g = (draw.normal(7) * strength).tolist()
    return (a * x + b * y + c * z + d * x * y + e * y * z + f * (x * x - z * z) + g * y**3).exp()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the others follow")
    options = parser.parse_args()
    for number in range(1, options.cases + 1):
        write_case(options.folder / f"BraTS20_Training_{number:03d}", options.seed + number - 1)


if __name__ == "__main__":
    main()
