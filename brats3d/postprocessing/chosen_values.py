"""The values that were chosen for weights, from their card."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from brats3d.errors import NotFoundError
from brats3d.networks import read_card
from brats3d.postprocessing.values import PostprocessingValues, describe_values

logger = logging.getLogger("brats3d")


def chosen_postprocessing(checkpoint: str | Path | None) -> dict[str, Any]:
    """Return the values of post-processing that were chosen for weights, and log them.

    The configs name this function as a ``_target_``, and use its values as defaults. A missing file is reported when
    the weights are loaded.

    Returns:
        ``{"threshold": {region: number}, rule: ml, ...}`` of the card's ``postprocessing``; empty if the card has none,
        or without weights (None).

    Raises:
        DataError: if the card is damaged.
    """
    try:
        chosen = read_card(checkpoint).get("postprocessing") if checkpoint is not None else None
    except NotFoundError:
        return {}
    if chosen is None:
        return {}
    PostprocessingValues.from_json(chosen, f"the card of {checkpoint}")
    text = "Using the post-processing values that were chosen for %s, except for those set by their ids: %s"
    logger.info(text, checkpoint, describe_values(chosen))
    return {"threshold": chosen["threshold"], **chosen["region_rules"]}
