"""Fill the channels of missing sequences with zeros, and drop sequences at random during training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from brats3d.data.label_transforms import keep_meta
from brats3d.errors import UsageError
from brats3d.labels import order_modalities

CONTRAST = "t1ce"
"""The sequence that needs an injection, and is therefore the most likely one to be missing."""


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every non-empty subset, from one sequence to all of them: 15 of four, 7 of three."""
    names = order_modalities(modalities)
    return [chosen for count in range(1, len(names) + 1) for chosen in combinations(names, count)]


def fill_absent(image: torch.Tensor, present: Sequence[str], modalities: Sequence[str]) -> torch.Tensor:
    """Insert channels of zeros for the sequences that a case lacks.

    The background of a normalised image is zero, so an absent sequence looks like background everywhere.

    Args:
        image: the present sequences, normalised, shape (len(present), H, W, D).
        present: their names, in the order of the image's channels.
        modalities: names of the channels to return, in order.

    Returns:
        Shape (len(modalities), H, W, D), with the affine and the applied operations of ``image``.

    Raises:
        ValueError: if ``present`` does not name the channels of ``image``, or is not a subset of ``modalities``.
    """
    if len(set(present)) != image.shape[0] or not set(present) <= set(modalities):
        raise ValueError(
            f"image: expected one channel for each of {', '.join(present)}, each once and one of "
            f"{', '.join(modalities)}, got shape {tuple(image.shape)}"
        )
    filled = torch.zeros(len(modalities), *image.shape[1:], dtype=image.dtype, device=image.device)
    filled[[list(modalities).index(m) for m in present]] = torch.as_tensor(image)
    return keep_meta(filled, image)


class DropSequencesd(Randomizable, MapTransform):
    """Set the channels of randomly chosen sequences to 0, so that one network learns every subset of them.

    Zero is what :class:`brats3d.data.CaseDataset` inserts for a missing file. Apply it to prepared patches, after
    every transform that would change a 0.

    Args:
        keys: images, (C, H, W, D).
        modalities: names of the channels.
        all_present: probability that no sequence is dropped.
        without_t1ce: probability that only T1ce is dropped. Otherwise every subset is equally likely.

    Raises:
        UsageError: if a probability is not in [0, 1], or their sum is above 1.
    """

    def __init__(
        self, keys: KeysCollection, modalities: Sequence[str], all_present: float = 0.5, without_t1ce: float = 0.15
    ) -> None:
        super().__init__(keys)
        for name, probability in (("all_present", all_present), ("without_t1ce", without_t1ce)):
            if not 0 <= probability <= 1:
                raise UsageError(name, expected="a probability, 0 to 1", found=probability)
        if all_present + without_t1ce > 1:
            raise UsageError(
                "all_present", expected=f"at most {1 - without_t1ce:g} (1 - without_t1ce)", found=all_present
            )
        self.modalities = order_modalities(modalities)
        self.all_present = all_present
        self.without_t1ce = without_t1ce
        self.present = self.modalities

    def randomize(self, data: Any = None) -> None:
        """Draw the sequences that are present."""
        everything = subsets(self.modalities)
        draw, index = self.R.uniform(), self.R.randint(len(everything))
        if draw < self.all_present:
            self.present = everything[-1]
        elif draw < self.all_present + self.without_t1ce:
            self.present = tuple(name for name in self.modalities if name != CONTRAST) or everything[-1]
        else:
            self.present = everything[index]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        self.randomize()
        absent = [i for i, name in enumerate(self.modalities) if name not in self.present]
        for key in self.key_iterator(out):
            if absent:
                out[key] = out[key].clone()
                out[key][absent] = 0
        return out
