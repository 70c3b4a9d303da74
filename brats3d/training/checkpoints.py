"""Save the state of a training while it runs, and restore it when the run is resumed."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer

from brats3d.errors import DataError, UsageError
from brats3d.files import first_line
from brats3d.labels import REGIONS, order_modalities
from brats3d.networks import describe_network, is_network_config, read_card, refuse_mismatch, save_checkpoint
from brats3d.training.run_state import RunState
from brats3d.training.stop_signals import RunEvents
from brats3d.training.stopwatch import Stopwatch, check_minutes

BEST = "best.pt"

LAST, PREVIOUS = "last.pt", "previous.pt"
"""The state of a run and the one before it, which is used if the newest is damaged."""

logger = logging.getLogger("brats3d")


def read_score(best: Path) -> tuple[float, int]:
    """Return the unrounded score of a ``best.pt`` and its epoch; -1 and -1 without one."""
    try:
        card = read_card(best)
        return float(card["best_metric"]), int(card["epoch"])
    except (OSError, ValueError, KeyError):
        return -1.0, -1


def restore_run(run: RunState, trainer: Trainer, path: Path, content: Mapping[str, Any]) -> None:
    """Restore what :class:`KeepCheckpoints` saved, so that the run continues as if it had not been interrupted.

    Args:
        run: the run to restore, built from the same config as the saved one.
        trainer: the trainer, which will continue after the saved iteration.
        path: the ``last.pt`` or ``previous.pt``.
        content: content of the file.

    Raises:
        UsageError, DataError: if the state comes from another network or run.
    """
    try:
        saved_network = {"network_def": json.loads(content["network_def"])}
        network = {"network_def": describe_network(run.network)}
        refuse_mismatch(path, saved_network, network, advice="choose another --output_dir")
        if content["epoch_length"] != trainer.state.epoch_length:
            raise ValueError(
                f"an epoch had {content['epoch_length']} iterations and now has {trainer.state.epoch_length}: the "
                "number of cases or processes has changed"
            )
        run.network.load_state_dict(content["network"])
        _restore_schedule(run.optimizer, run.lr_scheduler, content)
        for name, part in run.stateful.items():
            part.load_state_dict(content[name])
        trainer.state.epoch, trainer.state.iteration = content["epoch"], content["iteration"]
        run.epoch_end_pending, run.within_epoch = bool(content["epoch_end_pending"]), bool(content["within_epoch"])
        run.last_points = dict(content["last_points"])
        best = content["best_metric"], content["best_epoch"]
    except UsageError:
        raise
    except Exception as error:  # any other file can raise nearly anything here
        raise DataError(path, f"does not fit this run ({first_line(error)})") from error
    run.resumed_from = path
    ahead = read_score(run.checkpoints / BEST)  # newer than this state if the run was killed between the two saves
    best = max(best, ahead, key=lambda score: score[0])
    run.evaluator.state.best_metric, run.evaluator.state.best_metric_epoch = best


class KeepCheckpoints:
    """Handler of the trainer: save ``best.pt`` after a validation with a new best score, and ``last.pt`` after
    every epoch, every few minutes, and at the events :class:`brats3d.training.RunEvents`.

    ``best.pt`` is a plain state dict. ``last.pt`` is a dictionary with the whole state: network, optimizer,
    lr_scheduler, epoch (complete epochs), iteration, epoch_length, within_epoch (1: saved before the end of an epoch),
    epoch_end_pending (1: only the validation and the saving of that epoch are left), last_points (TensorBoard's scalars
    of the last step), best_metric, best_epoch, network_def and settings as JSON, and the run's further stateful
    objects. The previous state is kept as ``previous.pt``. Attach this handler after those that validate and that
    change what is saved.

    Args:
        run: the state of the run.
        minutes: time between saves within an epoch; None = save only at the end of epochs.
        now: a clock, in seconds.

    Raises:
        UsageError: if ``minutes`` is not above 0.
    """

    def __init__(self, run: RunState, minutes: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        if minutes is not None:
            check_minutes("checkpoint_minutes", minutes)
        self.run = run
        self.minutes = minutes
        self._since_save = Stopwatch(now)
        self._has_saved = False
        self._best_metric = -1.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.register_events(*RunEvents)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)
        engine.add_event_handler(RunEvents.SAVE, self._save_within_epoch)
        engine.add_event_handler(RunEvents.SAVE_BEFORE_END, self._save_before_end)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save at the end of an epoch."""
        scores = self.run.evaluator.state
        if not math.isfinite(scores.best_metric):  # MONAI accepts any first score as the best, even NaN
            scores.best_metric, scores.best_metric_epoch = -1, -1
        if scores.best_metric > self._best_metric:
            self._best_metric = float(scores.best_metric)
            card = {**self._card(engine), "best_metric": self._best_metric}
            save_checkpoint(self.run.checkpoints / BEST, self.run.best_network.state_dict(), card)
        self._save(engine, engine.state.epoch, epoch_end_pending=False, within_epoch=False)

    def _begin(self, engine: Engine) -> None:
        self._since_save.restart()
        self._best_metric = max(float(self.run.evaluator.state.best_metric), -1.0)  # not -1 in a resumed run

    def _save_if_due(self, engine: Engine) -> None:
        if self.minutes is not None and self._since_save.minutes >= self.minutes:
            engine.fire_event(RunEvents.SAVE)

    def _save_within_epoch(self, engine: Engine) -> None:
        is_last_step = engine.state.iteration % engine.state.epoch_length == 0
        ends = is_last_step or bool(engine.should_terminate_single_epoch)
        self._save(engine, engine.state.epoch - 1, epoch_end_pending=ends)

    def _save_before_end(self, engine: Engine) -> None:
        self._save(engine, engine.state.epoch - 1, epoch_end_pending=True)

    def _save(self, engine: Engine, epoch: int, epoch_end_pending: bool, within_epoch: bool = True) -> None:
        run, scores = self.run, self.run.evaluator.state
        content = {
            "network": run.network.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "lr_scheduler": run.lr_scheduler.state_dict(),
            "epoch": epoch,
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "epoch_end_pending": int(epoch_end_pending),
            "within_epoch": int(within_epoch),
            "last_points": dict(run.last_points),
            "best_metric": float(scores.best_metric),
            "best_epoch": scores.best_metric_epoch,
            "network_def": json.dumps(describe_network(run.network)),
            "settings": run.record,
            **{name: part.state_dict() for name, part in run.stateful.items()},
        }
        last = run.checkpoints / LAST
        if self._has_saved or run.resumed_from == last:  # else the existing file is damaged
            _keep_previous(last)
        save_checkpoint(last, content, {**self._card(engine), "epoch": epoch})
        self._since_save.restart()
        self._has_saved = True

    def _card(self, engine: Engine) -> dict[str, Any]:
        scores, network = self.run.evaluator.state.metrics, self.run.network_config
        return {
            "modalities": list(order_modalities(self.run.settings["modalities"])),
            "regions": list(REGIONS),
            "network_def": describe_network(self.run.network),
            **({"network": network} if is_network_config(network) else {}),
            "patch_size": list(self.run.settings["patch_size"]),  # windows of another size lose Dice (InstanceNorm)
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "scores": {name: round(float(value), 6) for name, value in scores.items() if math.isfinite(value)},
            **self.run.provenance(engine.state.iteration),
        }


def _restore_schedule(optimizer: torch.optim.Optimizer, lr_scheduler: Any, content: Mapping[str, Any]) -> None:
    """Restore the optimizer's moments and the position in the schedule; keep this run's rates, weight decay and length.

    They differ from the saved ones only if the run is resumed with other settings (``resume`` is ``force``).
    """
    options = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    length = {k: getattr(lr_scheduler, k) for k in ("base_lrs", "t_total", "warmup_steps") if hasattr(lr_scheduler, k)}
    optimizer.load_state_dict(content["optimizer"])
    lr_scheduler.load_state_dict(content["lr_scheduler"])
    for group, group_options in zip(optimizer.param_groups, options, strict=True):
        group.update(group_options)
    if all(getattr(lr_scheduler, name) == value for name, value in length.items()):
        return
    for name, value in length.items():
        setattr(lr_scheduler, name, value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "To get the last learning rate")
        rates = lr_scheduler.get_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _keep_previous(last: Path) -> None:
    """Keep the state that is about to be replaced as ``previous.pt``, if the file system has hard links."""
    if not last.is_file():
        return
    link = last.with_name(f".{PREVIOUS}.{secrets.token_hex(6)}.tmp")
    try:
        os.link(last, link)
        link.replace(last.with_name(PREVIOUS))
    except OSError:
        link.unlink(missing_ok=True)
