"""The MONAI dictionary transforms that MONAI lacks: labels of any release -> 2020's -> regions -> labels.

MONAI's ``ConvertToMultiChannelBasedOnBratsClasses`` takes labels of another release without a word and returns an empty
enhancing tumour (MONAI issue 8112). Here the convention is named, and what does not belong to it is an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from brats3d.cases import check_labels
from brats3d.labels import BRATS2020, CONVENTIONS, REGIONS, LabelConvention, get_convention


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
    for region, value in convention.own_values.items():
        channel = REGIONS.index(region)
        label = label.masked_fill(regions[channel : channel + 1] > 0, value)
    return label


def nest_regions(regions: torch.Tensor) -> torch.Tensor:
    """Regions as a file of labels holds them: ET lies in TC, TC in WT, each of which grows where it has to.

    Three sigmoids need not agree; a segmentation that is written, and scored by a challenge, does.

    Args:
        regions: bool or {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.

    Returns:
        uint8 in {0, 1}, the same shape.
    """
    return labels_to_regions(regions_to_labels(regions, BRATS2020), BRATS2020)


def fill_absent(image: torch.Tensor, present: Sequence[str], modalities: Sequence[str]) -> torch.Tensor:
    """Channels of zeros for the sequences that a case lacks.

    Zero is what the background of a normalised image is, so an absent sequence looks like nothing but background.

    Args:
        image: the sequences that are there, normalised, shape (len(present), H, W, D).
        present: their names, in the order of its channels, whatever that is.
        modalities: the names of the channels to make, in order.

    Returns:
        Shape (len(modalities), H, W, D), with the affine and the applied operations of ``image``.

    Raises:
        ValueError: if ``present`` does not name the channels of ``image``, or names what ``modalities`` lacks.
    """
    if len(set(present)) != image.shape[0] or not set(present) <= set(modalities):
        raise ValueError(
            f"image: expected a channel for each of {', '.join(present)}, each once and among {', '.join(modalities)}, "
            f"got shape {tuple(image.shape)}"
        )
    filled = torch.zeros(len(modalities), *image.shape[1:], dtype=image.dtype, device=image.device)
    filled[[list(modalities).index(m) for m in present]] = torch.as_tensor(image)
    return _keep_meta(filled, image)


class StandardLabelsd(MapTransform):
    """Labels of any convention become BraTS 2020's, as uint8, after every voxel value was found in the convention.

    The convention is the item's own, ``item["label_convention"]``, as :func:`brats3d.cases.load_fold` sets it:
    cases of several releases can be trained on together.

    Args:
        keys: which items to change.
        convention: a name in ``labels.CONVENTIONS`` for items that do not state theirs.
        allow_missing_keys: pass by where the key is absent.

    Raises:
        ValueError: when called, where no convention is known, or a value is not the convention's: names the file, the
            values found with their counts, and the values expected.
    """

    def __init__(self, keys: KeysCollection, convention: str | None = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention = get_convention(convention) if convention else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            source = str(getattr(out[key], "meta", {}).get("filename_or_obj", key))
            out[key] = _standard_labels(out[key], self._convention_of(out, source), source)
        return out

    def _convention_of(self, data: Mapping[Hashable, Any], source: str) -> LabelConvention:
        name = data.get("label_convention")
        convention = get_convention(name) if name else self.convention
        if convention is None:
            raise ValueError(
                f"{source}: what its labels mean is not stated; expected label_convention in the item, one of "
                f"{', '.join(CONVENTIONS)}; pass --label_convention"
            )
        return convention


class _WithConvention(MapTransform):
    """What the two transforms below share: a label convention, and a function of one item.

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
            out[key] = _keep_meta(self._change(torch.as_tensor(out[key])), out[key])
        return out

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class LabelsToRegionsd(_WithConvention):
    """Dictionary form of :func:`labels_to_regions`: labels (1, H, W, D) become regions (3, H, W, D)."""

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        return labels_to_regions(volume, self.convention)


class RegionsToLabelsd(_WithConvention):
    """Dictionary form of :func:`regions_to_labels`: regions (3, H, W, D) become labels (1, H, W, D)."""

    def _change(self, volume: torch.Tensor) -> torch.Tensor:
        return regions_to_labels(volume, self.convention)


def _standard_labels(volume: torch.Tensor, convention: LabelConvention, source: str) -> torch.Tensor:
    """Checked, as uint8, under BraTS 2020's values; the geometry stays."""
    check_labels(torch.as_tensor(volume).cpu().numpy(), convention, source)
    label = volume.round().to(torch.uint8)  # 1.9999999, which a scaled header gives, is 2
    if convention is BRATS2020:
        return label
    table = torch.zeros(max(convention.values) + 1, dtype=torch.uint8, device=label.device)
    for value, standard in convention.translate_to(BRATS2020).items():
        table[value] = standard
    return _keep_meta(table[torch.as_tensor(label).long()], volume)


def _keep_meta(out: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``out`` with the affine and the applied operations of ``like``, if it has any."""
    if not isinstance(like, MetaTensor):
        return out
    plain = out.as_tensor() if isinstance(out, MetaTensor) else out
    return MetaTensor(plain, meta=like.meta, applied_operations=like.applied_operations)
