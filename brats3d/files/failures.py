"""Cases that failed: recorded with the reason, so that the run continues with the others."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from brats3d import __version__
from brats3d.errors import DataError
from brats3d.files.atomic_write import write_json
from brats3d.files.ownership import PREDICTIONS_NAME, WrittenFiles
from brats3d.files.shards import shard_file_name

logger = logging.getLogger("brats3d")

FAILURES_NAME = "failures.json"


@dataclass(frozen=True)
class Failure:
    """One case that failed.

    Args:
        case_id: the case.
        folder: the folder of its files; empty if unknown.
        error: the reason, on one line.
    """

    case_id: str
    folder: str
    error: str


class Failures:
    """The failed cases of a run. From :meth:`begin` on, they are also written to ``<output_dir>/failures.json``.

    The file is ``{"brats3d": version, "failures": [{"case_id", "folder", "error"}, ...]}`` and is rewritten after each
    failure. It describes only the latest run: a run without failures removes it.

    Args:
        output_dir: folder of the file. Nothing is written before :meth:`begin`.
        shard: the part of the cases that the run processes, such as ``"3/8"``; its file is ``failures-3-of-8.json``.
    """

    def __init__(self, output_dir: str | Path, shard: str | None = None) -> None:
        self.path = Path(output_dir) / shard_file_name(FAILURES_NAME, shard)
        self.folders: dict[str, str] = {}
        """case_id -> folder of its files, for failures that are added without a folder."""
        self._record_name = shard_file_name(PREDICTIONS_NAME, shard)
        self._failures: dict[str, Failure] = {}
        self._files: WrittenFiles | None = None

    def __len__(self) -> int:
        """Number of failed cases."""
        return len(self._failures)

    def __contains__(self, case_id: object) -> bool:
        """Return True if a case failed."""
        return case_id in self._failures

    def __iter__(self) -> Iterator[Failure]:
        """Iterate over the failures in the order in which they occurred."""
        return iter(self._failures.values())

    def add(self, case_id: str, error: str | BaseException, folder: str | Path | None = None) -> None:
        """Record a failed case and log a warning.

        Raises:
            OSError: if the file cannot be written.
        """
        text = error if isinstance(error, str) else one_line(error)
        text = text.removeprefix("case ").removeprefix(f"{case_id}: ")
        self._failures[case_id] = Failure(case_id, str(folder or self.folders.get(case_id, "")), text)
        logger.warning("%s failed: %s", case_id, text)
        self._write()

    @contextmanager
    def catch(self, case_id: str) -> Iterator[None]:
        """Record a case as failed if the block raises, and continue after the block.

        Raises:
            OSError, RuntimeError: errors that would affect every case: a full or read-only disk, a broken CUDA device.
                (Running out of memory is a failure of the one case.) Interrupts are raised too.
        """
        try:
            yield
        except Exception as error:
            if _affects_every_case(error):
                raise
            self.add(case_id, error)

    def begin(self) -> None:
        """Replace the file of an earlier run by the failures known so far.

        Raises:
            UsageError: if the existing file is not what brats3d wrote.
        """
        files = WrittenFiles(self.path.parent, self._record_name)
        files.check_replaceable([self.path.name])
        self._files = files
        self._write()

    def raise_any(self, segmented: int, skipped: int) -> None:
        """Raise if any case failed.

        Args:
            segmented: number of cases segmented by this run.
            skipped: number of cases skipped.

        Raises:
            DataError: listing the failed cases.
        """
        if self._failures:
            total = len(self) + segmented + skipped
            counts = f"{len(self)} of {total} cases failed ({segmented} segmented, {skipped} skipped)"
            problems = [f"{failure.case_id}: {failure.error}" for failure in self]
            raise DataError.of_many(counts, problems, f"see {self.path}")

    def _write(self) -> None:
        if self._files is None:
            return
        if not self._failures:
            self.path.unlink(missing_ok=True)
            return
        content = {"brats3d": __version__, "failures": [asdict(failure) for failure in self]}
        write_json(self.path, content, self._files.write)


def cause_of(error: BaseException) -> BaseException:
    """Return the original error that MONAI wrapped in "Failed to instantiate" or "applying transform"."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    """Return the cause of an error on one line, with its type unless it is a ValueError or OSError."""
    error = cause_of(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ValueError | OSError) and lines:
        return "; ".join(lines)
    return ": ".join([type(error).__name__, *lines[:1]])


_FULL = frozenset({errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})


def _affects_every_case(error: BaseException | None) -> bool:
    """Return True if the error, or an error behind it, would occur for every other case too."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # torch's error, matched by name to avoid importing torch. The device does not recover from it.
    names = [kind.__name__ for kind in type(error).__mro__]
    if "AcceleratorError" in names and "out of memory" not in str(error):
        return True
    return _affects_every_case(error.__cause__ or error.__context__)
