"""The line an epoch."""

from __future__ import annotations

import time
from types import SimpleNamespace

from ignite.engine import Events

from brats3d.training.epoch_report import ReportEpoch
from brats3d.training.time_budget import TimeBudget


def test_an_epoch_is_reported_in_one_line_with_the_mean_loss(toy_run, log):
    run, losses = toy_run(epochs=2, cases=3), []
    ReportEpoch().attach(run.trainer)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    run.trainer.run()
    lines = [r.getMessage() for r in log.records if r.getMessage().startswith("epoch ")]
    for epoch, line in enumerate(lines, 1):
        mean = sum(losses[2 * epoch - 2 : 2 * epoch]) / 2
        assert line.startswith(f"epoch {epoch}/2  loss {mean:.4f}  learning rate ")
        assert float(line.split()[-2]) > 0 and line.endswith(" patches/s")
    assert len(lines) == 2


def test_with_a_budget_the_line_has_minutes_and_the_share_of_the_phantoms(toy_run, log):
    run, stream = toy_run(epochs=1, cases=2, batch_size=2), SimpleNamespace(seconds_making=100.0)

    def make_one() -> None:
        time.sleep(0.2)
        stream.seconds_making += 0.2

    ReportEpoch(TimeBudget(60, 1.0, 0, now=lambda: 7), stream).attach(run.trainer)
    run.trainer.add_event_handler(Events.GET_BATCH_STARTED, make_one)
    run.trainer.run()
    (line,) = [r.getMessage() for r in log.records if r.getMessage().startswith("epoch ")]
    assert line.startswith("epoch 1  minute 0.0/60  loss ")
    waiting, phantoms = (int(line.split(before)[1].split()[0]) for before in ("waiting for data ", "(phantoms "))
    assert 0 < phantoms <= waiting <= 100
