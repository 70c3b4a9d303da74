"""Warn about images that the networks do not expect, and clip outliers, before other transforms change the images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from brats3d.cases import Doubt, image_doubts, item_to_case, measure_image, modality_of
from brats3d.labels import WITHOUT_T1CE

logger = logging.getLogger("brats3d")


class ImageDoubts:
    """The doubts about the images of a data set, which are collected while cases are loaded and then logged.

    Args:
        log_each: log every doubt about every case. By default, one line for each kind of doubt is logged, once.
    """

    def __init__(self, log_each: bool = False) -> None:
        self.log_each = log_each
        self._found: dict[str, list[tuple[str, str]]] = {}
        """Kind of doubt -> (case_id, text), not logged yet."""
        self._logged: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> ImageDoubts:
        """Return the object itself, so that all threads collect in one place."""
        return self

    def check(self, loaded: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        """Check a loaded case and clip the outliers of its image in place. Images with NaN are skipped.

        Args:
            loaded: the case after ``LoadImaged``, with ``image`` (C, x, y, z).
            item: its datalist item.
        """
        image = loaded["image"]
        affine = np.asarray(getattr(image, "affine", np.eye(4)))
        spacing_mm = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        channels = torch.as_tensor(image)
        facts = {}
        for name, channel in zip(_names(item, len(channels)), channels, strict=True):
            low, high = (float(value) for value in torch.aminmax(channel))
            values = channel.numpy()
            if not np.isfinite([low, high]).all():
                return
            facts[name] = measure_image(values, spacing_mm, low, high)
            if facts[name].outliers:
                np.clip(values, facts[name].floor, facts[name].limit, out=values)
        if all(each.is_empty for each in facts.values()):
            return
        doubts = image_doubts(facts)
        for kind, problem in dict.fromkeys((doubt.kind, doubt.problem) for doubt in doubts):
            same = [doubt.names for doubt in doubts if (doubt.kind, doubt.problem) == (kind, problem)]
            names = tuple(dict.fromkeys(name for names in same for name in names))
            self._add(str(item["case_id"]), Doubt(kind, names, problem))

    def log(self) -> None:
        """Log what was found since the last call."""
        found, self._found = self._found, {}
        for kind, doubts in found.items():
            if self.log_each:
                for case_id, text in doubts:
                    logger.warning("%s: %s", case_id, text)
            elif kind not in self._logged:
                self._logged.add(kind)
                case_id, text = doubts[0]
                others = len({name for name, _ in doubts}) - 1
                more = f" (and {others} more case{'s' * (others > 1)}; brats3d audit lists them)" if others else ""
                logger.warning("%s: %s%s", case_id, text, more)

    def _add(self, case_id: str, doubt: Doubt) -> None:
        advice = _ADVICE[doubt.kind]
        if doubt.kind in _WITHOUT_CONTRAST and "t1ce" in map(modality_of, doubt.names):
            advice += f"; {WITHOUT_T1CE}"
        text = f"{', '.join(doubt.names)}: {doubt.problem}; {advice}"
        self._found.setdefault(doubt.kind, []).append((case_id, text))


_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "background": "expected a skull-stripped brain with 0 around it; results are not reliable. brats3d audit "
        "--repair subtracts a constant background",
        "whole head": "strip the skull first; results are not reliable",
        "small brain": "check the brain mask; results are not reliable",
        "outliers": "clipped before the image is normalised",
        "identical sequences": "check the files; results are not reliable",
        "empty sequence": "treated as absent",
    }
)

_WITHOUT_CONTRAST = ("identical sequences", "empty sequence")


def _names(item: Mapping[str, Any], channels: int) -> list[str]:
    """Return the names of the image's files if there is one for each channel; else the numbers of the channels."""
    images = item_to_case(item).images
    return (
        [path.name for path in images.values()]
        if len(images) == channels
        else [f"channel {i}" for i in range(channels)]
    )
