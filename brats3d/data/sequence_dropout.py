"""Sequences left out at random, so that one network serves every subset of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from brats3d.labels import order_modalities

CONTRAST = "t1ce"
"""The sequence that needs an injection, and so is the first to be missing."""


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, from one sequence to all of them: 15 of four, 7 of three."""
    names = order_modalities(modalities)
    return [chosen for count in range(1, len(names) + 1) for chosen in combinations(names, count)]


class DropSequencesd(Randomizable, MapTransform):
    """Channels of absent sequences become exactly 0, which is what the loader puts where there is no file.

    To be used on prepared patches, after every transform that would change a 0.

    Args:
        keys: images, (C, H, W, D).
        modalities: of the channels.
        all_present: chance that nothing is left out.
        without_t1ce: chance that T1ce alone is left out. The rest of the time every subset is equally likely.

    Raises:
        ValueError: if a chance is not in [0, 1], or both together are above 1.
    """

    def __init__(
        self, keys: KeysCollection, modalities: Sequence[str], all_present: float = 0.5, without_t1ce: float = 0.15
    ) -> None:
        super().__init__(keys)
        for name, chance in (("all_present", all_present), ("without_t1ce", without_t1ce)):
            if not 0 <= chance <= 1:
                raise ValueError(f"{name}: expected a chance from 0 to 1, got {chance}")
        if all_present + without_t1ce > 1:
            raise ValueError(
                f"all_present: expected at most 1 together with without_t1ce, got {all_present} + {without_t1ce}"
            )
        self.modalities = order_modalities(modalities)
        self.all_present = all_present
        self.without_t1ce = without_t1ce
        self.present = self.modalities

    def randomize(self, data: Any = None) -> None:
        """Draw the sequences that are present."""
        everything = subsets(self.modalities)
        chance, index = self.R.uniform(), self.R.randint(len(everything))
        if chance < self.all_present:
            self.present = everything[-1]
        elif chance < self.all_present + self.without_t1ce:
            self.present = tuple(name for name in self.modalities if name != CONTRAST) or everything[-1]
        else:
            self.present = everything[index]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize()
        absent = [i for i, name in enumerate(self.modalities) if name not in self.present]
        for key in self.key_iterator(out):
            out[key] = _without(out[key], absent)
        return out


def _without(image: torch.Tensor, absent: Sequence[int]) -> torch.Tensor:
    if absent:
        image = image.clone()
        image[list(absent)] = 0
    return image
