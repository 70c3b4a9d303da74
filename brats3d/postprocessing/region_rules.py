"""Post-processing of regions: remove small components and fill small holes.

A network leaves specks and pinholes that hardly change Dice, but each speck is a false positive of lesion-wise scores.
Winners of BraTS remove them, and turn an enhancing tumour below a volume into core (F. Isensee et al., nnU-Net for
Brain Tumor Segmentation, https://arxiv.org/abs/2011.00848).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy import ndimage

from brats3d.errors import UsageError
from brats3d.evaluation import box_with_margin
from brats3d.labels import REGIONS


@dataclass(frozen=True)
class RegionRules:
    """Volumes below which a component, a region or a hole is an error, in ml; 0 turns a rule off.

    A region that has only small components is kept if they add up to the volume, as in scattered enhancement.
    ``min_et_total_ml`` is nnU-Net's rule for BraTS: a tumour without enhancement has Dice 0 for a single voxel of ET.

    Args:
        min_wt_ml: smaller components of WT become background, and the TC and ET in them.
        min_tc_ml: smaller components of TC become edema, and the ET in them.
        min_et_ml: smaller components of ET become core.
        min_et_total_ml: all ET of a case becomes core if it has a smaller volume in total.
        max_hole_ml: holes of WT and TC up to this volume are filled.

    Raises:
        UsageError: if a value is not a number from 0.
    """

    min_wt_ml: float = 0
    min_tc_ml: float = 0
    min_et_ml: float = 0
    min_et_total_ml: float = 0
    max_hole_ml: float = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UsageError(name, expected="a number from 0, in ml", found=value)


def apply_region_rules(regions: NdarrayTensor, rules: RegionRules, voxel_ml: float = 0.001) -> NdarrayTensor:
    """Post-process the regions of a case.

    Components are connected by faces, edges or corners, as in lesion-wise scores. Background that reaches the edge of
    the volume through faces is no hole.

    Args:
        regions: bool or {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        rules: the volumes.
        voxel_ml: volume of a voxel; default: 1 mm³.

    Returns:
        The regions as an array or tensor of the same type, and nested: TC within WT, and ET within TC.

    Raises:
        ValueError: if ``regions`` does not have three channels.
    """
    if regions.shape[0] != len(REGIONS):
        raise ValueError(f"regions: expected {len(REGIONS)} channels {REGIONS}, got shape {tuple(regions.shape)}")
    masks = convert_to_numpy(regions) > 0
    tc, wt, et = (masks[REGIONS.index(region)] for region in ("TC", "WT", "ET"))
    tc |= et
    wt |= tc
    _remove_small(wt, rules.min_wt_ml / voxel_ml)
    tc &= wt
    _remove_small(tc, rules.min_tc_ml / voxel_ml)
    et &= tc
    _remove_small(et, rules.min_et_ml / voxel_ml)
    if et.sum() < rules.min_et_total_ml / voxel_ml:
        et[:] = False
    for mask in (wt, tc):
        _fill_small(mask, rules.max_hole_ml / voxel_ml)
    return convert_to_dst_type(masks, regions, dtype=bool)[0]


class ApplyRegionRulesd(MapTransform):
    """Dictionary form of :func:`apply_region_rules`; a ``MetaTensor`` states its voxel size.

    Args:
        keys: keys of the regions.
        rules: the volumes.
        allow_missing_keys: skip missing keys.
    """

    def __init__(self, keys: KeysCollection, rules: RegionRules, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rules = rules

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            voxel_ml = {"voxel_ml": float(out[key].pixdim.prod()) / 1000} if isinstance(out[key], MetaTensor) else {}
            out[key] = apply_region_rules(out[key], self.rules, **voxel_ml)
        return out


def _remove_small(mask: np.ndarray, least: float) -> None:
    """Remove components of fewer than ``least`` voxels, unless there are only such and they add up to it."""
    if least <= 1:
        return
    mask = mask[box_with_margin(mask, margin=0)]
    components, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(components[mask], minlength=count + 1)
    large = sizes >= least
    if not large.all(where=sizes > 0) and (large.any() or sizes.sum() < least):
        mask &= large[components]


def _fill_small(mask: np.ndarray, most: float) -> None:
    """Fill holes of at most ``most`` voxels."""
    if most < 1:
        return
    mask = mask[box_with_margin(mask, margin=0)]
    components, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    sizes = np.bincount(components.ravel())
    small = sizes <= most
    small[[0, components[0, 0, 0]]] = False  # the region itself, and what is outside it
    if small.any():
        mask |= small[components[1:-1, 1:-1, 1:-1]]
