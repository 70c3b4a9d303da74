"""Cross-validation: every fold in turn or side by side, then the results of all."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from brats3d.crossval.check import Checked, check
from brats3d.crossval.combine import check_results_replaceable, combine_folds
from brats3d.crossval.cross_validation import CrossValidation
from brats3d.crossval.failures import FailedFold, raise_failures
from brats3d.crossval.finished_folds import is_finished
from brats3d.crossval.one_fold import Echo, run_fold
from brats3d.crossval.side_by_side import SideBySide
from brats3d.crossval.time_left import TimeLeft
from brats3d.files import writable_folder
from brats3d.report import write_crossval_settings
from brats3d.training import lock_run

logger = logging.getLogger("brats3d")


def cross_validate(
    crossval: CrossValidation,
    fold: int | None = None,
    minutes: float | None = None,
    side_by_side: SideBySide | None = None,
    combine: bool = True,
    echo: Echo = print,
) -> None:
    """Train and evaluate every fold; the call that finds all of them finished combines their results.

    Finished folds are skipped, and interrupted ones are resumed. A fold that fails does not stop the others. A call for
    all folds locks the folder; calls for one fold each may run at the same time.

    Args:
        crossval: the settings.
        fold: only this fold; None = all.
        minutes: time limit of the call, after which the running fold saves and stops; None = none.
        side_by_side: train folds at the same time, in processes of their own; None = one after the other in this one.
        combine: combine the results when all folds are finished.
        echo: prints a line.

    Raises:
        UsageError: if an argument is wrong, the folder cannot be written or holds folds of other settings or data, or
            another call for all folds is running.
        DataError: if the data cannot be used; or at the end, naming the folds that failed.
        SystemExit: after SIGTERM, with the state of the running fold saved.
    """
    with _exit_on_sigterm(), ExitStack() as stack:
        check_results_replaceable(crossval)
        checked, time_left = check(crossval, fold, minutes), TimeLeft(minutes)
        writable_folder(crossval.output_dir)
        if fold is None:
            stack.enter_context(lock_run(crossval.output_dir))
        write_crossval_settings(crossval.output_dir, len(checked.folds), checked.settings)
        is_done = partial(is_finished, crossval, made_with=checked.made_with)
        asked = range(len(checked.folds)) if fold is None else [fold]
        for k in filter(is_done, asked):
            logger.info("fold %d is finished", k)
        left = [k for k in asked if not is_done(k)]
        if side_by_side is not None:
            failures = side_by_side.run(crossval, left, is_done, time_left)
        else:
            failures = _one_after_another(crossval, left, checked, time_left, echo)
        raise_failures(failures, crossval.output_dir)
        unfinished = [k for k in range(len(checked.folds)) if not is_done(k)]
        if not unfinished and combine:
            combine_folds(crossval, checked, echo)
        elif combine:
            numbers = ", ".join(map(str, unfinished))
            logger.info("not finished yet: folds %s; the call that finishes the last one combines them", numbers)


def _one_after_another(
    crossval: CrossValidation, folds: Sequence[int], checked: Checked, time_left: TimeLeft, echo: Echo
) -> list[FailedFold]:
    """Run the folds in this process until the time is over; return those that failed."""
    failures = []
    for fold in folds:
        if time_left.is_over:
            break
        gc.collect()  # what the check built, or a fold that failed: both would stay in the memory of a GPU
        logger.info("fold %d (folds 0 to %d)", fold, len(checked.folds) - 1)
        try:
            run_fold(crossval, fold, checked.made_with, time_left.minutes, echo)
        except Exception as error:
            logger.debug("fold %d failed", fold, exc_info=True)
            failures.append(FailedFold.of_error(fold, error))
            logger.error("fold %d failed: %s", fold, failures[-1].cause)
    return failures


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """End the process with 143 after SIGTERM, also outside a training, which catches the signal itself."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
