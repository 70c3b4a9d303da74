"""Cases that could not be segmented: set aside with the reason, so that the others go on."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from brats3d import __version__
from brats3d.files.atomic import write_json
from brats3d.files.bounded import read_json
from brats3d.files.shards import share_name

logger = logging.getLogger("brats3d")

FAILURES_NAME = "failures.json"


class FailedCasesError(ValueError):
    """Some cases failed; the others are done."""


@dataclass(frozen=True)
class Failure:
    """One case that could not be segmented.

    Args:
        case_id: which.
        folder: where its files lie; empty if that is not known.
        error: the reason, on one line.
    """

    case_id: str
    folder: str
    error: str


class Failures:
    """What went wrong, case by case, kept in ``<output_dir>/failures.json`` from :meth:`begin` on.

    The file is ``{"brats3d": version, "failures": [{"case_id", "folder", "error"}, ...]}``, written whole after each
    failure. It is about the latest run alone: one in which nothing fails removes it.

    Args:
        output_dir: the folder of the file; nothing is written there before :meth:`begin`.
        shard: which share of the cases the run has, such as ``"3/8"``: its file is ``failures-3-of-8.json``.
    """

    def __init__(self, output_dir: str | Path, shard: str | None = None) -> None:
        self.path = Path(output_dir) / share_name(FAILURES_NAME, shard)
        self.folders: dict[str, str] = {}
        """Case -> where its files lie, for what is added without saying so."""
        self._found: dict[str, Failure] = {}
        self._begun = False

    def __len__(self) -> int:
        """How many cases failed so far."""
        return len(self._found)

    def __contains__(self, case_id: object) -> bool:
        """Whether a case failed."""
        return case_id in self._found

    def __iter__(self) -> Iterator[Failure]:
        """The failures, in the order in which they came."""
        return iter(self._found.values())

    def add(self, case_id: str, error: str | BaseException, folder: str | Path | None = None) -> None:
        """Set a case aside.

        Raises:
            OSError: if the file cannot be written.
        """
        text = error if isinstance(error, str) else one_line(error)
        text = text.removeprefix("case ").removeprefix(f"{case_id}: ")
        self._found[case_id] = Failure(case_id, str(folder or self.folders.get(case_id, "")), text)
        logger.warning("%s failed: %s", case_id, text)
        if self._begun:
            self._write()

    @contextmanager
    def of(self, case_id: str) -> Iterator[None]:
        """Where a case raises, set it aside and go on after the block.

        Raises:
            OSError, RuntimeError: what every other case would meet too: a full or read-only disk, a CUDA device that
                has failed (memory that one case was too large for is that case's failure). Interrupts pass as well.
        """
        try:
            yield
        except Exception as error:
            if _concerns_all(error):
                raise
            self.add(case_id, error)

    def begin(self) -> None:
        """Replace what an earlier run has left by what is known of this one.

        Raises:
            ValueError: if a file of that name is there and is something else.
        """
        _refuse_foreign(self.path)
        self._begun = True
        self._write()

    def raise_any(self, segmented: int, skipped: int) -> None:
        """Say that cases failed, if any did.

        Args:
            segmented: how many cases the run has segmented.
            skipped: how many it has left alone.

        Raises:
            FailedCasesError: with the counts and the first reasons; one line if there is one.
        """
        if not self._found:
            return
        total = len(self) + segmented + skipped
        counts = f"{len(self)} of {total} cases failed ({segmented} segmented, {skipped} skipped)"
        lines = [f"{failure.case_id}: {failure.error}" for failure in self]
        if len(lines) == 1:
            raise FailedCasesError(f"{counts}: {lines[0]}; see {self.path}")
        more = [f"and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
        raise FailedCasesError("\n  ".join([f"{counts}; see {self.path}", *lines[:_MAX_LISTED], *more]))

    def _write(self) -> None:
        if self._found:
            write_json(self.path, {"brats3d": __version__, "failures": [asdict(failure) for failure in self]})
        else:
            self.path.unlink(missing_ok=True)


def cause_of(error: BaseException) -> BaseException:
    """What lies behind MONAI's "Failed to instantiate" and "applying transform"."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    """The cause of an error; with its type unless it is one that this package, or the system, explains."""
    error = cause_of(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ValueError | OSError) and lines:
        return "; ".join(lines)
    return ": ".join([type(error).__name__, *lines[:1]])


_MAX_LISTED = 20

_FULL = frozenset({errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})


def _concerns_all(error: BaseException | None) -> bool:
    """Whether the other cases would fail alike; what an error was raised from, or during, is looked at too."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # torch's, by its name, so that torch need not be imported. After it the device answers nothing.
    names = [kind.__name__ for kind in type(error).__mro__]
    if "AcceleratorError" in names and "out of memory" not in str(error):
        return True
    return _concerns_all(error.__cause__ or error.__context__)


def _refuse_foreign(path: Path) -> None:
    if not path.exists():
        return
    try:
        ours = {"brats3d", "failures"} <= read_json(path).keys()
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise ValueError(f"output_dir: {path} is there, and brats3d has not written it; name another --output_dir")
