"""Warn about a collapsed training, in which the network no longer predicts a region in any case."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import ignite.distributed as idist
from ignite.engine import Engine, Events

from brats3d.errors import UsageError
from brats3d.labels import REGIONS_TO_READ

logger = logging.getLogger("brats3d")


class WarnOfCollapse:
    """Handler of the evaluator: warn if a region is predicted in no case for several validations in a row.

    DiceLoss alone can collapse and not recover, because it has almost no gradient if nothing is predicted
    (https://github.com/MIC-DKFZ/nnUNet/issues/1395).

    Args:
        bce_weight: weight of the cross-entropy in the loss; at 0 the warning recommends it.
        patience: validations in a row, at least 1.
        metric: name under which :class:`brats3d.evaluation.ValidationScores` is attached.

    Raises:
        UsageError: if ``patience`` is below 1.
    """

    def __init__(self, bce_weight: float = 0.0, patience: int = 3, metric: str = "val_mean_dice") -> None:
        if patience < 1:
            raise UsageError("patience", expected="at least 1 validation", found=patience)
        self.bce_weight = bce_weight
        self.patience = patience
        self.metric = metric
        self._misses = dict.fromkeys(REGIONS_TO_READ, 0)

    def state_dict(self) -> dict[str, int]:
        """Return region -> number of validations in a row that missed it."""
        return dict(self._misses)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._misses = {region: int(state[region]) for region in REGIONS_TO_READ}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Count, and warn once when the patience is reached; only the first process of a distributed run warns."""
        rows = engine.state.metric_details[self.metric]
        for region in REGIONS_TO_READ:
            with_region = [row for row in rows if row.region == region and row.ref_volume_ml > 0]
            missed = bool(with_region) and not any(row.pred_volume_ml for row in with_region)
            self._misses[region] = self._misses[region] + 1 if missed else 0
            if self._misses[region] == self.patience and idist.get_rank() == 0:
                logger.warning(
                    "%s is predicted in none of the %d validation cases that have it, for %d validations in a row: the "
                    "training may have collapsed; try %s",
                    region,
                    len(with_region),
                    self.patience,
                    "a lower --learning_rate" if self.bce_weight else "--bce_weight 1: DiceLoss alone often collapses",
                )
