"""Transforms of labels: from any release's labels to BraTS 2020's, to regions, and back to labels.

MONAI's ``ConvertToMultiChannelBasedOnBratsClasses`` accepts labels of another release without a warning and returns an
empty enhancing tumour (MONAI issue 8112). Here the convention is explicit, and a value outside it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import reduce
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from brats3d.cases import check_labels, whole_labels
from brats3d.errors import UsageError
from brats3d.labels import BRATS2020, CONVENTIONS, REGIONS, LabelConvention, get_convention


def labels_to_regions(label: torch.Tensor, convention: LabelConvention) -> torch.Tensor:
    """Convert labels to one channel for each region.

    Args:
        label: integer voxel values, shape (1, H, W, D). Values that the convention does not have belong to no region;
            :class:`LabelsToRegionsd` refuses them.
        convention: the convention of the values.

    Returns:
        uint8 in {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``: TC, WT, ET.

    Raises:
        ValueError: if ``label`` has more than one channel.
    """
    if label.shape[0] != 1:
        raise ValueError(f"label: expected one channel (1, H, W, D), got shape {tuple(label.shape)}")
    masks = {value: label == value for value in convention.labels}
    channels = [reduce(torch.logical_or, (masks[value] for value in convention.regions[region])) for region in REGIONS]
    return torch.cat(channels).to(torch.uint8)


def regions_to_labels(regions: torch.Tensor, convention: LabelConvention) -> torch.Tensor:
    """Convert three overlapping regions to labels; the inverse of :func:`labels_to_regions`.

    The innermost region wins, so an enhancing voxel outside the predicted core is still labelled as enhancing.

    Args:
        regions: bool or {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``. Anything above 0
            counts as 1; :class:`RegionsToLabelsd` refuses other values.
        convention: the convention of the returned values.

    Returns:
        uint8, shape (1, H, W, D).

    Raises:
        ValueError: if ``regions`` does not have three channels.
    """
    if regions.shape[0] != len(REGIONS):
        raise ValueError(f"regions: expected {len(REGIONS)} channels {REGIONS}, got shape {tuple(regions.shape)}")
    label = torch.zeros_like(regions[:1], dtype=torch.uint8)
    for region, value in convention.own_values.items():
        mask = regions[REGIONS.index(region)][None]
        # Modulo 256. masked_fill takes five times as long, and comparing a bool with 0 twice.
        label += (value - label) * (mask if mask.dtype == torch.bool else mask > 0)
    return label


def nest_regions(regions: torch.Tensor) -> torch.Tensor:
    """Make regions nested, as in a label file: WT grows to contain TC, and TC to contain ET.

    Three sigmoid outputs need not be nested, but the segmentation that is written, and scored by a challenge, is.

    Args:
        regions: bool or {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.

    Returns:
        uint8 in {0, 1}, the same shape.
    """
    return labels_to_regions(regions_to_labels(regions, BRATS2020), BRATS2020)


def keep_meta(out: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return ``out`` with the affine and the applied operations of ``like``, if it has any."""
    if not isinstance(like, MetaTensor):
        return out
    plain = out.as_tensor() if isinstance(out, MetaTensor) else out
    return MetaTensor(plain, meta=like.meta, applied_operations=like.applied_operations)


class StandardLabelsd(MapTransform):
    """Check that labels belong to their convention, and convert them to BraTS 2020's, as uint8.

    Each item names its own convention, ``item["label_convention"]``, as set by :func:`brats3d.cases.load_fold`, so
    cases of several releases can be used together.

    Args:
        keys: keys of the labels.
        convention: a name in ``labels.CONVENTIONS``, for items that do not name theirs.
        allow_missing_keys: skip missing keys.

    Raises:
        UsageError: when called, if the convention is unknown.
        DataError: when called, if a value is outside the convention; names the file, the values found with their
            counts, and the values expected.
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
            raise UsageError(
                "label_convention",
                f"the convention of the labels in {source} is unknown",
                expected=f"one of {', '.join(CONVENTIONS)}",
                advice="pass --label_convention",
            )
        return convention


class _Convertd(MapTransform):
    """Base of the dictionary transforms between labels and regions.

    Args:
        keys: keys of the volumes.
        convention: a name in ``labels.CONVENTIONS``.
        allow_missing_keys: skip missing keys.
    """

    convert: Callable[[torch.Tensor, LabelConvention, str], torch.Tensor]

    def __init__(self, keys: KeysCollection, convention: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention = get_convention(convention)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            source = str(getattr(out[key], "meta", {}).get("filename_or_obj", key))
            out[key] = keep_meta(self.convert(torch.as_tensor(out[key]), self.convention, source), out[key])
        return out


class LabelsToRegionsd(_Convertd):
    """Dictionary form of :func:`labels_to_regions`: labels (1, H, W, D) become regions (3, H, W, D).

    Raises:
        DataError: when called, if a value is outside the convention.
    """

    @staticmethod
    def convert(label: torch.Tensor, convention: LabelConvention, source: str) -> torch.Tensor:
        """Convert labels that the convention has."""
        regions = labels_to_regions(label, convention)
        known = regions[[REGIONS.index("WT")]].bool()
        for value in convention.labels.keys() - set(convention.regions["WT"]):
            known |= label == value
        if torch.equal(known, label != 0):
            return regions
        values = label.cpu().numpy()
        check_labels(values, convention, source)
        return labels_to_regions(torch.from_numpy(whole_labels(values)).to(label.device), convention)


class RegionsToLabelsd(_Convertd):
    """Dictionary form of :func:`regions_to_labels`: regions (3, H, W, D) become labels (1, H, W, D).

    Raises:
        UsageError: when called, if a value is neither 0 nor 1, such as a probability.
    """

    @staticmethod
    def convert(regions: torch.Tensor, convention: LabelConvention, source: str) -> torch.Tensor:
        """Convert regions of 0 and 1."""
        if regions.dtype != torch.bool and not torch.equal(regions != 0, regions == 1):
            raise UsageError(
                source,
                f"values from {regions.min():.4g} to {regions.max():.4g}",
                expected="regions of 0 and 1",
                advice="apply a threshold first, such as AsDiscreted(threshold=0.5)",
            )
        return regions_to_labels(regions, convention)


def _standard_labels(volume: torch.Tensor, convention: LabelConvention, source: str) -> torch.Tensor:
    """Return checked labels as uint8 in BraTS 2020's convention, with the geometry of ``volume``."""
    check_labels(torch.as_tensor(volume).cpu().numpy(), convention, source)
    label = volume.round().to(torch.uint8)  # a header with a scale factor can turn 2 into 1.9999999
    if convention is BRATS2020:
        return label
    table = torch.zeros(max(convention.values) + 1, dtype=torch.uint8, device=label.device)
    for value, standard in convention.translate_to(BRATS2020).items():
        table[value] = standard
    return keep_meta(table[torch.as_tensor(label).long()], volume)
