"""The state of a run, saved during training and put back when the run goes on."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from torch import nn

from brats3d.files import first_line
from brats3d.labels import REGIONS, order_modalities
from brats3d.networks import describe_network, read_card, read_content, refuse_mismatch, save_checkpoint
from brats3d.training.stop import RunEvents

BEST = "best.pt"

LAST, PREVIOUS = "last.pt", "previous.pt"
"""The state of a run, and the one before it: what is left where a disk has damaged the newest."""

logger = logging.getLogger("brats3d")


def restore_run(
    path: str | Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr_scheduler: Any,
    trainer: Trainer,
    evaluator: Evaluator,
    parts: Mapping[str, Any] | None = None,
    content: Mapping[str, Any] | None = None,
) -> bool:
    """Put everything back that :class:`KeepCheckpoints` saved in ``last.pt``: the run goes on as if it had not stopped.

    Args:
        path: the ``last.pt``.
        network, optimizer, lr_scheduler, parts: receive their state; those that :class:`KeepCheckpoints` was given.
        trainer: goes on after the saved iteration.
        evaluator: knows the best score so far.
        content: of the file, where it has been read already.

    Returns:
        Whether the epoch that the trainer has counted last still lacks its end: its steps are done, and what follows
        them (validation, saving) is not.

    Raises:
        ValueError: if the file is damaged or comes from another network.
    """
    content = read_content(path) if content is None else content
    try:
        refuse_mismatch(
            path,
            {"network_def": json.loads(content["network_def"])},
            {"network_def": describe_network(network)},
            advice="name another --output_dir",
        )
        if content["epoch_length"] != trainer.state.epoch_length:
            raise ValueError(
                f"an epoch had {content['epoch_length']} iterations, now it has {trainer.state.epoch_length}: "
                "another number of cases or processes"
            )
        for name in ("epoch", "iteration", "best_epoch"):
            if type(content[name]) is not int:
                raise ValueError(f"{name}: expected a whole number, got {content[name]!r:.40}")
        if not isinstance(content["best_metric"], float):
            raise ValueError(f"best_metric: expected a number, got {content['best_metric']!r:.40}")
        network.load_state_dict(content["network"])
        _restore_schedule(optimizer, lr_scheduler, content)
        for name, part in (parts or {}).items():
            part.load_state_dict(content[name])
        trainer.state.epoch, trainer.state.iteration = content["epoch"], content["iteration"]
        trainer.state.pending, trainer.state.tracked = bool(content["pending"]), content["tracked"]
        trainer.state.within = bool(content["within"])
        trainer.state.restored = Path(path).name
        saved = _score_of(Path(path).with_name(BEST))  # later than this state, if the run was killed between the two
        best = max((content["best_metric"], content["best_epoch"]), saved, key=lambda each: each[0])
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = best
    except Exception as error:  # what a state of another form raises depends on the form
        if str(error).startswith("checkpoint: "):
            raise
        raise ValueError(f"checkpoint: {path} does not fit this run ({first_line(error)})") from error
    return trainer.state.pending


class KeepCheckpoints:
    """Handler of the trainer: ``best.pt`` after a validation that beat all before; ``last.pt`` after every epoch, after
    ``minutes`` since it was saved last, and when :class:`brats3d.training.RunEvents` ask for it.

    ``best.pt`` is a plain state dict. ``last.pt`` is the whole state under names: network, optimizer, lr_scheduler,
    epoch (whole ones), iteration, epoch_length, within (1: saved before the end of an epoch), pending (1: of that epoch
    only the end is left to do), tracked (the points of the last step in TensorBoard), best_metric, best_epoch,
    network_def and settings as JSON, and any further parts. The one before it stays as ``previous.pt``.
    Attach it after the handlers that validate and that change what is saved.

    Args:
        folder: where they go.
        network: the bare network, not wrapped for distributed training.
        optimizer: its state is saved.
        lr_scheduler: its state is saved.
        evaluator: gives the scores.
        modalities: for the card.
        patch_size: for the card; inference with windows of another size loses Dice (InstanceNorm).
        best: whose weights ``best.pt`` holds, where what is validated is not the network that is trained.
        parts: what else has a state, by the name under which it is saved.
        facts: called for what else the card is to say.
        minutes: from one save to the next within an epoch; None saves at the ends of epochs alone.
        now: a clock, in seconds.

    Raises:
        ValueError: if ``minutes`` is not above 0.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        evaluator: Evaluator,
        modalities: Sequence[str],
        patch_size: Sequence[int],
        best: nn.Module | None = None,
        parts: Mapping[str, Any] | None = None,
        facts: Callable[[], Mapping[str, Any]] = dict,
        minutes: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        good = isinstance(minutes, int | float) and not isinstance(minutes, bool) and minutes > 0
        if minutes is not None and not good:
            raise ValueError(f"checkpoint_minutes: expected a number above 0, or none, got {minutes!r}")
        self.folder = Path(folder)
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.modalities = list(order_modalities(modalities))
        self.patch_size = list(patch_size)
        self.best = network if best is None else best
        self.parts = dict(parts or {})
        self.facts = facts
        self.minutes = minutes
        self.now = now
        self._saved = math.inf
        self._wrote = False
        self._best = -1.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.register_events(*RunEvents)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)
        engine.add_event_handler(RunEvents.SAVE, self._save_within)
        engine.add_event_handler(RunEvents.SAVE_BEFORE_END, self._save_before_end)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save what is due at an epoch's end."""
        if not math.isfinite(self.evaluator.state.best_metric):  # MONAI takes whatever comes first for the best
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = -1, -1
        if self.evaluator.state.best_metric > self._best:
            self._best = float(self.evaluator.state.best_metric)
            save_checkpoint(
                self.folder / BEST, self.best.state_dict(), {**self._card(engine), "best_metric": self._best}
            )
        self._save(engine, engine.state.epoch, pending=False, within=False)

    def _begin(self, engine: Engine) -> None:
        self._saved = self.now()
        self._best = max(float(self.evaluator.state.best_metric), -1.0)  # a restored run's

    def _save_if_due(self, engine: Engine) -> None:
        if self.minutes is not None and self.now() - self._saved >= 60 * self.minutes:
            engine.fire_event(RunEvents.SAVE)

    def _save_within(self, engine: Engine) -> None:
        ends = engine.state.iteration % engine.state.epoch_length == 0 or bool(engine.should_terminate_single_epoch)
        self._save(engine, engine.state.epoch - 1, pending=ends)

    def _save_before_end(self, engine: Engine) -> None:
        self._save(engine, engine.state.epoch - 1, pending=True)

    def _save(self, engine: Engine, epoch: int, pending: bool, within: bool = True) -> None:
        best = self.evaluator.state
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "epoch": epoch,
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "pending": int(pending),
            "within": int(within),
            "tracked": dict(getattr(engine.state, "tracked", {})),
            "best_metric": float(best.best_metric),
            "best_epoch": best.best_metric_epoch,
            "network_def": json.dumps(describe_network(self.network)),
            "settings": getattr(engine.state, "settings", None) or "{}",
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        last = self.folder / LAST
        if self._wrote or getattr(engine.state, "restored", None) == LAST:  # else what stands there is damaged
            _keep_previous(last)
        save_checkpoint(last, content, {**self._card(engine), "epoch": epoch})
        self._saved, self._wrote = self.now(), True

    def _card(self, engine: Engine) -> dict[str, Any]:
        return {
            "modalities": self.modalities,
            "regions": list(REGIONS),
            "network_def": describe_network(self.network),
            "patch_size": self.patch_size,
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "scores": {k: round(float(v), 6) for k, v in self.evaluator.state.metrics.items() if math.isfinite(v)},
            **self.facts(),
        }


def _score_of(best: Path) -> tuple[float, int]:
    """The score of the weights in a ``best.pt``, unrounded, and its epoch; -1 and -1 where there are none."""
    try:
        card = read_card(best)
        return float(card["best_metric"]), int(card["epoch"])
    except (OSError, ValueError, KeyError):
        return -1.0, -1


def _restore_schedule(optimizer: torch.optim.Optimizer, lr_scheduler: Any, content: Mapping[str, Any]) -> None:
    """The moments of the optimizer and the place in the schedule; rates, decay and length are those of this run.

    They are the same unless the run goes on with other settings (``resume`` is ``force``), which then count.
    """
    wanted = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    length = {k: getattr(lr_scheduler, k) for k in ("base_lrs", "t_total", "warmup_steps") if hasattr(lr_scheduler, k)}
    optimizer.load_state_dict(content["optimizer"])
    lr_scheduler.load_state_dict(content["lr_scheduler"])
    for group, own in zip(optimizer.param_groups, wanted, strict=True):
        group.update(own)
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
    """A second name for the state that is about to be replaced; on file systems without links there is none."""
    if not last.is_file():
        return
    link = last.with_name(f".{PREVIOUS}.{secrets.token_hex(6)}.tmp")
    try:
        os.link(last, link)
        link.replace(last.with_name(PREVIOUS))
    except OSError:
        link.unlink(missing_ok=True)
