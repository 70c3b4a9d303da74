"""One patient under the names of several releases, as BraTS's own mapping files say.

BraTS 2018 to 2020 come with a ``name_mapping.csv``: a row a patient, a column a release. BraTS 2023's is a spreadsheet,
``BraTS2023_2017_GLI_Mapping.xlsx``; saved as CSV, with commas or semicolons, it is read too.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from brats3d.cases.case import Case, check_folder, natural_key
from brats3d.cases.layouts import layout_of
from brats3d.files import read_bounded

GRADES = ("HGG", "LGG")
"""High- and low-grade glioma, as BraTS 2017 to 2020 tell them apart."""


@dataclass(frozen=True)
class NameMapping:
    """What mapping files say about the patients they name; an empty one says nothing.

    Args:
        files: those that were read.
        spreadsheets: mapping files that were found and cannot be read, since they are no CSV.
        patients: a name, of any release, in small letters -> what is known of the patient who bears it.
    """

    files: tuple[Path, ...] = ()
    spreadsheets: tuple[Path, ...] = ()
    patients: Mapping[str, _Patient] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def patient_of(self, case: Case) -> str:
        """The same identifier for the same patient under any release's name; the case's own where no row names it."""
        patient = self._find(case)
        return patient.patient_id if patient else case.patient_id

    def grade_of(self, case: Case) -> str | None:
        """``"HGG"`` or ``"LGG"``: what the case's folder says, else the mapping's rows if they agree, else None."""
        patient = self._find(case)
        return case.grade or (patient.grade if patient else None)

    def names_of(self, case: Case) -> tuple[str, ...]:
        """The patient's names in other releases, TCGA's among them."""
        patient = self._find(case)
        return tuple(name for name in patient.names if _key(name) != _key(case.case_id)) if patient else ()

    def _find(self, case: Case) -> _Patient | None:
        return self.patients.get(_key(case.case_id)) or self.patients.get(_key(case.patient_id))


def read_name_mappings(roots: Sequence[Path]) -> NameMapping:
    """Find and read the mapping files of data sets.

    They are looked for in each root and as far below it as cases are. Above a root only where it is a part of a data
    set: one case's folder, or that of a grade (``HGG``, ``LGG``); at most two folders, and never above a home folder.

    Args:
        roots: folders of cases, as in :func:`brats3d.cases.find_cases`.

    Raises:
        ValueError: if a mapping file cannot be read: without it a patient could both train and validate, unnoticed.
    """
    files: dict[str, Path] = {}
    for root in roots:
        for folder in (*_folders_above(root), *_folders_below(root)):
            for name in _list(folder):
                if _MAPPING_FILE.fullmatch(name):
                    files.setdefault(os.path.realpath(folder / name), folder / name)
    found = sorted(files.values(), key=str)
    tables = tuple(path for path in found if path.suffix.lower() == ".csv")
    rows = [row for path in tables for row in _read(path)]
    return NameMapping(tables, tuple(path for path in found if path not in tables), MappingProxyType(_patients(rows)))


def read_folder_mappings(dataset_dir: str | Path | Sequence[str | Path]) -> NameMapping:
    """Find and read the mapping files of a data set given as ``dataset_dir``; see :func:`read_name_mappings`."""
    folders = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else dataset_dir
    return read_name_mappings([check_folder(folder) for folder in folders])


def unite_patients(cases: Sequence[Case], mapping: NameMapping) -> list[Case]:
    """Return the cases with one patient_id per patient: those that the mapping or their own patient_id unite."""
    named = [mapping.patient_of(case) for case in cases]
    joined = join_overlapping({name, case.patient_id} for name, case in zip(named, cases, strict=True))
    usual = set(named)
    first = {name: min(names & usual, key=natural_key) for names in joined for name in names}
    return [replace(case, patient_id=first[name]) for name, case in zip(named, cases, strict=True)]


def unmapped_releases(cases: Iterable[Case], mapping: NameMapping) -> str:
    """A sentence where cases of several releases lie together and no file says who is who; else empty."""
    releases = {case.layout for case in cases}
    if len(releases) < 2 or releases <= _SAME_NUMBERS or mapping.files:
        return ""
    found = f"save {mapping.spreadsheets[0]} as CSV beside it" if mapping.spreadsheets else ""
    return (
        f"cases of several releases ({', '.join(sorted(releases))}) and no name_mapping.csv: a patient may stand under "
        f"two names in two folds; {found or 'put the mapping that came with them into the folder'}"
    )


def join_overlapping(sets: Iterable[Iterable[str]]) -> list[set[str]]:
    """Join the sets that share a member, directly or by way of others."""
    joined: dict[str, set[str]] = {}
    for each in sets:
        whole = set(each)
        whole.update(*(joined[member] for member in whole if member in joined))
        joined.update(dict.fromkeys(whole, whole))
    return list({id(each): each for each in joined.values()}.values())


_SAME_NUMBERS = frozenset({"brats2021", "brats2023", "brats2024"})
"""Releases in which adult gliomas keep their numbers: no mapping is needed between them."""

_MAPPING_FILE = re.compile(r"name_mapping.*\.csv|brats\d*[_-].*mapping.*\.(csv|xlsx?)", re.IGNORECASE)

_ID_COLUMN = re.compile(r".*subject_ID|BraTS[ _-]?(20)?\d\d([ _-]?ID)?", re.IGNORECASE)

_IDENTIFIER = re.compile(r"(?=.*[A-Za-z])(?=.*\d).+")  # and not NA, nan, none, unknown, -, 0

_NIFTI = re.compile(r".*\.nii(\.gz)?", re.IGNORECASE)

_MAX_DEPTH = 6  # that of the search for cases

_MAX_FOLDERS = 100_000

_ADVICE = (
    "download the file again, or correct it; rename it if it is none of BraTS's mappings: without it one patient's "
    "cases under two names could stand in two folds"
)


@dataclass(frozen=True)
class _Patient:
    patient_id: str
    names: tuple[str, ...]
    grade: str | None


@dataclass(frozen=True)
class _Row:
    """One row: (year of the release or 0, name) of each name, and the grade."""

    names: tuple[tuple[int, str], ...]
    grade: str | None


def _key(name: str) -> str:
    return name.strip().casefold()


def _patients(rows: Sequence[_Row]) -> dict[str, _Patient]:
    """Rows that share a name, or a patient's identifier that follows from a name, are of one patient."""
    keys = [{_key(each) for _, name in row.names for each in (name, _patient_id(name))} for row in rows]
    rows_of: dict[str, list[_Row]] = {}
    wholes = join_overlapping(keys)
    first = {key: min(whole) for whole in wholes for key in whole}
    for row, own in zip(rows, keys, strict=True):
        if own:
            rows_of.setdefault(first[min(own)], []).append(row)
    patients = {name: _patient(rows) for name, rows in rows_of.items()}
    return {key: patients[name] for key, name in first.items()}


def _patient(rows: Sequence[_Row]) -> _Patient:
    """Named after the newest release; rows that disagree on the grade leave it unknown."""
    names = {name for row in rows for name in row.names}
    newest = min(names, key=lambda each: (-each[0], natural_key(each[1])))[1]
    grades = {row.grade for row in rows if row.grade}
    unique = dict(sorted(((_key(name), name) for _, name in sorted(names)), key=lambda pair: natural_key(pair[0])))
    grade = grades.pop() if len(grades) == 1 else None
    return _Patient(_patient_id(newest), tuple(unique.values()), grade)


def _patient_id(name: str) -> str:
    return layout_of(name).patient_of(name)


def _read(path: Path) -> Iterator[_Row]:
    try:
        text = _decode(read_bounded(path))
        lines = text.lstrip().splitlines()
        if not lines:
            raise ValueError("is empty")
        delimiter = max(",;\t", key=lines[0].count)
        table = [(n, row) for n, row in _cells(text, delimiter) if any(row)]
        if not table:
            raise ValueError("has no cell with text in it")
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as CSV: {error}; expected BraTS's name mapping; {_ADVICE}") from error
    header = table[0][1]
    years = {i: _year(name) for i, name in enumerate(header) if _ID_COLUMN.fullmatch(name)}
    if not years:
        raise ValueError(
            f"{path}: found the columns {', '.join(header)[:200]}; expected at least one such as "
            f"BraTS_2020_subject_ID; {_ADVICE}"
        )
    grade = next((i for i, name in enumerate(header) if name.casefold() == "grade"), None)
    for n, row in table[1:]:
        if len(row) < len(header) or any(row[len(header) :]):
            raise ValueError(
                f"{path}: line {n} has {len(row)} cells; expected {len(header)} as in the header; {_ADVICE}"
            )
        names = tuple((year, row[i]) for i, year in years.items() if _IDENTIFIER.fullmatch(row[i]))
        value = row[grade].upper() if grade is not None else ""
        yield _Row(names, value if value in GRADES else None)


def _decode(data: bytes) -> str:
    """UTF-8 with or without its mark, UTF-16 with it (Excel's "Unicode text"), else Latin-1, which takes any byte."""
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise ValueError("holds bytes that are no text")


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    for row in reader:
        yield reader.line_num, [cell.strip() for cell in row]


def _year(column: str) -> int:
    match = re.search(r"BraTS[ _-]?(?:20)?(\d\d)", column, re.IGNORECASE)
    return 2000 + int(match[1]) if match else 0


def _folders_above(root: Path) -> Iterator[Path]:
    folder = root
    for _ in range(2):
        is_part = folder.name.upper() in GRADES or any(_NIFTI.fullmatch(name) for name in _list(folder))
        if not is_part or folder in (Path.home(), folder.parent):
            return
        folder = folder.parent
        yield folder


def _folders_below(root: Path) -> Iterator[Path]:
    """``root`` and the folders below, each once. What lies below a case's own files is of no interest."""
    seen: set[str] = set()
    stack = [(root, 0)]
    while stack:
        folder, depth = stack.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        if len(seen) > _MAX_FOLDERS:
            raise ValueError(
                f"{root}: more than {_MAX_FOLDERS:,} folders; expected BraTS cases; give the folder that holds them"
            )
        yield folder
        names = _list(folder)
        if depth < _MAX_DEPTH and not any(_NIFTI.fullmatch(name) for name in names):
            stack += [(folder / name, depth + 1) for name in names if (folder / name).is_dir()]


def _list(folder: Path) -> list[str]:
    """Names in a folder, hidden ones left out; none if it cannot be listed: the search for cases reports that."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
