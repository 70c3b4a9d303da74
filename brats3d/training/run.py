"""What a config's ``run`` calls: train, evaluate or segment, in an output folder that it alone writes to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import nn

from brats3d.files import first_line, remove_temporary, writable_folder
from brats3d.networks import load_weights
from brats3d.training.checkpoints import restore_run
from brats3d.training.distributed import refuse_idle_processes
from brats3d.training.resume import (
    FREE_SETTINGS,
    FREE_WITH_PHANTOMS,
    find_run,
    keep_settings,
    refuse_changes,
    with_data,
)
from brats3d.training.stop import RunEvents, RunStopped, StopRun
from brats3d.training.time_budget import TimeBudget

logger = logging.getLogger("brats3d")


def run_training(
    trainer: Trainer,
    evaluator: Evaluator,
    network: nn.Module,
    optimizer: Any,
    lr_scheduler: Any,
    settings: Mapping[str, Any],
    output_dir: str | Path,
    checkpoint: str | Path | None = None,
    resume: str = "auto",
    minutes: float | None = None,
    parts: Mapping[str, Any] | None = None,
) -> None:
    """Train; go on where an earlier run in the same folder stopped; only report one that is finished.

    SIGTERM and SIGINT end the step and save the state; the process then exits with 143 or 130.

    Args:
        trainer: with its handlers attached.
        evaluator: of the validation cases.
        network: the bare network, not wrapped for distributed training.
        optimizer: the trainer's.
        lr_scheduler: the trainer's.
        settings: the knobs; kept in ``settings.json``, with the names of the cases and a digest of their files.
        output_dir: where everything that the run writes goes.
        checkpoint: weights to start from; None starts from random ones.
        resume: what to do with a run that is there already, see :data:`brats3d.training.RESUME`.
        minutes: after which this process stops as it does at a signal, and returns; None = when it is finished.
        parts: what else goes on, by the name in ``last.pt``.

    Raises:
        ValueError: if the folder cannot be written, or holds a run with other settings or data.
        SystemExit: after a signal.
    """
    if idist.get_rank() > 0:
        logger.setLevel(logging.WARNING)  # the first process alone tells
    refuse_idle_processes(len(_cases(trainer)), "training cases")
    stop = StopRun(minutes)
    output_dir = _run_folder(output_dir)
    settings = with_data(settings, trainer, evaluator)
    pending = False
    if run := find_run(output_dir, resume):
        refuse_changes(run, output_dir, settings, FREE_SETTINGS, resume)
        pending = restore_run(run.path, network, optimizer, lr_scheduler, trainer, evaluator, parts, run.content)
        if trainer.state.epoch >= trainer.state.max_epochs:
            logger.info("%s is finished: %d epochs, %s", output_dir, trainer.state.epoch, _best(evaluator))
            return
        _compare_places(trainer)
        logger.info("going on in %s after %s", output_dir, _place(trainer))
    else:
        load_weights(network, checkpoint, settings["modalities"])
        logger.info("training in %s; watch it with: tensorboard --logdir %s", output_dir, output_dir)
    keep_settings(trainer, settings, output_dir, write=idist.get_rank() == 0)
    if _finish(trainer, evaluator, stop, pending):
        weights = output_dir / "checkpoints" / "best.pt"
        logger.info("finished: %s; weights in %s", _best(evaluator), weights)


def run_pretraining(
    trainer: Trainer,
    evaluator: Evaluator,
    network: nn.Module,
    optimizer: Any,
    budget: TimeBudget,
    parts: Mapping[str, Any],
    settings: Mapping[str, Any],
    output_dir: str | Path,
    checkpoint: str | Path | None = None,
    resume: str = "auto",
) -> None:
    """Train on phantoms until the time is up; go on where an earlier run in the same folder stopped.

    Signals are treated as :func:`run_training` does it.

    Args:
        trainer: with its handlers attached.
        evaluator: of the validation phantoms.
        network: the bare network.
        optimizer: the trainer's.
        budget: of time.
        parts: what else goes on, by the name in ``last.pt``: the average of the weights, the stream of phantoms.
        settings: the knobs; kept in ``settings.json``.
        output_dir: where everything that the run writes goes.
        checkpoint: weights to start from; None starts from random ones.
        resume: what to do with a run that is there already, see :data:`brats3d.training.RESUME`.

    Raises:
        ValueError: if the folder cannot be written, or holds a run with other settings.
        SystemExit: after a signal.
    """
    output_dir = _run_folder(output_dir)
    pending = False
    if run := find_run(output_dir, resume):
        refuse_changes(run, output_dir, settings, FREE_WITH_PHANTOMS, resume)
        pending = restore_run(run.path, network, optimizer, budget, trainer, evaluator, parts, run.content)
        so_far = f"{trainer.state.iteration} steps, {budget.elapsed_minutes:.1f} of {budget.minutes:g} minutes"
        if budget.nearly_spent and not trainer.state.within:
            logger.info("%s is finished: %s, %s; more --minutes go on", output_dir, so_far, _best(evaluator))
            return
        pending = pending or budget.nearly_spent  # what is left of the time is the last validation's
        logger.info("going on in %s after %s", output_dir, so_far)
    else:
        load_weights(network, checkpoint, settings["modalities"])
        logger.info("training in %s; watch it with: tensorboard --logdir %s", output_dir, output_dir)
    keep_settings(trainer, settings, output_dir, write=True)
    if _finish(trainer, evaluator, StopRun(), pending):
        logger.info(
            "the %g minutes are up: %d steps, %s; weights in %s",
            budget.minutes,
            trainer.state.iteration,
            _best(evaluator),
            output_dir / "checkpoints" / "best.pt",
        )


def _cases(engine: Trainer | Evaluator) -> list[str]:
    return [item["case_id"] for item in engine.data_loader.dataset.data]


def _run_folder(output_dir: str | Path) -> Path:
    """Made if it is missing; without what a killed run was writing there."""
    folder = writable_folder(output_dir)
    if idist.get_rank() == 0:
        for part in (folder, folder / "checkpoints"):
            remove_temporary(part)
    return folder


def _finish(trainer: Trainer, evaluator: Evaluator, stop: StopRun, pending: bool) -> bool:
    """Run the trainer to its end, after the end of an epoch that an earlier part left ``pending``.

    Returns:
        Whether it has come to its end; False after the run's own minutes.

    Raises:
        SystemExit: after a signal.
    """
    with stop.watching(trainer, evaluator):  # until all is said: a signal may follow what has gone wrong
        try:
            if pending:
                _end_epoch(trainer, stop)
            if trainer.state.epoch < trainer.state.max_epochs:
                trainer.run()
            return True
        except RunStopped as stopped:
            said = "stopped (%s) and saved after %s; the same command goes on from there"
            logger.info(said, stopped, _place(trainer))
            if stopped.signum is None:
                return False
            raise SystemExit(stopped.exit_code) from None
        except RuntimeError as error:
            alone = idist.get_world_size() == 1
            if alone and stop.signum is None:
                raise
            if (
                alone
                and trainer.last_event_name in (Events.GET_BATCH_STARTED, Events.EXCEPTION_RAISED)
                and _waited(error)
            ):
                trainer.fire_event(RunEvents.SAVE)  # between two steps, and whole
                logger.info("stopped and saved after %s; the same command goes on from there", _place(trainer))
            else:
                # The signal has also ended a process that this one needs, or one has failed and the others miss it.
                logger.error(
                    "ended after %s, since a process of this run was stopped or has failed (%s); the same command goes "
                    "on from the state saved last",
                    _place(trainer),
                    first_line(error),
                )
            if stop.signum is not None:
                raise SystemExit(128 + stop.signum) from error
            raise


def _waited(error: RuntimeError) -> bool:
    """Whether it comes from waiting for a batch of the loader's worker processes."""
    return "DataLoader worker" in str(error)


def _end_epoch(trainer: Trainer, stop: StopRun) -> None:
    """Do what follows the last step of an epoch."""
    trainer.fire_event(Events.STARTED)
    trainer.state.epoch += 1
    stop.begin(clock=False)
    trainer.fire_event(Events.EPOCH_COMPLETED)
    trainer.state.pending = False
    trainer.fire_event(Events.COMPLETED)


def _compare_places(trainer: Trainer) -> None:
    """Every process reads the state for itself."""
    places = idist.all_gather((trainer.state.epoch, trainer.state.iteration)) if idist.get_world_size() > 1 else []
    if len(set(places)) > 1:
        raise ValueError(f"the processes have read different states (epoch, iteration): {places}; start them again")


def _place(trainer: Trainer) -> str:
    done, length = trainer.state.iteration, trainer.state.epoch_length
    return f"epoch {done // length}" if done % length == 0 else f"step {done % length} of epoch {done // length + 1}"


def _best(evaluator: Evaluator) -> str:
    if evaluator.state.best_metric_epoch < 0:
        return "not validated yet"
    return f"best mean Dice {evaluator.state.best_metric:.3f} after epoch {evaluator.state.best_metric_epoch}"
