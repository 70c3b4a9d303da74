"""Wall-clock minutes."""

from __future__ import annotations

import math

import pytest

from brats3d.errors import UsageError
from brats3d.training.stopwatch import Stopwatch, check_minutes


def test_a_stopwatch_counts_from_its_start_and_restarts_from_0():
    seconds = [500.0]
    watch = Stopwatch(lambda: seconds[0])
    watch.minutes_before = 2
    seconds[0] += 60
    assert watch.minutes == 2
    watch.start()
    seconds[0] += 60
    watch.start()
    assert watch.minutes == 3
    watch.restart()
    seconds[0] += 30
    assert watch.minutes == 0.5


@pytest.mark.parametrize("minutes", [0, -1, math.inf, math.nan, "60", True, None])
def test_minutes_that_are_not_a_number_above_0_are_refused(minutes):
    with pytest.raises(UsageError) as caught:
        check_minutes("minutes", minutes)
    assert (caught.value.subject, caught.value.found) == ("minutes", minutes) or math.isnan(minutes)
