"""Signals, without a training."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from brats3d.training import stop_signals
from brats3d.training.stop_signals import RunStopped, StopRun


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def exits(monkeypatch) -> list[int]:
    """Codes with which the process would have ended at once."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_a_second_signal_ends_the_process_at_once(exits):
    stop = StopRun()
    stop._receive(signal.SIGINT, None)
    assert stop.signum == signal.SIGINT and not exits
    stop._receive(signal.SIGTERM, None)
    assert exits == [143]


def test_in_a_distributed_run_a_signal_and_its_echo_count_once(exits, monkeypatch):
    monkeypatch.setattr(stop_signals.idist, "get_world_size", lambda: 2)
    clock = Clock()
    stop = StopRun(now=clock)
    stop._receive(signal.SIGTERM, None)
    clock.seconds += 4
    stop._receive(signal.SIGTERM, None)
    assert not exits
    clock.seconds += 2
    stop._receive(signal.SIGTERM, None)
    assert exits == [143]


def test_a_worker_process_leaves_the_signal_to_its_parent(exits, monkeypatch):
    stop = StopRun()
    monkeypatch.setattr(stop, "_process", os.getpid() + 1)
    stop._receive(signal.SIGTERM, None)
    stop._receive(signal.SIGTERM, None)
    assert stop.signum is None and not exits


def test_outside_the_main_thread_signals_keep_their_handlers():
    before, after = signal.getsignal(signal.SIGTERM), []

    def begin() -> None:
        StopRun().begin()
        after.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert after == [before]


def test_exit_codes_are_those_of_a_shell():
    assert [RunStopped(s).exit_code for s in (signal.SIGTERM, signal.SIGINT, None)] == [143, 130, 0]
    assert str(RunStopped(signal.SIGTERM)) == "SIGTERM"
