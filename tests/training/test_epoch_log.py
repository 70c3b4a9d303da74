"""The log line of an epoch."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

from ignite.engine import Events

from brats3d.training.epoch_log import LogEpoch
from brats3d.training.timed_schedule import TimedSchedule


def test_each_epoch_logs_one_line_with_the_mean_loss(toy_run, log):
    run, losses = toy_run(epochs=2, cases=3), []
    LogEpoch().attach(run.trainer)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    run.trainer.run()
    lines = [r.getMessage() for r in log.records if r.getMessage().startswith("epoch ")]
    for epoch, line in enumerate(lines, 1):
        mean = sum(losses[2 * epoch - 2 : 2 * epoch]) / 2
        assert line.startswith(f"epoch {epoch}/2  loss {mean:.4f}  learning rate ")
        assert float(line.split()[-2]) > 0 and line.endswith(" patches/s")
    assert len(lines) == 2


def test_a_timed_run_logs_minutes_and_the_time_spent_generating_phantoms(toy_run, log):
    run, stream = toy_run(epochs=1, cases=2, batch_size=2), SimpleNamespace(seconds_making=100.0)

    def make_one() -> None:
        time.sleep(0.2)
        stream.seconds_making += 0.2

    schedule = TimedSchedule(60, 1.0, 0, now=lambda: 7)
    LogEpoch(schedule, stream).attach(run.trainer)
    run.trainer.add_event_handler(Events.GET_BATCH_STARTED, make_one)
    run.trainer.run()
    (line,) = [r.getMessage() for r in log.records if r.getMessage().startswith("epoch ")]
    assert line.startswith("epoch 1  minute 0.0/60  loss ")
    waiting, phantoms = (int(line.split(before)[1].split()[0]) for before in ("waiting for data ", "(phantoms "))
    assert 0 < phantoms <= waiting <= 100


def test_the_mean_loss_ignores_skipped_steps(toy_run, log):
    run, losses = toy_run(epochs=1, cases=6), []
    loss = run.trainer.loss_function
    run.trainer.loss_function = lambda pred, label: loss(pred, label) * (math.nan if len(losses) == 1 else 1)
    LogEpoch().attach(run.trainer)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    run.trainer.run()
    (line,) = [r.getMessage() for r in log.records if r.getMessage().startswith("epoch ")]
    assert math.isnan(losses[1])
    assert f"loss {(losses[0] + losses[2]) / 2:.4f} (1 steps not finite)" in line
