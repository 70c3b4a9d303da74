"""Validation at an interval of epochs."""

from __future__ import annotations

import pytest
from ignite.engine import Events


@pytest.mark.parametrize(
    ("epochs", "interval", "validated"),
    [(3, 1, [1, 2, 3]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (2, 5, [2])],
    ids=str,
)
def test_the_last_epoch_is_always_validated_and_only_once(toy_run, epochs, interval, validated):
    run, seen = toy_run(epochs=epochs, interval=interval), []
    run.evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.state.epoch))
    run.trainer.run()
    assert seen == validated
