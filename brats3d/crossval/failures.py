"""Folds that failed, and the error that lists them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.errors import DataError, UsageError
from brats3d.files import cause_of, one_line


@dataclass(frozen=True)
class FailedFold:
    """A fold that failed.

    Args:
        fold: its number.
        cause: the error message.
        is_usage: True if an argument was wrong.
    """

    fold: int
    cause: str
    is_usage: bool

    @classmethod
    def of_error(cls, fold: int, error: Exception) -> FailedFold:
        """Return the failure of a fold that raised an error."""
        return cls(fold, one_line(error), isinstance(cause_of(error), UsageError))


def raise_failures(failures: Sequence[FailedFold], folder: Path) -> None:
    """Raise one error that names every fold that failed, with its cause. A cause of several folds is stated once.

    Raises:
        UsageError: if every failure is one of usage.
        DataError: otherwise.
    """
    if failures:
        kind = UsageError if all(failure.is_usage for failure in failures) else DataError
        advice = "" if kind is UsageError else "run the same command again; finished folds are kept"
        raise kind.of_many(folder, _by_cause(failures), advice)


def _by_cause(failures: Sequence[FailedFold]) -> list[str]:
    """Return a text for each cause, with the folds that failed of it."""
    folds: dict[str, list[int]] = {}
    for failure in failures:
        folds.setdefault(failure.cause, []).append(failure.fold)
    return [f"fold{'s' * (len(some) > 1)} {', '.join(map(str, some))}: {cause}" for cause, some in folds.items()]
