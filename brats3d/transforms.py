"""The MONAI dictionary transforms that MONAI lacks: labels -> regions, regions -> labels.

MONAI's ``ConvertToMultiChannelBasedOnBratsClasses`` takes labels of another release without a word and returns an empty
enhancing tumour (MONAI issue 8112). Here the convention is named, and what does not belong to it is an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import reduce
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from brats3d.checks import check_labels
from brats3d.labels import REGIONS, LabelConvention, get_convention

__all__ = ["CheckLabelsd", "LabelsToRegionsd", "RegionsToLabelsd", "labels_to_regions", "regions_to_labels"]


def labels_to_regions(label: torch.Tensor, convention: LabelConvention) -> torch.Tensor:
    """One channel a region.

    Args:
        label: integer voxel values, shape (1, H, W, D).
        convention: what the values mean.

    Returns:
        uint8 in {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``: TC, WT, ET.

    Raises:
        ValueError: if ``label`` has more than one channel.
    """
    if label.shape[0] != 1:
        raise ValueError(f"label: expected one channel (1, H, W, D), got shape {tuple(label.shape)}")
    channels = [reduce(torch.logical_or, (label == v for v in convention.regions[region])) for region in REGIONS]
    return torch.cat(channels).to(torch.uint8)


def regions_to_labels(regions: torch.Tensor, convention: LabelConvention) -> torch.Tensor:
    """One voxel value for what three overlapping channels say; the inverse of :func:`labels_to_regions`.

    The innermost region decides, so that an enhancing voxel outside the predicted core still counts as enhancing.

    Args:
        regions: bool or {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        convention: which values to write.

    Returns:
        uint8, shape (1, H, W, D).

    Raises:
        ValueError: if ``regions`` does not have three channels.
    """
    if regions.shape[0] != len(REGIONS):
        raise ValueError(f"regions: expected {len(REGIONS)} channels {REGIONS}, got shape {tuple(regions.shape)}")
    label = torch.zeros_like(regions[:1], dtype=torch.uint8)
    for region, value in _painted(convention):
        channel = REGIONS.index(region)
        label = label.masked_fill(regions[channel : channel + 1] > 0, value)
    return label


class _WithConvention(MapTransform):
    """What the three transforms below share: a label convention, and a function of one item.

    Args:
        keys: which items to change.
        convention: a name in ``labels.CONVENTIONS``.
        allow_missing_keys: pass by where the key is absent.
    """

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention = get_convention(convention)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._change(out[key])
        return out

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class CheckLabelsd(_WithConvention):
    """Passes labels on as uint8, after every voxel value has been found in the convention.

    Raises:
        ValueError: when called; names the file, the values found with their counts, and the values expected.
    """

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        source = str(getattr(volume, "meta", {}).get("filename_or_obj", "label"))
        check_labels(torch.as_tensor(volume).cpu().numpy(), self.convention, source)
        return volume.to(torch.uint8)


class LabelsToRegionsd(_WithConvention):
    """Dictionary form of :func:`labels_to_regions`: labels (1, H, W, D) become regions (3, H, W, D)."""

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        return _keep_meta(labels_to_regions(torch.as_tensor(volume), self.convention), volume)


class RegionsToLabelsd(_WithConvention):
    """Dictionary form of :func:`regions_to_labels`: regions (3, H, W, D) become labels (1, H, W, D)."""

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        return _keep_meta(regions_to_labels(torch.as_tensor(volume), self.convention), volume)


def _painted(convention: LabelConvention) -> list[tuple[str, int]]:
    """Regions from the outermost to the innermost, each with the value that it alone adds."""
    outer_to_inner = sorted(REGIONS, key=lambda region: -len(convention.regions[region]))
    painted = []
    for i, region in enumerate(outer_to_inner):
        inside = convention.regions[outer_to_inner[i + 1]] if i + 1 < len(outer_to_inner) else ()
        painted.append((region, next(value for value in convention.regions[region] if value not in inside)))
    return painted


def _keep_meta(out: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``out`` with the affine and the applied operations of ``like``, if it has any."""
    if not isinstance(like, MetaTensor):
        return out
    plain = out.as_tensor() if isinstance(out, MetaTensor) else out
    return MetaTensor(plain, meta=like.meta, applied_operations=like.applied_operations)
