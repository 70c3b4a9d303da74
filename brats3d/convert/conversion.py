"""Convert Kaggle's HDF5 slices or the Decathlon's 4-D images into BraTS 2020's NIfTI layout.

The source is only read. A case's folder appears whole or not at all, so that the same command resumes an
interrupted conversion.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from brats3d.cases import check_path_syntax
from brats3d.convert.detect_form import SourceCase, SourceDataset, detect_form
from brats3d.convert.records import AmbiguousSlice, ConvertedCase
from brats3d.errors import MAX_LISTED, DataError, NotFoundError, UsageError
from brats3d.files import (
    explain_full_disk,
    flush_file,
    read_json,
    remove_leftovers,
    whole_folder,
    writable_folder,
    write_nifti,
    write_whole,
)


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Args:
        out: the output folder.
        written: case_ids written in this run.
        skipped: case_ids that existed already.
        failed: case_id -> what is wrong with its files.
        ambiguous: slices, of all cases in ``out``, whose intensities are known only up to a common factor.
    """

    out: Path
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]
    ambiguous: tuple[AmbiguousSlice, ...]

    def summary(self) -> list[str]:
        """Return lines to print: the counts, the failures, and the commands to run next."""
        written, skipped, failed = len(self.written), len(self.skipped), len(self.failed)
        lines = [
            f"Converted {written} case{'s' * (written != 1)} to {self.out} ({skipped} already done, {failed} failed)"
        ]
        lines += [f"  {case_id}: {problem}" for case_id, problem in list(self.failed.items())[:MAX_LISTED]]
        if failed > MAX_LISTED:
            lines.append(f"  and {failed - MAX_LISTED} more, see conversion.json")
        if self.ambiguous:
            guessed = sum(part.factor != 1 for part in self.ambiguous)
            lines.append(
                f"{len(self.ambiguous)} slices of single modalities have too few distinct intensities to determine "
                f"their common factor; a factor was estimated for {guessed} of them, see conversion.json"
            )
        if self.written or self.skipped:
            folder = shlex.quote(str(self.out))
            lines.append(f"Next: brats3d audit {folder}, then brats3d train {folder}")
        return lines


def convert_dataset(
    src: str | os.PathLike[str], out: str | os.PathLike[str], workers: int | None = None, progress: bool = True
) -> Conversion:
    """Write the cases of ``src`` to ``out`` as ``<case_id>/<case_id>_<t1|t1ce|t2|flair|seg>.nii.gz``.

    A damaged case does not stop the others. ``conversion.json`` is written beside the cases.

    Args:
        src: a folder with Kaggle's HDF5 slices (see :mod:`brats3d.convert.kaggle_h5`) or with a Decathlon task (see
            :mod:`brats3d.convert.decathlon`), or up to four folders above it.
        out: the output folder, created if missing. Cases that exist there are skipped.
        workers: number of processes; one per processor by default. 1 converts in this process.
        progress: print what will be done, and show a progress bar, on standard error.

    Raises:
        UsageError: if ``src`` does not exist, ``out`` is ``src`` or lies in it, or an argument is wrong.
        DataError: if ``src`` holds nothing that can be converted.
        OSError: if the disk fills up or a worker is killed. Finished cases are kept, and nothing is half written.
    """
    from tqdm import tqdm

    if workers is not None and workers < 1:
        raise UsageError("workers", expected="an integer from 1", found=workers)
    check_output(src, out)
    out = Path(out).expanduser()
    source = detect_form(src)
    writable_folder(out, "out")
    existing = [case for case in source.cases if (out / case.case_id).exists()]
    todo = [case for case in source.cases if not (out / case.case_id).exists()]
    if progress:
        print(f"{source.form}: {len(source.cases)} cases, {len(existing)} already converted", file=sys.stderr)
    remove_leftovers(out)
    problems = {case.case_id: _missing_files(case, out) for case in existing}
    skipped = tuple(case_id for case_id, problem in problems.items() if not problem)
    with explain_full_disk(out, "finished cases are kept"):
        _copy_tables(source.tables, out)
        try:
            results = _convert_all(todo, out, workers or _processors())
            problems.update(tqdm(results, total=len(todo), unit="case", disable=not (progress and todo)))
        finally:
            written = tuple(case.case_id for case in todo if problems.get(case.case_id, "not reached") is None)
            failed = {case.case_id: problem for case in source.cases if (problem := problems.get(case.case_id))}
            conversion = Conversion(out, written, skipped, failed, _ambiguous_slices(source.cases, out))
            _write_report(conversion, source)
    return conversion


def check_output(src: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Check the folders of a conversion before anything is read.

    Raises:
        UsageError: if ``src`` does not exist or is not a folder; if ``out`` is the same folder, lies in it, or has a
            path that MONAI would read as syntax.
    """
    check_path_syntax(os.fspath(out), "out")
    source, target = Path(src).expanduser(), Path(out).expanduser()
    if not source.exists():
        raise NotFoundError("src", "no such folder", found=str(source), advice="check the path")
    if not source.is_dir():
        raise UsageError("src", expected="a folder with a data set", found=str(source), advice="unpack archives first")
    if target.exists() and not target.is_dir():
        raise UsageError("out", "is a file", expected="a folder", found=str(out), advice="choose another")
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise UsageError("out", expected=f"a folder outside the source {src}", found=str(out), advice="choose another")


_RECORD = ".conversion.json"


def _copy_tables(tables: Sequence[Path], out: Path) -> None:
    for table in tables:
        if not (target := out / table.name).exists():
            with table.open("rb") as file:
                write_whole(target, partial(shutil.copyfileobj, file))


def _convert_all(cases: Sequence[SourceCase], out: Path, workers: int) -> Iterator[tuple[str, str | None]]:
    """Convert cases in several processes; yield each case_id and the case's problem, None if it was written."""
    if min(workers, len(cases)) <= 1:
        for case in cases:
            yield case.case_id, _convert(case, out)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(cases)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        problems = pool.map(partial(_convert, out=out), cases)
        yield from zip((case.case_id for case in cases), problems, strict=True)
    except BrokenProcessPool:
        raise OSError(
            f"{out}: a worker was killed, perhaps because memory ran out; finished cases are kept: run the same "
            "command again with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which waits for the cases in progress; exit if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _convert(case: SourceCase, out: Path) -> str | None:
    """Convert one case; return what is wrong with its files, or None."""
    try:
        converted = case.read()
    except DataError as error:
        return str(error)
    _write_case(case, converted, out)
    return None


def _write_case(case: SourceCase, converted: ConvertedCase, out: Path) -> None:
    with (
        suppress(FileExistsError),
        whole_folder(out / case.case_id) as hidden,
    ):  # another run may be faster
        for kind in case.kinds:
            write_nifti(hidden / f"{case.case_id}_{kind}.nii.gz", converted.arrays[kind], converted.affine)
        record = hidden / _RECORD
        record.write_text(json.dumps({"ambiguous": [asdict(part) for part in converted.ambiguous]}), encoding="utf-8")
        flush_file(record)


def _missing_files(case: SourceCase, out: Path) -> str | None:
    """Describe the files that an existing folder of a case lacks; return None if it is complete."""
    folder = out / case.case_id
    names = [f"{case.case_id}_{kind}.nii" for kind in case.kinds]
    missing = [name for name in names if not ((folder / name).exists() or (folder / f"{name}.gz").exists())]
    return f"{folder} exists without {', '.join(missing)}[.gz]; remove the folder" if missing else None


def _ambiguous_slices(cases: Sequence[SourceCase], out: Path) -> tuple[AmbiguousSlice, ...]:
    """Read the ambiguous slices of all converted cases, also of earlier runs, from the records in their folders."""
    slices: list[AmbiguousSlice] = []
    for case in cases:
        record = out / case.case_id / _RECORD
        try:
            slices += [AmbiguousSlice(**fields) for fields in read_json(record)["ambiguous"]]
        except FileNotFoundError:
            continue
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(record, f"is damaged ({error})", advice="remove the folder of its case") from error
    return tuple(slices)


def _write_report(conversion: Conversion, source: SourceDataset) -> None:
    content = {
        "source": source.form,
        "converted": [case.case_id for case in source.cases if (conversion.out / case.case_id).is_dir()],
        "failed": dict(conversion.failed),
        "ambiguous_slices": [asdict(part) for part in conversion.ambiguous],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(conversion.out / "conversion.json", lambda file: file.write(text.encode()))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
