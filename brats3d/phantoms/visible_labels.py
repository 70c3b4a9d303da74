"""Labels that follow what shows: a tumour ends where a reader would stop seeing it.

Tumours fade into the brain, and enhancement may be lacking in places, while the tumour that was grown goes on. As in
SynthStroke (https://arxiv.org/abs/2404.01946), the label is a threshold on what is seen of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from brats3d.phantoms.random_numbers import RandomStream
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.tumour import CORE, EDEMA, ENHANCING, MIN_TUMOUR_ML, Tumour, drop_specks
from brats3d.phantoms.volume_ops import blur, bounding_box, volume_ml

_SEEN_MM = 1.5
"""Standard deviation of the blur before the threshold: a reader sees patches, not voxels."""

_OF_CLEAREST = 0.4
"""A tumour is always labelled where its contrast reaches this fraction of the highest tenth of its own."""


def measure_uptake(
    fractions: torch.Tensor, t1ce: Sequence[float], change: tuple[tuple[slice, ...], Mapping[str, torch.Tensor]]
) -> torch.Tensor:
    """Return how much brighter than the core contrast agent makes each voxel, (X, Y, Z).

    Args:
        fractions: (K, X, Y, Z) fractions of core, edema, enhancing and other tissues of the tumour.
        t1ce: brightness of each tissue in T1ce.
        change: what :func:`brats3d.phantoms.scan.vary_tumour` returned.
    """
    uptake = fractions[2] * (t1ce[ENHANCING + 2] - t1ce[CORE + 2])
    box, change_of = change
    if change_of:
        uptake[box] += change_of["t1ce"] - change_of["t1"]
    return uptake


def label_what_shows(
    rng: RandomStream,
    setting: Setting,
    tumour: Tumour,
    added: Mapping[str, torch.Tensor],
    uptake: torch.Tensor,
    voxel_mm: int,
) -> torch.Tensor:
    """Return the tissue of a tumour as a reader would label it.

    Edema and core end where their contrast falls below ``least_contrast`` in all sequences, a core that is mostly
    replaced by edema is edema, and enhancing tissue of less than ``least_uptake`` is core. A tumour of which less than
    :data:`~brats3d.phantoms.tumour.MIN_TUMOUR_ML` shows keeps its tissue.

    Args:
        added: sequence -> (X, Y, Z) what the tumour adds to the brightness of the healthy brain.
        uptake: (X, Y, Z), see :func:`measure_uptake`.

    Returns:
        (X, Y, Z) uint8, see :class:`brats3d.phantoms.tumour.Tumour`.
    """
    tissue = tumour.tissue
    if not any(setting.least_contrast) or not tissue.any():
        return tissue
    box = bounding_box(tissue > 0)
    label = tissue[box].clone()
    least = rng.uniform(*setting.least_contrast)
    enhancing = label == ENHANCING
    if enhancing.any():
        taken_up = uptake[box]
        weak = taken_up < max(least, rng.uniform(*setting.least_uptake) * _clearest(taken_up[enhancing]))
        label[enhancing & weak] = CORE
    if tumour.thinned is not None:
        replaced = tumour.thinned[box]
        label[(label == CORE) & (replaced * tumour.surrounding_edema > 1 - replaced)] = EDEMA
    contrast = _contrast(label > 0, [volume[box] for volume in added.values()], voxel_mm)
    label[contrast < min(least, _OF_CLEAREST * _clearest(contrast[label > 0]))] = 0
    shown = torch.zeros_like(tissue)
    shown[box] = label
    if volume_ml(shown > 0, voxel_mm) < MIN_TUMOUR_ML:
        return tissue
    return drop_specks(shown, voxel_mm)


def _contrast(inside: torch.Tensor, added: Sequence[torch.Tensor], voxel_mm: int) -> torch.Tensor:
    """Return the highest contrast of any sequence, averaged over neighbours within the tumour, (X, Y, Z)."""
    sigma = [_SEEN_MM / voxel_mm] * 3
    means = blur(torch.stack([volume * inside for volume in added]), sigma) / blur(inside.float(), sigma).clamp(1e-3)
    return means.abs().amax(0)


def _clearest(values: torch.Tensor) -> float:
    """Return the value that the highest tenth exceeds."""
    return float(values.kthvalue(max(1, round(0.9 * len(values)))).values)
