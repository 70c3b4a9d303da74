"""Says when a training has given a region up: the network finds no voxel of it in any case."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from brats3d.labels import REGIONS_TO_READ


class ValidateLast:
    """Handler of the trainer: validates after the last epoch where the interval of MONAI's ValidationHandler does not.

    Args:
        validator: the evaluator.
        interval: epochs from one validation to the next.
    """

    def __init__(self, validator: Evaluator, interval: int) -> None:
        self.validator = validator
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate if this is the last epoch and it has not been validated."""
        if engine.state.epoch == engine.state.max_epochs and engine.state.epoch % self.interval:
            self.validator.run(engine.state.epoch)


logger = logging.getLogger("brats3d")


class WarnOfCollapse:
    """Handler of the evaluator: a warning where a region that cases have was found in none, several times in a row.

    DiceLoss alone can end there and stay there: where nothing is predicted it has next to no gradient.
    (https://github.com/MIC-DKFZ/nnUNet/issues/1395)

    Args:
        bce_weight: of the loss; at 0 the warning says what would help.
        patience: validations in a row, from 1.
        metric: the name under which :class:`brats3d.evaluation.ValidationScores` is attached.

    Raises:
        ValueError: if ``patience`` is below 1.
    """

    def __init__(self, bce_weight: float = 0.0, patience: int = 3, metric: str = "val_mean_dice") -> None:
        if patience < 1:
            raise ValueError(f"patience: expected 1 validation or more, got {patience}")
        self.bce_weight = bce_weight
        self.patience = patience
        self.metric = metric
        self._empty = dict.fromkeys(REGIONS_TO_READ, 0)

    def state_dict(self) -> dict[str, int]:
        """By region, in how many validations in a row it was lost; goes on when a run does."""
        return dict(self._empty)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._empty = {region: int(state[region]) for region in REGIONS_TO_READ}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Count, and warn once when the patience is over; of a distributed run's processes the first alone warns."""
        rows = engine.state.metric_details[self.metric]
        for region in REGIONS_TO_READ:
            there = [row for row in rows if row.region == region and row.ref_volume_ml > 0]
            empty = bool(there) and not any(row.pred_volume_ml for row in there)
            self._empty[region] = self._empty[region] + 1 if empty else 0
            if self._empty[region] == self.patience and idist.get_rank() == 0:
                logger.warning(
                    "%s was found in none of the %d validation cases that have it, %d validations in a row: the "
                    "training may have collapsed; %s",
                    region,
                    len(there),
                    self.patience,
                    "try --bce_weight 1: DiceLoss alone is prone to it"
                    if not self.bce_weight
                    else "if it stays so, try a lower --learning_rate",
                )
