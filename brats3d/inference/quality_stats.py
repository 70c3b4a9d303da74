"""The predicted quality of a case in the JSON of ``--stats``, and the list of cases to look at first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brats3d.cases import region_volumes_ml
from brats3d.data import labels_to_regions
from brats3d.evaluation import BatchProbabilities
from brats3d.files import read_header, read_json
from brats3d.labels import LabelConvention
from brats3d.networks import read_card
from brats3d.quality import QualityModel, review_reason

logger = logging.getLogger("brats3d")


class QualityStats:
    """Predicts the quality of segmentations with what the card of the weights holds.

    Args:
        checkpoint: the weights. None (random weights), or a card without ``quality``, predicts nothing.
        convention: the label convention of the segmentations.

    Raises:
        NotFoundError, DataError: if the card is missing or damaged.
    """

    def __init__(self, checkpoint: str | Path | None, convention: LabelConvention) -> None:
        content = None if checkpoint is None else read_card(checkpoint).get("quality")
        self.model = None if content is None else QualityModel.from_json(content, f"the card of {checkpoint}")
        self.convention = convention
        if self.model is None or not self.model.dice:
            logger.info("The weights predict no Dice and no volume intervals: their card has no model for it")

    def add(self, stats: dict[str, Any], batch: BatchProbabilities, image: Path, label: np.ndarray) -> None:
        """Add predicted Dice, volume intervals and whether a person should look at the case.

        Args:
            stats: ``case_id``, and what :func:`brats3d.inference.describe_segmentation` returned. Its volumes may be
                measured on another grid, as those of raw cases; the intervals are scaled to them.
            batch: has the network's probabilities.
            image: one of the case's images, which defines the grid of the label.
            label: the segmentation, shape (H, W, D).
        """
        if self.model is None or not self.model.dice:
            return
        voxel_ml, probabilities = read_header(image).voxel_ml, batch.whole(stats["case_id"], image)
        regions = labels_to_regions(torch.from_numpy(label.astype(np.uint8))[None], self.convention)
        found = self.model.predict(probabilities, regions.numpy(), voxel_ml)
        volumes = region_volumes_ml(label, self.convention, voxel_ml)
        for region, quality in found.items():
            entry = stats["regions"][region]
            scale = entry["volume_ml"] / volumes[region] if volumes[region] else 1.0
            entry["predicted_dice"] = round(quality.predicted_dice, 3)
            entry["volume_interval_ml"] = [round(limit * scale, 2) for limit in quality.volume_interval_ml]
        reason = review_reason(found)
        stats |= {"review": bool(reason), "review_reason": reason or None}


def cases_to_review(output_dir: Path, case_ids: Iterable[str]) -> list[tuple[str, float]]:
    """Return the cases whose JSON asks for a review, and their predicted Dice of WT, the lowest first.

    Args:
        output_dir: the folder of the segmentations.
        case_ids: the cases; those without a readable JSON are omitted.
    """
    found = []
    for case_id in case_ids:
        try:
            stats = read_json(output_dir / f"{case_id}.json")
            if isinstance(stats, Mapping) and stats.get("review") is True:
                found.append((case_id, float(stats["regions"]["WT"]["predicted_dice"])))
        except (OSError, ValueError, KeyError, TypeError):  # a failed case, or a file that somebody changed
            continue
    return sorted(found, key=lambda each: (each[1], each[0]))


def log_reviews(output_dir: Path, case_ids: Iterable[str]) -> None:
    """Log the cases to look at first."""
    if cases := cases_to_review(output_dir, case_ids):
        lines = [f"  {case_id}  predicted Dice of WT {dice:.2f}" for case_id, dice in cases]
        logger.warning("Look at these cases first, they may be wrong:\n%s", "\n".join(lines))
