"""Choose the number of epochs and the interval of the validations."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from brats3d.errors import UsageError
from brats3d.plan.choice import Choice
from brats3d.plan.facts import DataFacts

ENOUGH_CASES = 300
"""Training cases that the default number of epochs suits (docs/scaling.md)."""

LEAST_PATCHES = 1000
"""Patches below which a network has learned little: the demo's 1,104 patches reached a WT of 0.8 on phantoms
(benchmarks/results/recipes.md)."""

TIME_MARGIN = 0.9
"""Fraction of the given hours that a run is planned for. Estimates are within 20 %, mostly within 10 %."""

VALIDATION_FRACTION = 0.2
"""Validations should take no more of the run than this."""

LEAST_VALIDATIONS = 10
"""Validations of a run that ``best.pt`` should be chosen from."""


def default_epochs(data: DataFacts, default: int) -> Choice:
    """Return the epochs of train.yaml, fewer for many cases, and more for very few."""
    most = most_epochs(data, default)
    least = math.ceil(LEAST_PATCHES / data.training)
    if most < default:
        reason = f"as many patches as {default} epochs of {ENOUGH_CASES} cases; more cases need fewer epochs"
        return Choice(most, reason)
    if least > default:
        return Choice(least, f"{LEAST_PATCHES} patches; fewer teach a network little")
    return Choice(default, f"the default, which suits up to {ENOUGH_CASES} training cases")


def most_epochs(data: DataFacts, default: int) -> int:
    """Return the epochs with as many patches as the default number of epochs has on :data:`ENOUGH_CASES` cases."""
    return max(1, default * ENOUGH_CASES // data.training)


def epochs_in(hours: float, most: int, seconds_of: Callable[[int], float]) -> Choice:
    """Return the largest number of epochs, up to ``most``, whose run fits into the hours.

    Raises:
        UsageError: if not even one epoch does.
    """
    limit = TIME_MARGIN * hours * 3600
    epochs = bisect.bisect_right(range(1, most + 1), limit, key=seconds_of)
    if not epochs:
        needed = seconds_of(1) / TIME_MARGIN / 3600
        raise UsageError("hours", f"one epoch takes {needed:.2g} hours with the start and a validation", found=hours)
    if epochs == most:
        return Choice(most, f"as many patches as the default has on {ENOUGH_CASES} cases; the hours allow more")
    return Choice(epochs, f"as many as fit into {TIME_MARGIN:.0%} of {hours:g} hours")


def choose_val_interval(epochs: int, epoch_seconds: float, validation_seconds: float, default: int) -> Choice:
    """Return the epochs between validations: the default, unless validations would be too few or take too long."""
    most = max(1, epochs // LEAST_VALIDATIONS)
    affordable = validation_seconds * (1 / VALIDATION_FRACTION - 1) / epoch_seconds
    interval = min(max(min(default, most), math.ceil(affordable)), most)
    if interval == default:
        return Choice(interval, "the default")
    if interval == most:
        return Choice(interval, f"about {LEAST_VALIDATIONS} validations, from which the best weights are chosen")
    return Choice(interval, f"validations take no more than {VALIDATION_FRACTION:.0%} of the run")
