"""Start, resume or report the training run of an output folder."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Events
from monai.engines import Trainer

from brats3d.errors import DataError
from brats3d.files import first_line, remove_temporary, writable_folder
from brats3d.networks import load_weights, single_checkpoint
from brats3d.training.checkpoints import BEST, restore_run
from brats3d.training.distributed import let_gloo_finish, refuse_idle_processes
from brats3d.training.resume import find_run, refuse_changes, run_record, save_record
from brats3d.training.run_lock import lock_run
from brats3d.training.run_state import RunState
from brats3d.training.stop_signals import RunEvents, RunStopped, StopRun

logger = logging.getLogger("brats3d")


def run_training(trainer: Trainer, run: RunState, checkpoint: str | Path | None = None, resume: str = "auto") -> None:
    """Train: start a run, resume the one in the output folder, or report it if it is finished.

    After SIGTERM or SIGINT the run finishes its step, saves its state and exits with 143 or 130.

    Args:
        trainer: the trainer with its handlers attached.
        run: the state of the run. Its settings are written to ``settings.json``, with the names of the cases and a
            digest of their files.
        checkpoint: weights to start from; None starts from random ones.
        resume: what to do with a run in the folder, see :data:`brats3d.training.RESUME`.

    Raises:
        UsageError: if the folder cannot be written, is being trained by another process, or holds a run with other
            settings or data.
        DataError: if the checkpoint is damaged or does not fit.
        SystemExit: after a signal.
    """
    if idist.get_rank() > 0:
        logger.setLevel(logging.WARNING)  # only the first process reports
    if (cases := getattr(trainer.data_loader.dataset, "data", None)) is not None:
        refuse_idle_processes(len(cases), "training cases")
    run.output_dir = writable_folder(run.output_dir)
    is_first = idist.get_rank() == 0
    try:
        with lock_run(run.output_dir) if is_first else nullcontext():
            idist.barrier()  # the others read nothing before the first has the lock
            if is_first:
                for folder in (run.output_dir, run.checkpoints):
                    remove_temporary(folder)  # those of a killed process
            _run(trainer, run, checkpoint, resume)
    finally:
        let_gloo_finish()


def _run(trainer: Trainer, run: RunState, checkpoint: str | Path | None, resume: str) -> None:
    """Start, resume or report the run of a folder that no other process trains in."""
    record = run_record(run, trainer)
    if saved := find_run(run.output_dir, resume):
        path, content = saved
        refuse_changes(content, run, record, resume)
        restore_run(run, trainer, path, content)
        if _is_finished(trainer, run):
            run.finished = True
            logger.info("%s is finished: %s, %s", run.output_dir, _position(trainer, run), _best(run))
            return
        _refuse_different_positions(trainer)
        logger.info("resuming %s after %s", run.output_dir, _position(trainer, run))
    else:
        load_weights(run.network, single_checkpoint(checkpoint), run.settings["modalities"])
        logger.info("training in %s; watch it with: tensorboard --logdir %s", run.output_dir, run.output_dir)
    save_record(run, record)
    run.finished = _train(trainer, run)
    if run.finished:
        best = run.checkpoints / BEST
        weights = f"weights in {best}" if best.is_file() else f"no {BEST}, since no validation has given a score"
        logger.info("finished: %s; %s", _best(run), weights)


def _is_finished(trainer: Trainer, run: RunState) -> bool:
    if run.timed_schedule is None:
        return trainer.state.epoch >= trainer.state.max_epochs
    if run.timed_schedule.nearly_over and run.within_epoch:
        run.epoch_end_pending = True  # only the time for the last validation is left
    return run.timed_schedule.nearly_over and not run.within_epoch


def _train(trainer: Trainer, run: RunState) -> bool:
    """Run the trainer to its end. If an earlier process stopped before a validation, do that first.

    Returns:
        True if the run is finished; False if the time limit of this process was reached.

    Raises:
        SystemExit: after a signal.
    """
    stop = StopRun(run.minutes)
    with stop.watching(trainer, run.evaluator):  # includes the logging: a signal may follow the failure
        try:
            if run.epoch_end_pending:
                _end_epoch(trainer, run, stop)
            if trainer.state.epoch < trainer.state.max_epochs:
                trainer.run()
            run.late_signal = stop.signum
            return True
        except RunStopped as stopped:
            logger.info("stopped (%s) and saved after %s; %s", stopped, _position(trainer, run), _HOW_TO_RESUME)
            if stopped.signum is None:
                return False
            raise SystemExit(stopped.exit_code) from None
        except RuntimeError as error:
            is_alone = idist.get_world_size() == 1
            if is_alone and stop.signum is None:
                raise
            if is_alone and _failed_between_steps(trainer, error):
                trainer.fire_event(RunEvents.SAVE)
                logger.info("stopped and saved after %s; %s", _position(trainer, run), _HOW_TO_RESUME)
            else:
                # The signal has also ended a process that this one needs, or another process has failed.
                logger.error(
                    "ended after %s, because a process of this run was stopped or failed (%s); %s from the last "
                    "checkpoint",
                    _position(trainer, run),
                    first_line(error),
                    _HOW_TO_RESUME,
                )
            if stop.signum is not None:
                raise SystemExit(128 + stop.signum) from error
            raise


_HOW_TO_RESUME = "run the same command again to resume"


def _failed_between_steps(trainer: Trainer, error: RuntimeError) -> bool:
    """Return True if a worker process of the loader died while the trainer waited for a batch."""
    waiting = (Events.GET_BATCH_STARTED, Events.EXCEPTION_RAISED)
    return trainer.last_event_name in waiting and "DataLoader worker" in str(error)


def _end_epoch(trainer: Trainer, run: RunState, stop: StopRun) -> None:
    """Validate and save, as after the last step of an epoch."""
    trainer.fire_event(Events.STARTED)
    trainer.state.epoch += 1
    stop.begin(start_minutes=False)
    trainer.fire_event(Events.EPOCH_COMPLETED)
    run.epoch_end_pending = False
    trainer.fire_event(Events.COMPLETED)


def _refuse_different_positions(trainer: Trainer) -> None:
    """Raise if the processes, each of which reads the checkpoint by itself, have read different states."""
    position = (trainer.state.epoch, trainer.state.iteration)
    positions = idist.all_gather(position) if idist.get_world_size() > 1 else []
    if len(set(positions)) > 1:
        raise DataError(
            "output_dir",
            f"the processes have read different states (epoch, iteration): {positions}",
            advice="run the same command again",
        )


def _position(trainer: Trainer, run: RunState) -> str:
    steps = trainer.state.iteration
    if time := run.timed_schedule:
        return f"{steps} steps, {time.elapsed_minutes:.1f} of {time.minutes:g} minutes"
    epoch, step = divmod(steps, trainer.state.epoch_length)
    return f"step {step} of epoch {epoch + 1}" if step else f"epoch {epoch}"


def _best(run: RunState) -> str:
    scores = run.evaluator.state
    if scores.best_metric_epoch < 0:
        return "not validated yet"
    return f"best mean Dice {scores.best_metric:.3f} after epoch {scores.best_metric_epoch}"
