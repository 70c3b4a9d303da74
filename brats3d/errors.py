"""The exceptions that brats3d raises for wrong use and for bad data.

Both are ``ValueError``s, so that ``except ValueError`` catches them. Their fields say what is wrong. The message is
built from the fields, and the type determines the exit code of the ``brats3d`` command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

MAX_LISTED = 20
"""Limit of the problems that one message lists; the rest are counted."""

_NOTHING: Any = object()


class ExplainedError(ValueError):
    """An error with fields. Raise one of its subclasses.

    Args:
        subject: the argument, file, folder or case that is wrong.
        problem: what is wrong with it, unless ``expected`` and ``found`` say so.
        expected: the valid values, or what a valid file contains.
        found: the value received; the message has at most 80 characters of its ``repr``.
        advice: what the user can do.

    ``str(error)`` is ``subject: problem; expected ..., got ...; advice``, without the parts that are missing.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        subject: str | Path,
        problem: str = "",
        *,
        expected: str = "",
        found: Any = _NOTHING,
        advice: str = "",
    ) -> None:
        self.subject = str(subject)
        self.problem = problem
        self.expected = expected
        self.found = None if found is _NOTHING else found
        self.advice = advice
        self.problems: tuple[str, ...] = ()
        compared = f"expected {expected}" if expected else ""
        if found is not _NOTHING:
            compared += f"{', ' if compared else ''}got {found!r:.80}"
        text = "; ".join(part for part in (problem, compared, advice) if part)
        super().__init__(f"{self.subject}: {text}" if text else self.subject)

    @classmethod
    def of_many(cls, subject: str | Path, problems: Sequence[str], advice: str = "") -> Self:
        """Return one error that lists several problems, so that the user can fix all of them at once.

        A single problem gives a message of one line; several give a line each, at most :data:`MAX_LISTED`.
        """
        if len(problems) == 1:
            error = cls(subject, problems[0], advice=advice)
        else:
            more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
            lines = [f"{len(problems)} problems", *(f"  {line}" for line in (*problems[:MAX_LISTED], *more))]
            error = cls(subject, "\n".join([*lines, *([f"What to do: {advice}"] if advice else [])]))
            error.advice = advice
        error.problems = tuple(problems)
        return error


class UsageError(ExplainedError):
    """An argument that cannot be used: an unknown name, a value outside its range, a path that must not be written.

    ``subject`` is the argument's name.
    """

    exit_code = 2


class NotFoundError(UsageError, FileNotFoundError):
    """A path given by the user does not exist."""


class DataError(ExplainedError):
    """A file, case or data set that cannot be used. ``subject`` is the file, folder or case."""
