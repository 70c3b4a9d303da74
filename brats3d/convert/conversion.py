"""Convert other forms of BraTS into BraTS 2020's NIfTI layout: Kaggle's HDF5 slices, the Decathlon's 4-D images.

The sources are only read. A case's folder appears whole or not at all, so that a conversion that was interrupted goes
on where it was when it is started again.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
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
from typing import Any, Protocol

from brats3d.cases import check_case_id, check_path_syntax, layout_of
from brats3d.convert.decathlon import find_task_cases
from brats3d.convert.kaggle_h5 import SLICE_FILE, AmbiguousSlice, find_volumes
from brats3d.files import read_json, remove_leftovers, whole_folder, writable_folder, write_nifti, write_whole


class SourceCase(Protocol):
    """A case to convert: :class:`brats3d.convert.SliceFiles`, :class:`brats3d.convert.TaskFiles`."""

    @property
    def case_id(self) -> str: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def source_bytes(self) -> int: ...
    def read(self) -> Any: ...


@dataclass(frozen=True)
class Source:
    """What a folder turned out to hold.

    Args:
        form: a few words.
        cases: what to convert.
        tables: files to copy beside the cases.
        bytes_out: estimate of the bytes written for one byte of the cases' files.
    """

    form: str
    cases: Sequence[SourceCase]
    tables: Sequence[Path]
    bytes_out: float


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Args:
        out: the folder.
        written: case_ids of this run.
        skipped: case_ids that were there already.
        failed: case_id -> what is wrong with its files.
        ambiguous: slices, of all cases in ``out``, whose intensities are certain but for a common factor.
    """

    out: Path
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]
    ambiguous: tuple[AmbiguousSlice, ...]

    def summary(self) -> list[str]:
        """What a person should know, and the commands that come next."""
        written, skipped, failed = len(self.written), len(self.skipped), len(self.failed)
        there = f"{skipped} {'was' if skipped == 1 else 'were'} there already"
        lines = [f"{_count(written, 'case')} written to {self.out}, {there}, {failed} failed"]
        lines += _shortened([f"  {case_id}: {problem}" for case_id, problem in self.failed.items()])
        if self.ambiguous:
            scaled = [each for each in self.ambiguous if each.factor != 1]
            lines.append(
                f"{_count(len(self.ambiguous), 'slice')} of a single modality: too few distinct intensities to know a "
                f"common factor of theirs for certain; a factor was chosen for {len(scaled)} of them, the others are "
                "as they were found; see conversion.json"
            )
            lines += _shortened(
                [
                    f"  volume {each.volume}, slice {each.slice}, {each.modality}: {each.pixels} pixel(s) of "
                    f"{each.distinct} value(s), times {each.factor}"
                    for each in scaled
                ]
            )
        if self.written or self.skipped:
            folder = shlex.quote(str(self.out))
            lines.append(f"Next: brats3d audit {folder}, then brats3d train {folder}")
        return lines


def convert_dataset(
    src: str | os.PathLike[str], out: str | os.PathLike[str], workers: int | None = None, progress: bool = True
) -> Conversion:
    """Write the cases of ``src`` to ``out`` as ``<case_id>/<case_id>_<t1|t1ce|t2|flair|seg>.nii.gz``.

    Args:
        src: a folder with Kaggle's HDF5 slices (see :mod:`brats3d.convert.kaggle_h5`), or of a Decathlon task (see
            :mod:`brats3d.convert.decathlon`), or up to four folders above it.
        out: the folder to write to; made if it is not there. Cases that stand in it are left as they are.
            ``conversion.json`` is written beside them.
        workers: how many processes; as many as there are processors by default. 1 converts in this process.
        progress: say what will be done, and show a progress bar, on standard error.

    Returns:
        What was written, skipped, and failed. A damaged case does not stop the others.

    Raises:
        FileNotFoundError: if ``src`` does not exist.
        ValueError: if it holds nothing that can be converted, if ``out`` lies in it, or if an argument is wrong.
        OSError: if there is too little room, before anything is written; or if the disk fills, or cannot be written.
            Nothing is half written then, and what is done stays.
    """
    from tqdm import tqdm

    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    check_output(src, out)
    out = Path(out).expanduser()
    writable_folder(_existing(out), "out")
    source = find_source(src)
    done: list[SourceCase] = []
    left: list[SourceCase] = []
    for case in source.cases:
        (done if (out / case.case_id).exists() else left).append(case)
    _check_room(source, left, out, progress)
    writable_folder(out, "out")
    remove_leftovers(out)
    _write_or_stop(lambda: _copy_tables(source.tables, out), out)
    results = {case.case_id: _incomplete(case, out) for case in done}
    skipped = [case_id for case_id, problem in results.items() if not problem]
    written = []
    try:
        for case_id, problem in tqdm(
            _convert_all(left, out, workers or _processors()),
            total=len(left),
            unit="case",
            disable=not (progress and left),
        ):
            results[case_id] = problem
            if problem is None:
                written.append(case_id)
    finally:
        failed = {case.case_id: text for case in source.cases if (text := results.get(case.case_id))}
        conversion = Conversion(out, tuple(written), tuple(skipped), failed, _ambiguous(source.cases, out))
        if not isinstance(sys.exc_info()[1], OSError):  # a full disk has been told of
            _write_or_stop(lambda: _write_report(conversion, source), out)
    return conversion


def check_output(src: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Refuse to write into the source, or where no other command could read.

    Raises:
        FileNotFoundError: if ``src`` does not exist.
        ValueError: if it is no folder, if ``out`` is the same folder or lies below it, or if its path holds what MONAI
            reads as syntax.
    """
    check_path_syntax(os.fspath(out), "out")
    source, target = Path(src).expanduser(), Path(out).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"src: there is no {source}; expected a folder with a data set; check the path")
    if not source.is_dir():
        raise ValueError(f"src: {source} is a file; expected a folder with a data set; unpack archives first")
    if target.exists() and not target.is_dir():
        raise ValueError(f"out: {out} is a file; expected a folder to write to; give another")
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise ValueError(f"out: {out} is {src} or lies in it; expected a folder outside the source; give another")


def find_source(src: str | os.PathLike[str]) -> Source:
    """Recognise what a folder, or one up to four below it, holds; no voxel is read.

    Raises:
        ValueError: if it is neither form, both, or more than one Decathlon task; if its cases are named like a release
            whose labels are numbered otherwise than what is written.
    """
    root = Path(src).expanduser()
    slices: list[tuple[Path, int]] = []
    tables: dict[str, Path] = {}
    tasks: list[Path] = []
    others: list[str] = []
    for entry in _files_below(root):
        if SLICE_FILE.fullmatch(entry.name):
            slices.append((Path(entry.path), entry.stat().st_size))
        elif entry.name == "dataset.json":
            tasks.append(Path(entry.path))
        elif entry.name in _TABLES:
            tables.setdefault(entry.name, Path(entry.path))
        elif len(others) < _MAX_EXAMPLES:
            others.append(entry.name)
    if len(tasks) + bool(slices) > 1:
        found = [*(str(task) for task in tasks), *([str(slices[0][0])] if slices else [])]
        raise ValueError(f"src: {root} holds several data sets ({', '.join(found)}); expected one; give its folder")
    if slices:
        return Source("Kaggle's HDF5 slices", find_volumes(slices), sorted(tables.values()), _BYTES_OUT_H5)
    if tasks:
        cases = find_task_cases(tasks[0])
        _check_case_ids([case.case_id for case in cases], tasks[0])
        return Source("a Decathlon task", cases, (), _BYTES_OUT_MSD)
    nifti = next((name for name in others if re.search(r"\.nii(\.gz)?$", name)), None)
    what = f"files such as {nifti or others[0]}" if others else "no file"
    advice = "NIfTI cases need no conversion: try brats3d audit" if nifti else "give the folder that holds them"
    raise ValueError(
        f"src: {root}: found {what} here and up to {_MAX_DEPTH} folders below; expected HDF5 slices "
        f"(volume_1_slice_0.h5, …) or a Decathlon task (dataset.json, imagesTr, labelsTr); {advice}"
    )


_TABLES = ("name_mapping.csv", "survival_info.csv")

_MAX_DEPTH = 4

_MAX_EXAMPLES = 1000

_MAX_LISTED = 20

_MIN_ROOM = 64 * 2**20  # bytes to leave free beside the estimate

_BYTES_OUT_H5 = 0.6

_BYTES_OUT_MSD = 1.2

_FULL = (errno.ENOSPC, errno.EDQUOT)

_RECORD = ".conversion.json"


def _check_case_ids(case_ids: Sequence[str], dataset_json: Path) -> None:
    """What is written has BraTS 2020's labels, and they are read back by what the names say."""
    for case_id in case_ids:
        try:
            check_case_id(case_id)
        except ValueError as error:
            raise ValueError(f"{dataset_json}: {error}; rename the image, there and in dataset.json") from None
    others = [case_id for case_id in case_ids if layout_of(case_id).convention != "brats2020"]
    if others:
        raise ValueError(
            f"{dataset_json}: {_count(len(others), 'case')}, such as {others[0]}, named as in "
            f"{layout_of(others[0]).name}, whose labels are numbered otherwise than BraTS 2020's, which are what is "
            "written; expected other names, such as BRATS_001; rename the images, there and in dataset.json"
        )


def _files_below(root: Path) -> Iterator[os.DirEntry[str]]:
    """Every file at and up to four folders below ``root``, but what is hidden; links are followed, once each."""
    seen: set[str] = set()
    folders = [(str(root), 0)]
    while folders:
        folder, depth = folders.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except PermissionError:
            raise ValueError(f"{folder}: no permission to list this folder; change its permissions") from None
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = Path(entry.path)  # which takes a link to itself for nothing; an entry raises
            if path.is_file():
                yield entry
            elif path.is_dir() and depth < _MAX_DEPTH:
                folders.append((entry.path, depth + 1))


def _check_room(source: Source, left: Sequence[SourceCase], out: Path, progress: bool) -> None:
    needed = int(source.bytes_out * sum(case.source_bytes for case in left))
    free = shutil.disk_usage(_existing(out)).free
    if progress:
        skipped = len(source.cases) - len(left)
        print(
            f"{source.form}: {_count(len(source.cases), 'case')}, {skipped} of them done; about "
            f"{_size(needed)} needed, {_size(free)} free",
            file=sys.stderr,
        )
    if left and needed + _MIN_ROOM > free:
        raise OSError(
            f"{out}: {_size(free)} free; expected about {_size(needed + _MIN_ROOM)} for {_count(len(left), 'case')}; "
            "make room, or give a folder on another disk"
        )


def _existing(out: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())


def _copy_tables(tables: Sequence[Path], out: Path) -> None:
    for table in tables:
        if not (target := out / table.name).exists():
            with table.open("rb") as file:
                write_whole(target, partial(shutil.copyfileobj, file))


def _convert_all(cases: Sequence[SourceCase], out: Path, workers: int) -> Iterator[tuple[str, str | None]]:
    """Convert cases, several at a time; yields the identifier of each and what is wrong with it."""
    if min(workers, len(cases)) <= 1:
        for case in cases:
            yield case.case_id, _convert(case, out)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(cases)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        futures = {case.case_id: pool.submit(_convert, case, out) for case in cases}
        for case_id, future in futures.items():
            yield case_id, future.result()
    except BrokenProcessPool:
        raise OSError(
            f"{out}: a process was ended from outside, perhaps because memory ran out; the cases that are done stay: "
            "run the same again, with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which lets the cases in progress finish; end with it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _convert(case: SourceCase, out: Path) -> str | None:
    """Convert one case; what is wrong with its files, if something is."""
    if (out / case.case_id).exists():  # another run was faster
        return _incomplete(case, out)
    try:
        read = case.read()
    except ValueError as error:
        return str(error)
    _write_or_stop(lambda: _write_case(case, read, out), out)
    return None


def _write_case(case: SourceCase, read: Any, out: Path) -> None:
    record = {"ambiguous": [asdict(each) for each in read.ambiguous]}
    with suppress(FileExistsError), whole_folder(out / case.case_id) as hidden:  # another run may be faster
        for kind in case.kinds:
            write_nifti(hidden / f"{case.case_id}_{kind}.nii.gz", read.arrays[kind], read.affine)
        write_whole(hidden / _RECORD, lambda file: file.write(json.dumps(record).encode()))


def _write_or_stop(write: Any, out: Path) -> None:
    """Call ``write``; an OSError of one line if it fails."""
    try:
        write()
    except OSError as error:
        if error.errno in _FULL:
            text = "the disk is full; the cases that are done stay: make room and run the same again"
        else:
            text = f"cannot write ({error}); the cases that are done stay: mend this and run the same again"
        raise OSError(f"{out}: {text}") from error


def _incomplete(case: SourceCase, out: Path) -> str | None:
    """What is wrong with a folder of a case that was there already."""
    folder = out / case.case_id
    names = [f"{case.case_id}_{kind}.nii" for kind in case.kinds]
    missing = [name for name in names if not ((folder / name).exists() or (folder / f"{name}.gz").exists())]
    if not missing:
        return None
    return f"{folder}: is there already without {', '.join(missing)}[.gz]; expected a whole case; remove the folder"


def _ambiguous(cases: Sequence[SourceCase], out: Path) -> tuple[AmbiguousSlice, ...]:
    """What the records of all converted cases say."""
    records = [path for case in cases if (path := out / case.case_id / _RECORD).is_file()]
    try:
        return tuple(AmbiguousSlice(**each) for path in records for each in read_json(path)["ambiguous"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{out}: a {_RECORD} in it is damaged ({error}); remove the folder of its case") from error


def _write_report(conversion: Conversion, source: Source) -> None:
    content = {
        "source": source.form,
        "converted": [case.case_id for case in source.cases if (conversion.out / case.case_id).is_dir()],
        "failed": dict(conversion.failed),
        "ambiguous_slices": [asdict(each) for each in conversion.ambiguous],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(conversion.out / "conversion.json", lambda file: file.write(text.encode()))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shortened(lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - _MAX_LISTED} more, in conversion.json"] if len(lines) > _MAX_LISTED else []
    return [*lines[:_MAX_LISTED], *more]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
