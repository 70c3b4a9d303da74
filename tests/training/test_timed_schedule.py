"""Time summed over the resumes of a run, and the learning rate that depends on it; the clock is set by the test."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ignite.engine import Events

from brats3d.errors import UsageError
from brats3d.training.timed_schedule import FollowSchedule, TimedSchedule
from brats3d.training.validation import Validate


class Clock:
    """A clock in seconds, set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, minutes: Any = 10, warmup: float = 0.2, elapsed: float | None = None) -> TimedSchedule:
    """A schedule with a highest rate of 1, started if ``elapsed`` minutes are given."""
    schedule = TimedSchedule(minutes, learning_rate=1.0, warmup=warmup, now=clock)
    if elapsed is not None:
        schedule.stopwatch.start()
        clock.seconds += 60 * elapsed
    return schedule


@pytest.mark.parametrize(
    ("fraction", "rate"),
    [(0, 0.1), (0.1, 0.55), (0.2, 1), (0.4, (1 + math.cos(math.pi / 4)) / 2), (0.6, 0.5), (1, 0), (2, 0)],
)
def test_the_rate_rises_and_falls_with_the_clock(clock, fraction, rate):
    assert make(clock, elapsed=10 * fraction).rate() == pytest.approx(rate)


def test_without_warmup_the_rate_starts_at_its_highest(clock):
    assert make(clock, warmup=0, elapsed=0).rate() == 1


def test_minutes_are_summed_over_resumes_without_the_time_between(clock):
    state = make(clock, elapsed=2).state_dict()
    clock.seconds += 5000
    second = make(clock)
    second.load_state_dict(state)
    assert second.elapsed_minutes == 2
    second.stopwatch.start()
    clock.seconds += 60
    assert second.elapsed_minutes == 3
    assert second.rate() == make(clock, elapsed=3).rate()


def test_more_minutes_stretch_the_curve(clock):
    longer = make(clock, minutes=20)
    longer.load_state_dict(make(clock, elapsed=10).state_dict())
    assert longer.progress == 0.5


def test_time_is_reserved_for_the_last_validation(clock):
    schedule = make(clock, elapsed=8)
    schedule.validation_minutes = 1
    assert schedule.nearly_over and schedule.progress < 1, "none is left after a validation of a minute"
    clock.seconds += 60
    assert schedule.progress == 1 and schedule.rate() == 0


def test_half_of_the_time_is_for_training_even_if_validation_is_longer(clock):
    schedule = make(clock, elapsed=4)
    schedule.validation_minutes = 60
    assert schedule.progress < 1


@pytest.mark.parametrize(
    ("knobs", "subject"),
    [({"minutes": None}, "minutes"), ({"warmup": -0.1}, "warmup"), ({"warmup": 1}, "warmup")],
    ids=str,
)
def test_knobs_outside_their_range_are_refused(clock, knobs, subject):
    with pytest.raises(UsageError) as caught:
        make(clock, **knobs)
    assert caught.value.subject == subject


def test_the_epoch_that_is_cut_short_is_validated_and_is_the_last(toy_run, clock):
    run, validated, rates = toy_run(epochs=100, cases=8, batch_size=1), [], []
    run.trainer._event_handlers.clear()  # toy_run's schedule and validation are those of train.yaml
    FollowSchedule(TimedSchedule(1, 0.5, warmup=0, now=clock), run.optimizer, run.evaluator).attach(run.trainer)
    Validate(run.evaluator, 2).attach(run.trainer)
    run.evaluator.add_event_handler(Events.COMPLETED, lambda: validated.append(run.trainer.state.iteration))
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: rates.append(run.optimizer.param_groups[0]["lr"]))
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: setattr(clock, "seconds", clock.seconds + 3))
    run.trainer.run()
    assert run.trainer.state.iteration == 21
    assert run.trainer.state.epoch == 3
    assert validated == [16, 21]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.5 and rates[-1] == 0
