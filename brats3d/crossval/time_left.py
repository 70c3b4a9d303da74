"""The time limit of a call, divided among its folds."""

from __future__ import annotations

import time
from collections.abc import Callable


class TimeLeft:
    """The minutes that are left of a time limit.

    Args:
        limit: minutes from now; None = no limit.
        now: a clock, in seconds.
    """

    def __init__(self, limit: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = None if limit is None else now() + 60 * limit

    @property
    def minutes(self) -> float | None:
        """The minutes that are left; None without a limit."""
        return None if self._end is None else (self._end - self._now()) / 60

    @property
    def is_over(self) -> bool:
        """True if no time is left."""
        return self.minutes is not None and self.minutes <= 0
