"""Distractors: bright structures that are not tumour and are never labelled.

They teach a network not to segment vessels, dura, choroid plexus, white-matter lesions and moving fluid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from brats3d.phantoms.atlas import MM_INSIDE, VENTRICLES, sample_landmarks, to_mni
from brats3d.phantoms.head import Head, refine
from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting


def draw_distractors(
    rng: RandomStream, setting: Setting, head: Head, healthy: torch.Tensor
) -> dict[str, list[torch.Tensor]]:
    """Draw vessels, white-matter spots, dura, choroid plexus, caps of the ventricles and moving CSF.

    Args:
        healthy: (X, Y, Z) bool, where there is no tumour.

    Returns:
        Sequence -> volumes (X, Y, Z) to add to it.
    """
    voxel_mm = head.box.voxel_mm
    csf, gm, wm = head.tissue
    shape = csf.shape
    healthy = healthy & head.brain
    noise = rng.fractal_noise(shape, (8, 4), voxel_mm)
    vessels = healthy & (csf > 0.4) & (noise > rng.uniform(*setting.vessel_level))
    noise = rng.fractal_noise(shape, (14, 7), voxel_mm)
    spots = healthy & (wm > 0.6) & (noise > rng.uniform(*setting.spot_level))
    agent = [vessels * rng.uniform(*setting.vessel_gain)]
    bright = [spots * rng.uniform(*setting.spot_gain)]
    added = {"t1ce": agent, "t2": list(bright), "flair": list(bright)}
    rng = rng.substream("distractors")
    if any(setting.tube_gain):
        added["t1ce"].append(_tubes(rng, shape, voxel_mm) * (healthy * rng.uniform(*setting.tube_gain)))
    if any((*setting.dura_gain, *setting.plexus_gain, *setting.cap_gain, *setting.flow_gain)):
        near, depth = (refine(sample_landmarks(head.coords, part), head.box)[0] for part in (VENTRICLES, MM_INSIDE))
        x, y, z = refine(to_mni(head.coords), head.box)
        midline = x.abs() < rng.uniform(1, 4)
        patches = rng.fractal_noise(shape, (40, 12), voxel_mm)
        dura = (depth < rng.uniform(1, 4)) & (patches > rng.uniform(-1, 1.5))
        vault = (z > 5) | (y < -75)  # without the base of the skull
        sinus = midline & vault & (depth < rng.uniform(3, 9)) & (csf + gm > 0.6)
        added["t1ce"].append((healthy & dura) * rng.uniform(*setting.dura_gain))
        added["t1ce"].append((healthy & sinus) * rng.uniform(*setting.dura_gain))
        fine = rng.fractal_noise(shape, (8, 4), voxel_mm)
        plexus = healthy & (near > 0.35) & (csf > 0.5) & (fine > rng.uniform(0, 1.5))
        plexus = plexus * rng.uniform(*setting.plexus_gain)
        added["t1ce"].append(plexus)
        added["flair"].append(plexus * rng.uniform(0, 0.5))
        caps = ((near - rng.uniform(0.1, 0.5)) * 4 + patches * 0.4).clamp_(0, 1) * (wm * healthy)
        caps *= (near * 5).clamp_(max=1)
        caps *= rng.uniform(*setting.cap_gain)
        added["flair"].append(caps)
        added["t2"].append(caps * rng.uniform(0.3, 1))
        added["t1"] = [caps * -rng.uniform(0, 0.4)]
        flow = (healthy & (csf > 0.5)) * (-0.5 - fine).clamp_(0, 1) * rng.uniform(*setting.flow_gain)
        added["flair"].append(flow)
        added["t2"].append(flow * -rng.uniform(0, 1))
    return added


def _tubes(rng: RandomStream, shape: Sequence[int], voxel_mm: int) -> torch.Tensor:
    """Draw vessels 1 to 3 mm wide, from 0 to 1: the lines along which two smooth noises are both 0."""
    length, width = rng.uniform(16, 30), rng.uniform(0.05, 0.14)
    a, b = (rng.fractal_noise(shape, (length, length / 2), voxel_mm) for _ in range(2))
    return (1.5 - (a * a + b * b) / width**2).clamp_(0, 1)
