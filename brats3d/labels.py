"""Modalities, label conventions and regions of BraTS. This module imports nothing heavy.

Sources: Menze et al., "The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS)", IEEE TMI 2015;
Baid et al., "The RSNA-ASNR-MICCAI BraTS 2021 Benchmark", arXiv:2107.02314.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from brats3d.errors import UsageError

MODALITIES = ("t1", "t1ce", "t2", "flair")
"""BraTS 2020's names, in the order of the channels of every image."""

MODALITY_ALIASES: Mapping[str, str] = MappingProxyType(
    {"t1n": "t1", "t1w": "t1", "t1c": "t1ce", "t1gd": "t1ce", "t2w": "t2", "t2f": "flair"}
)
"""Names of BraTS 2023 (t1n t1c t2w t2f) and of the Medical Segmentation Decathlon (T1w t1gd T2w) -> BraTS 2020's."""

REGIONS = ("TC", "WT", "ET")
"""The overlapping regions, in the order of the network's output channels, which is MONAI's."""

REGIONS_TO_READ = ("WT", "TC", "ET")
"""The regions in the order of tables and reports."""

REGION_NAMES: Mapping[str, str] = MappingProxyType(
    {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}
)

REGION_COLOURS: Mapping[str, str] = MappingProxyType({"WT": "#56B4E9", "TC": "#E69F00", "ET": "#CC79A7"})
"""Colour of each region in every picture, from Okabe and Ito's colour-blind-safe palette
(https://jfly.uni-koeln.de/color/)."""


@dataclass(frozen=True)
class LabelConvention:
    """The meaning of the integer voxel values of a BraTS release.

    Args:
        name: its name on the command line and in files.
        labels: voxel value -> short name, without background (0).
        regions: region -> its voxel values. Regions are nested: ET in TC in WT.
    """

    name: str
    labels: Mapping[int, str] = field(hash=False)
    regions: Mapping[str, tuple[int, ...]] = field(hash=False)

    def __reduce__(self) -> tuple[Callable[[str], LabelConvention], tuple[str]]:
        # By name, because a MappingProxyType can be neither pickled (worker processes) nor deep-copied (transforms).
        return get_convention, (self.name,)

    @property
    def values(self) -> frozenset[int]:
        """All voxel values that a segmentation may contain, including background."""
        return frozenset((0, *self.labels))

    @property
    def own_values(self) -> dict[str, int]:
        """Region -> the value to write where it is the innermost region; from the outermost region to the innermost.

        A region without a value of its own, such as HD-GLIO's core, has the value of the region around it.
        """
        names = sorted(self.regions, key=lambda name: -len(self.regions[name]))
        inside = [*(self.regions[name] for name in names[1:]), ()]
        own: dict[str, int] = {}
        around = 0
        for name, inner in zip(names, inside, strict=True):
            around = own[name] = next((value for value in self.regions[name] if value not in inner), around)
        return own

    def translate_to(self, other: LabelConvention) -> dict[int, int]:
        """Map each value of this convention to the other convention's value for the same innermost region.

        Values outside all regions, such as a resection cavity, become background. The map to itself is the identity.
        The map to HD-GLIO loses the core that does not enhance.
        """
        if other is self:
            return {value: value for value in self.values}
        translated = dict.fromkeys(self.values, 0)
        for region, value in other.own_values.items():  # outermost first, so that the innermost wins
            translated |= dict.fromkeys(self.regions[region], value)
        return translated


BRATS2020 = LabelConvention(
    name="brats2020",
    labels=MappingProxyType({1: "NCR/NET", 2: "ED", 4: "ET"}),
    regions=MappingProxyType({"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}),
)
"""BraTS 2017 to 2021."""

BRATS2023 = LabelConvention(
    name="brats2023",
    labels=MappingProxyType({1: "NCR", 2: "SNFH", 3: "ET"}),
    regions=MappingProxyType({"TC": (1, 3), "WT": (1, 2, 3), "ET": (3,)}),
)
"""BraTS 2023 and later for GLI, SSA, MET and MEN."""

BRATS2024_GLI = LabelConvention(
    name="brats2024-gli",
    labels=MappingProxyType({1: "NETC", 2: "SNFH", 3: "ET", 4: "RC"}),
    regions=MappingProxyType({"TC": (1, 3), "WT": (1, 2, 3), "ET": (3,)}),
)
"""BraTS 2024, post-treatment gliomas: the resection cavity (RC) is outside all regions (arXiv:2405.18368)."""

BRATS2024_PED = LabelConvention(
    name="brats2024-ped",
    labels=MappingProxyType({1: "ET", 2: "NET", 3: "CC", 4: "ED"}),
    regions=MappingProxyType({"TC": (1, 2, 3), "WT": (1, 2, 3, 4), "ET": (1,)}),
)
"""BraTS 2024, paediatric tumours: non-enhancing tumour, cystic component, edema (arXiv:2404.15009)."""

BRATS2015 = LabelConvention(
    name="brats2015",
    labels=MappingProxyType({1: "NCR", 2: "ED", 3: "NET", 4: "ET"}),
    regions=MappingProxyType({"TC": (1, 3, 4), "WT": (1, 2, 3, 4), "ET": (4,)}),
)
"""BraTS 2013 to 2016."""

DECATHLON = LabelConvention(
    name="decathlon",
    labels=MappingProxyType({1: "ED", 2: "NCR/NET", 3: "ET"}),
    regions=MappingProxyType({"TC": (2, 3), "WT": (1, 2, 3), "ET": (3,)}),
)
"""Task01 of the Medical Segmentation Decathlon, and nnU-Net's BraTS data sets: edema and core the other way round
(https://doi.org/10.1038/s41467-022-30695-9)."""

HD_GLIO = LabelConvention(
    name="hd-glio",
    labels=MappingProxyType({1: "T2/FLAIR", 2: "ET"}),
    regions=MappingProxyType({"TC": (2,), "WT": (1, 2), "ET": (2,)}),
)
"""HD-GLIO: non-enhancing T2/FLAIR abnormality, and enhancing tumour. Necrosis has no label of its own, so that the core
is only its enhancing part (https://github.com/NeuroAI-HD/HD-GLIO)."""

CONVENTIONS: Mapping[str, LabelConvention] = MappingProxyType(
    {c.name: c for c in (BRATS2020, BRATS2023, BRATS2024_GLI, BRATS2024_PED, BRATS2015, DECATHLON, HD_GLIO)}
)

WITHOUT_T1CE = "without t1ce, enhancing tumour cannot be separated reliably from the rest of the core"
"""A warning for segmentations without contrast-enhanced images."""

CONVENTION_ALIASES: Mapping[str, str] = MappingProxyType({"nnunet": "decathlon"})
"""Other names of label conventions."""


def get_convention(name: str) -> LabelConvention:
    """Return a label convention by its name or an alias.

    Raises:
        UsageError: if there is no such convention.
    """
    try:
        return CONVENTIONS[CONVENTION_ALIASES.get(name, name)]
    except (KeyError, TypeError):  # a file may contain a list
        raise UsageError("label_convention", expected=f"one of {', '.join(CONVENTIONS)}", found=name) from None


def order_modalities(names: Sequence[str]) -> tuple[str, ...]:
    """Sort modality names of any release into the order of the channels.

    Args:
        names: such as ``["flair", "t1"]`` or ``["t1n", "t2f"]``.

    Returns:
        The same modalities by BraTS 2020's names, in the order of :data:`MODALITIES`.

    Raises:
        UsageError: if a name is unknown or repeated, or if ``names`` is empty or not a list.
    """
    if isinstance(names, str):  # the configs count channels with len()
        raise UsageError("modalities", expected="a list, such as \"['t1', 'flair']\"", found=names)
    names = list(names)
    known = [MODALITY_ALIASES.get(str(name).lower(), str(name).lower()) for name in names]
    if not known or set(known) - set(MODALITIES) or len(set(known)) < len(known):
        raise UsageError("modalities", expected=f"one or more of {', '.join(MODALITIES)}, each once", found=names)
    return tuple(m for m in MODALITIES if m in known)
