"""Epochs, validations and the expected time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from brats3d.errors import UsageError
from brats3d.plan.choose_schedule import choose_val_interval, default_epochs, epochs_in
from brats3d.plan.estimate import Timing, estimate


@pytest.mark.parametrize(
    ("training", "epochs"),
    [(1, 1000), (3, 334), (4, 300), (300, 300), (800, 112), (30_000, 3), (10**6, 1)],
)
def test_epochs_follow_from_the_number_of_cases(training: int, epochs: int, data: Callable) -> None:
    assert default_epochs(data(training=training), 300).value == epochs


def test_the_epochs_that_fit_into_the_hours_use_nine_tenths_of_them() -> None:
    assert epochs_in(1.0, 1000, lambda n: 240 + 30 * n).value == 100  # 3,240 s
    assert epochs_in(1.0, 50, lambda n: 240 + 30 * n).value == 50
    with pytest.raises(UsageError) as caught:
        epochs_in(0.1, 50, lambda n: 3600.0 * n)
    assert caught.value.subject == "hours" and "1.1 hours" in caught.value.problem


@pytest.mark.parametrize(
    ("epochs", "epoch_seconds", "validation_seconds", "interval"),
    [
        (300, 100, 50, 5),  # the default: a tenth of the time
        (300, 10, 20, 8),  # 20 s every 80 s: a fifth
        (300, 10, 200, 30),  # at least ten validations
        (20, 100, 10, 2),
        (3, 100, 10, 1),
    ],
)
def test_validations_are_frequent_but_take_little_of_the_time(
    epochs: int, epoch_seconds: float, validation_seconds: float, interval: int
) -> None:
    assert choose_val_interval(epochs, epoch_seconds, validation_seconds, 5).value == interval


def test_the_estimate_adds_up_all_parts(data: Callable) -> None:
    timing = Timing(start=10, prepare=0.5, train=2, end_epoch=1, validate=3, full_scores=4)
    seconds = estimate(timing, data(training=8, validation=2), epochs=12, val_interval=5, full_every=2)
    assert (seconds.start, seconds.epoch, seconds.validation) == (15, 17, 6)
    # 12 epochs; validations after 5, 10 and 12, the second with all scores.
    assert seconds.run == 15 + 12 * 17 + 3 * 6 + 2 * 4
    assert estimate(timing, data(training=8, validation=2), 12, 5, 0).run == seconds.run - 8
