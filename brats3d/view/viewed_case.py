"""A case of the viewer: its files and what is known about their quality."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from brats3d.labels import REGIONS_TO_READ


@dataclass(frozen=True)
class LabelFile:
    """A segmentation.

    Args:
        path: its file.
        convention: name of its label convention; None if it is unknown. One in the header of a file that brats3d wrote
            has precedence.
        assumed: True if the convention is only assumed, since the names do not state it.
    """

    path: Path
    convention: str | None
    assumed: bool = False


@dataclass(frozen=True)
class ViewedCase:
    """A case that can be looked at. No file has been opened.

    Args:
        case_id: the case.
        images: modality -> file; empty if the images were not found.
        prediction: the segmentation to judge.
        reference: the segmentation to compare it with.
        dice: region -> Dice; empty if it is unknown.
        is_predicted: True if ``dice`` was predicted without a reference.
    """

    case_id: str
    images: Mapping[str, Path] = field(default_factory=dict, hash=False)
    prediction: LabelFile | None = None
    reference: LabelFile | None = None
    dice: Mapping[str, float] = field(default_factory=dict, hash=False)
    is_predicted: bool = False

    @property
    def labels(self) -> dict[str, LabelFile]:
        """``"reference"`` and ``"prediction"`` -> segmentation, as far as there are any."""
        both = {"reference": self.reference, "prediction": self.prediction}
        return {name: label for name, label in both.items() if label is not None}

    def with_convention(self, name: str) -> ViewedCase:
        """Return the case with a label convention for the segmentations whose names state none."""

        def fill(label: LabelFile | None) -> LabelFile | None:
            is_open = label is not None and (label.assumed or label.convention is None)
            return LabelFile(label.path, name) if label is not None and is_open else label

        return replace(self, prediction=fill(self.prediction), reference=fill(self.reference))

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the regions; None if it is unknown."""
        return statistics.fmean(self.dice.values()) if self.dice else None

    def to_json(self) -> dict[str, Any]:
        """Return what the page needs to know before it loads the case. It contains no paths."""
        return {
            "case_id": self.case_id,
            "sequences": list(self.images),
            "labels": list(self.labels),
            "dice": {region: round(self.dice[region], 3) for region in REGIONS_TO_READ if region in self.dice},
            "mean_dice": self.mean_dice,
            "is_predicted": self.is_predicted,
        }
