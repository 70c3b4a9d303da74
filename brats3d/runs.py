"""What a config's ``run`` calls: train, evaluate or segment, in an output folder that it alone writes to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import nn

from brats3d.bounded import first_line
from brats3d.budget import TimeBudget
from brats3d.checkpoints import load_weights, restore_run
from brats3d.checks import header_warnings
from brats3d.datalist import item_to_case
from brats3d.failures import Failures
from brats3d.files import remove_temporary, writable_folder
from brats3d.metrics import format_table
from brats3d.resuming import (
    FREE_SETTINGS,
    FREE_WITH_PHANTOMS,
    find_run,
    keep_settings,
    read_settings,
    refuse_changes,
    with_data,
)
from brats3d.segmentations import SaveSegmentations
from brats3d.stopping import RunEvents, RunStopped, StopRun

__all__ = [
    "check_augmentation",
    "check_window",
    "run_evaluation",
    "run_inference",
    "run_pretraining",
    "run_training",
]

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
        resume: what to do with a run that is there already, see :data:`brats3d.resuming.RESUME`.
        minutes: after which this process stops as it does at a signal, and returns; None = when it is finished.
        parts: what else goes on, by the name in ``last.pt``.

    Raises:
        ValueError: if the folder cannot be written, or holds a run with other settings or data.
        SystemExit: after a signal.
    """
    if idist.get_rank() > 0:
        logger.setLevel(logging.WARNING)  # the first process alone tells
    _refuse_idle_processes(len(_cases(trainer)), "training cases")
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
        resume: what to do with a run that is there already, see :data:`brats3d.resuming.RESUME`.

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


def run_evaluation(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path,
    modalities: Sequence[str],
    output_dir: str | Path,
    roi_size: Sequence[int],
) -> None:
    """Score a checkpoint on the validation cases, none of which the run in the same folder may have been trained on.

    Args:
        evaluator: with its handlers attached.
        network: the bare network; receives the weights.
        checkpoint: which weights.
        modalities: the sequences that the input channels hold.
        output_dir: where the scores go.
        roi_size: of the sliding windows; where the weights were trained on patches of another size, that is said.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint does not fit, a case is one of the training, or the folder cannot be written.
    """
    card = load_weights(network, checkpoint, modalities)
    _compare_windows(checkpoint, card, roi_size)
    output_dir = writable_folder(output_dir)
    settings = output_dir / "settings.json"
    if settings.is_file():
        seen = sorted(set(read_settings(settings).get("training_cases", [])) & set(_cases(evaluator)))
        if seen:
            raise ValueError(
                f"{output_dir}: the run was trained on {len(seen)} of the cases to score ({', '.join(seen[:3])} ...); "
                "give evaluate the fold and the data that the training was given"
            )
    logger.info("evaluating %s (epoch %s)", checkpoint, card.get("epoch"))
    evaluator.run(int(card.get("epoch") or 1))
    for rows in evaluator.state.metric_details.values():
        logger.info("\n%s\n", format_table(rows))


def run_inference(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path,
    modalities: Sequence[str],
    cases: Sequence[Mapping[str, Any]],
    roi_size: Sequence[int],
    saver: SaveSegmentations,
    failures: Failures,
    skip_done: bool = True,
) -> None:
    """Segment every case. One that fails does not stop the others; what an earlier run has done need not be repeated.

    Of several processes, each with its share of the cases, none ends before all are done: ``torchrun`` would end the
    others as soon as one has failed.

    Args:
        evaluator: with the handler that saves attached, and a :class:`brats3d.batch.CaseLoader`.
        network: the bare network; receives the weights.
        checkpoint: which weights.
        modalities: the sequences that the input channels hold.
        cases: the datalist items; their headers are looked at first.
        roi_size: of the sliding windows; where the weights were trained on patches of another size, that is said.
        saver: the handler that saves.
        failures: take the cases that fail; may hold some already.
        skip_done: leave alone the cases that ``saver`` says are done.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: before the first case, if the checkpoint does not fit, the folder cannot be written, or the run has
            more processes than cases.
        FailedCasesError: after the last one, if cases failed.
        OSError, RuntimeError: at once, if what fails would fail for every case: a full disk, a device that is gone.
    """
    if not isinstance(skip_done, bool):  # "--skip_done false" reaches a config as the string 'false', which is true
        raise ValueError(f"skip_done: expected True or False, got {skip_done!r}")
    _compare_windows(checkpoint, load_weights(network, checkpoint, modalities), roi_size)
    if (processes := idist.get_world_size()) > 1:
        shares = [0] * processes
        dist.all_gather_object(shares, len(cases) + len(failures))  # which gloo has for the CPU alone
        _refuse_idle_processes(sum(shares), "cases")
    saver.prepare()
    failures.begin()
    done = saver.done() if skip_done else set()
    if done:
        text = (
            "%d of %d cases are skipped: done with the same weights, settings and input (--skip_done False redoes them)"
        )
        logger.info(text, len(done), len(cases) + len(failures))
    for case in map(item_to_case, cases):
        if case.case_id not in done:
            with failures.of(case.case_id):
                for warning in header_warnings(case):
                    logger.warning("%s", warning)
    evaluator.data_loader.dataset.leave_out({*done, *(failure.case_id for failure in failures)})
    evaluator.state.epoch_length = None  # the loader's end is the end
    evaluator.run()
    idist.barrier()
    failures.raise_any(len(saver.saved), len(done))
    logger.info("%d cases segmented, %d skipped, none failed: %s", len(saver.saved), len(done), saver.output_dir)


def check_window(name: str, size: Sequence[int]) -> None:
    """Called by the configs first: the network halves a window four times, and InstanceNorm needs two voxels then.

    Raises:
        ValueError: if it is not three multiples of 16 of at least 32.
    """
    good = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) for n in size)
    if not good or any(n % 16 or n < 32 for n in size):
        raise ValueError(
            f"{name}: expected three multiples of 16, each at least 32, such as [96, 96, 96], got {size!r}"
        )


def check_augmentation(on_device: bool, num_workers: int) -> None:
    """Called by train.yaml first: processes that PyTorch forks cannot use a GPU, the training process's thread can.

    Raises:
        ValueError: if ``on_device`` is no bool, or asked for together with worker processes.
    """
    if not isinstance(on_device, bool):  # "--augment_on_device false" may reach a config as a string, which is true
        raise ValueError(f"augment_on_device: expected True or False, got {on_device!r}")
    if on_device and num_workers != 0:
        raise ValueError(f"augment_on_device: expected num_workers 0 with it, a thread, got {num_workers!r}")


def _refuse_idle_processes(cases: int, what: str) -> None:
    """Called by every process, so that all end: one without a case would do another's a second time, or nothing."""
    if (processes := idist.get_world_size()) > cases:
        raise ValueError(f"{processes} processes for {cases} {what}: start at most {cases} (--nproc_per_node)")


def _cases(engine: Trainer | Evaluator) -> list[str]:
    return [item["case_id"] for item in engine.data_loader.dataset.data]


def _compare_windows(checkpoint: str | Path, card: Mapping[str, Any], roi_size: Sequence[int]) -> None:
    """InstanceNorm takes its statistics over a window, so windows of another size than the patches cost Dice."""
    patch_size = card.get("patch_size", list(roi_size))
    if patch_size != list(roi_size):
        text = '%s was trained on patches of %s, the windows are %s; --roi_size "%s" fits it better'
        logger.warning(text, checkpoint, patch_size, list(roi_size), patch_size)


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
