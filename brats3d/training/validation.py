"""Validate at an interval of epochs, and after the last one."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator


class Validate:
    """Handler of the trainer: validate every ``interval`` epochs and always after the last one.

    MONAI's ``ValidationHandler`` skips the last epoch if the number of epochs is not a multiple of the interval.

    Args:
        evaluator: runs the validation.
        interval: number of epochs between validations.
    """

    def __init__(self, evaluator: Evaluator, interval: int) -> None:
        self.evaluator = evaluator
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate if this epoch is due."""
        epoch = engine.state.epoch
        if epoch % self.interval == 0 or epoch == engine.state.max_epochs:
            self.evaluator.run(epoch)
