"""Time summed over the parts of a run, and the learning rate that follows it; by a clock that is turned by hand."""

from __future__ import annotations

import math

import pytest
from ignite.engine import Events

from brats3d.training.time_budget import KeepTime, TimeBudget
from brats3d.training.validation import ValidateLast


class Clock:
    """Seconds since some other day."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def started(clock: Clock, minutes: float = 10, warmup: float = 0.2) -> TimeBudget:
    budget = TimeBudget(minutes, learning_rate=1.0, warmup=warmup, now=clock)
    budget.start()
    return budget


@pytest.mark.parametrize(
    ("share", "rate"),
    [(0, 0.1), (0.1, 0.55), (0.2, 1), (0.4, (1 + math.cos(math.pi / 4)) / 2), (0.6, 0.5), (1, 0), (2, 0)],
)
def test_the_rate_rises_and_falls_with_the_clock(clock, share, rate):
    budget = started(clock)
    clock.seconds += share * 600
    assert budget.rate() == pytest.approx(rate)


def test_without_warm_up_the_rate_begins_at_its_highest(clock):
    assert started(clock, warmup=0).rate() == 1


def test_parts_of_a_run_add_up_and_the_time_between_them_does_not_count(clock):
    first = started(clock)
    clock.seconds += 120
    state = first.state_dict()
    clock.seconds += 5000
    second = TimeBudget(10, learning_rate=1.0, warmup=0.2, now=clock)
    second.load_state_dict(state)
    assert second.elapsed_minutes == 2
    second.start()
    clock.seconds += 60
    assert second.elapsed_minutes == 3
    assert second.rate() == started_at(clock, 3).rate()


def started_at(clock: Clock, minutes: float) -> TimeBudget:
    budget = started(clock)
    clock.seconds += 60 * minutes
    return budget


def test_more_minutes_stretch_the_curve(clock):
    state = started_at(clock, 10).state_dict()
    longer = TimeBudget(20, learning_rate=1.0, warmup=0.2, now=clock)
    longer.load_state_dict(state)
    assert not longer.spent
    assert longer.progress == 0.5


def test_the_last_validation_has_its_time(clock):
    budget = started(clock)
    budget.validation_seconds = 60
    clock.seconds += 8 * 60
    assert budget.nearly_spent and not budget.spent, "after a validation of a minute there is none left"
    clock.seconds += 60
    assert budget.spent and budget.rate() == 0


def test_a_validation_longer_than_all_the_time_leaves_half_of_it_to_train(clock):
    budget = started(clock)
    budget.validation_seconds = 3600
    clock.seconds += 4 * 60
    assert not budget.spent


@pytest.mark.parametrize("minutes", [0, -1, math.inf, math.nan, "60", True])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(ValueError, match="minutes: expected a number above 0, got "):
        TimeBudget(minutes, learning_rate=1.0, warmup=0.2)


@pytest.mark.parametrize("warmup", [-0.1, 1])
def test_a_warm_up_outside_its_range_is_refused(warmup):
    with pytest.raises(ValueError, match="warmup: expected a share of the time"):
        TimeBudget(10, learning_rate=1.0, warmup=warmup)


def test_the_epoch_that_is_cut_short_is_validated_and_is_the_last(toy_run, clock):
    run, validated, rates = toy_run(epochs=100, cases=8, batch_size=1), [], []
    budget = TimeBudget(1, learning_rate=0.5, warmup=0, now=clock)
    run.trainer._event_handlers.clear()  # toy_run's own schedule and validation; what follows stands in pretrain.yaml
    KeepTime(budget, run.optimizer, run.evaluator).attach(run.trainer)
    ValidateLast(run.evaluator, 2).attach(run.trainer)
    run.evaluator.add_event_handler(Events.COMPLETED, lambda: validated.append(run.trainer.state.iteration))
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: rates.append(run.optimizer.param_groups[0]["lr"]))
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: setattr(clock, "seconds", clock.seconds + 3))
    run.trainer.run()
    assert run.trainer.state.iteration == 21
    assert run.trainer.state.epoch == 3
    assert validated == [21]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.5 and rates[-1] == 0
