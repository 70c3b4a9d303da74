"""A stopwatch for wall-clock minutes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from brats3d.errors import UsageError


class Stopwatch:
    """A stopwatch that counts minutes from :meth:`start`, in addition to ``minutes_before``.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.minutes_before = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Start; no effect on a stopwatch that is running."""
        if self._started is None:
            self._started = self.now()

    def restart(self) -> None:
        """Start again from 0."""
        self.minutes_before, self._started = 0.0, self.now()

    @property
    def minutes(self) -> float:
        """Minutes so far."""
        running = 0.0 if self._started is None else (self.now() - self._started) / 60
        return self.minutes_before + running


def check_minutes(argument: str, minutes: float) -> None:
    """Check a number of minutes.

    Raises:
        UsageError: for this argument, unless its value is a finite number above 0.
    """
    is_number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
    if not is_number or not 0 < minutes < math.inf:
        raise UsageError(argument, expected="a number above 0", found=minutes)
