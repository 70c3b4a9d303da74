"""Run folds at the same time: one process for each device, each with ``--fold`` and ``--device``.

A process stops by itself, with its state saved, when the process that started it ends, however it ends: it waits for
the end of its standard input, which only the starting process holds open.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.crossval.cross_validation import CrossValidation
from brats3d.crossval.failures import FailedFold
from brats3d.crossval.time_left import TimeLeft
from brats3d.errors import UsageError
from brats3d.training import is_stopping

LOG_NAME = "log.txt"
"""The output of a fold's process, in the fold's folder."""

POLL_SECONDS = 0.2

ECHO_SECONDS = 2.0
"""Time for a scheduler's own signal to arrive; a second one would end a training before it has saved."""

logger = logging.getLogger("brats3d")


@dataclass
class _Process:
    """The process of a fold. Its output is appended to ``log``, from byte ``start`` on."""

    fold: int
    device: str
    log: Path
    start: int
    process: subprocess.Popen[bytes]


class SideBySide:
    """Runs folds in processes of their own, as many at the same time as there are devices.

    Args:
        command: the command line that runs one fold, without ``--fold``, ``--device`` and ``--minutes``.
        devices: the device of each process, such as ``["cuda:0", "cuda:1"]``.

    Raises:
        UsageError: if a device is unknown or not there.
    """

    def __init__(self, command: Sequence[str], devices: Sequence[str]) -> None:
        self.command = list(command)
        self.devices = [_check_device(device) for device in devices]

    def run(
        self, crossval: CrossValidation, folds: Sequence[int], is_done: Callable[[int], bool], time_left: TimeLeft
    ) -> list[FailedFold]:
        """Run the folds. If this call is interrupted, its processes save and stop first.

        Args:
            crossval: the cross-validation.
            folds: the folds, in the order in which they start.
            is_done: returns True if a fold is finished.
            time_left: no fold starts after its end.

        Returns:
            The folds that failed.
        """
        waiting, running, failures = list(folds), list[_Process](), list[FailedFold]()
        try:
            while running or (waiting and not time_left.is_over):
                for device in self._free(running):
                    if waiting and not time_left.is_over:
                        running.append(self._start(crossval, waiting.pop(0), device, time_left.minutes))
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    failures += _outcome(each, is_done(each.fold))
                time.sleep(POLL_SECONDS)
        finally:
            for each in running:
                _close_input(each)
            for each in running:
                each.process.wait()
                logger.info("fold %d has stopped", each.fold)
        return failures

    def _free(self, running: Sequence[_Process]) -> list[str]:
        free = list(self.devices)
        for each in running:
            free.remove(each.device)
        return free

    def _start(self, crossval: CrossValidation, fold: int, device: str, minutes: float | None) -> _Process:
        log = crossval.folder(fold) / LOG_NAME
        log.parent.mkdir(parents=True, exist_ok=True)
        options = ["--fold", str(fold), "--device", device, *(["--minutes", str(minutes)] if minutes else [])]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self.command, *options],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which passes it on once
            )
            start = output.tell()
        logger.info("fold %d on %s, process %d; output in %s", fold, device, process.pid, log)
        return _Process(fold, device, log, start, process)


def stop_with_parent() -> threading.Thread:
    """Send SIGTERM to this process when its standard input ends, unless its training is stopping already.

    Returns:
        The thread that waits for it.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        time.sleep(ECHO_SECONDS)
        if not is_stopping():
            os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=wait, name="stop with parent", daemon=True)
    watching.start()
    return watching


def _check_device(name: str) -> str:
    import torch

    try:
        device = torch.device(name.strip())
    except RuntimeError as error:
        raise UsageError("devices", expected="names such as cuda:0,cuda:1 or cpu,cpu", found=name) from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError("devices", f"there is no {device}", expected=f"one of {count} GPUs", found=name)
    return str(device)


def _close_input(each: _Process) -> None:
    if each.process.stdin is not None:
        each.process.stdin.close()


def _outcome(each: _Process, is_done: bool) -> list[FailedFold]:
    """Report how the process of a fold has ended; return its failure, if it failed."""
    code = each.process.returncode
    if code == 0:
        logger.info("fold %d is finished" if is_done else "fold %d has stopped at the time limit", each.fold)
        return []
    with each.log.open("rb") as file:
        file.seek(each.start)
        _, marker, message = file.read().decode(errors="replace").rpartition("brats3d: error: ")
    cause = message.strip() if marker else f"the process has ended with exit code {code}, see {each.log}"
    logger.error("fold %d failed: %s", each.fold, cause)
    return [FailedFold(each.fold, cause, is_usage=code == UsageError.exit_code)]
