"""Read BraTS's name_mapping.csv: one patient under the names of several releases.

BraTS 2018 to 2020 come with a ``name_mapping.csv`` with one row per patient and one column per release. BraTS 2023's is
a spreadsheet, ``BraTS2023_2017_GLI_Mapping.xlsx``; saved as CSV, with commas or semicolons, it is read too.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from brats3d.cases.case import Case
from brats3d.cases.case_files import GRADES
from brats3d.cases.csv_table import read_table
from brats3d.cases.naming_rules import layout_of
from brats3d.cases.paths import check_folder
from brats3d.cases.patients_table import read_patients
from brats3d.cases.text import natural_key
from brats3d.errors import DataError
from brats3d.files import is_image_name, walk_folders


@dataclass(frozen=True)
class NameMapping:
    """The contents of all mapping files of a data set.

    Args:
        files: the files that were read.
        spreadsheets: mapping files that cannot be read, since they are not CSV.
        patients: a name from any release, in lower case -> its patient.
        stated: case_id -> patient_id, from the user's ``patients.csv``.
    """

    files: tuple[Path, ...] = ()
    spreadsheets: tuple[Path, ...] = ()
    patients: Mapping[str, _Patient] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    stated: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def patient_of(self, case: Case) -> str:
        """Return the same identifier for a patient in every release; the case's own if no row names the patient."""
        patient = self._find(case)
        return patient.patient_id if patient else case.patient_id

    def knows(self, name: str) -> bool:
        """Return True if a row names this case or patient."""
        return _key(name) in self.patients

    def grade_of(self, case: Case) -> str | None:
        """Return ``"HGG"`` or ``"LGG"`` from the case's folder or, failing that, from the mapping if its rows agree."""
        patient = self._find(case)
        return case.grade or (patient.grade if patient else None)

    def _find(self, case: Case) -> _Patient | None:
        return self.patients.get(_key(case.case_id)) or self.patients.get(_key(case.patient_id))


def read_name_mappings(dataset_dir: str | Path | Sequence[str | Path]) -> NameMapping:
    """Find and read the mapping files of a data set, and the ``patients.csv`` in its folder.

    Mapping files are searched in each folder and below, as deep as cases. If a folder is only part of a data set (one
    case's folder, or ``HGG`` or ``LGG``), up to two folders above are searched too, but never above a home folder.

    Args:
        dataset_dir: a folder, or several; as in :func:`brats3d.cases.find_cases`.

    Raises:
        DataError: if one of the files cannot be read. Without it, one patient could be in both training and validation.
    """
    listed = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else dataset_dir
    roots = [check_folder(folder) for folder in listed]
    files: dict[str, Path] = {}
    for root in roots:
        paths = [folder / name for folder in _folders_above(root) for name in _names_in(folder)]
        for folder, names in walk_folders(root, skip_unreadable=True):
            paths += [Path(folder, name) for name in names if _MAPPING_FILE.fullmatch(name)]
        files.update((os.path.realpath(path), path) for path in paths if _MAPPING_FILE.fullmatch(path.name))
    mapping_files = sorted(files.values(), key=str)
    tables = tuple(path for path in mapping_files if path.suffix.lower() == ".csv")
    rows = [row for path in tables for row in _read_rows(path)]
    spreadsheets = tuple(path for path in mapping_files if path not in tables)
    stated = MappingProxyType(read_patients(roots))
    return NameMapping(tables, spreadsheets, MappingProxyType(_patients(rows)), stated)


def unmapped_releases(cases: Iterable[Case], mapping: NameMapping) -> str:
    """Return a warning if cases of several releases lie together without a mapping file; else an empty text."""
    releases = {case.layout for case in cases}
    if len(releases) < 2 or releases <= _SAME_NUMBERS or mapping.files:
        return ""
    advice = "put the mapping that came with them into the folder"
    if mapping.spreadsheets:
        advice = f"save {mapping.spreadsheets[0]} as CSV beside it"
    return (
        f"cases of several releases ({', '.join(sorted(releases))}) and no name_mapping.csv: a patient may be in two "
        f"folds under two names; {advice}"
    )


def join_overlapping(sets: Iterable[Iterable[str]]) -> list[set[str]]:
    """Join the sets that share a member, directly or through other sets."""
    joined: dict[str, set[str]] = {}
    for members in map(set, sets):
        members.update(*(joined[member] for member in members if member in joined))
        joined.update(dict.fromkeys(members, members))
    return list({id(members): members for members in joined.values()}.values())


_SAME_NUMBERS = frozenset({"brats2021", "brats2023", "brats2024"})
"""Releases in which adult gliomas keep their numbers, so that no mapping is needed."""

_MAPPING_FILE = re.compile(r"name_mapping.*\.csv|brats\d*[_-].*mapping.*\.(csv|xlsx?)", re.IGNORECASE)

_ID_COLUMN = re.compile(r".*subject_ID|BraTS[ _-]?(20)?\d\d([ _-]?ID)?", re.IGNORECASE)

_IDENTIFIER = re.compile(r"(?=.*[A-Za-z])(?=.*\d).+")  # not NA, nan, none, unknown, -, 0

_ADVICE = (
    "download the file again, or correct it; rename it if it is not one of BraTS's mappings: without it one patient "
    "could be in two folds under two names"
)


@dataclass(frozen=True)
class _Patient:
    patient_id: str
    grade: str | None


@dataclass(frozen=True)
class _Row:
    """One row: names as (year of the release or 0, name), and the grade."""

    names: tuple[tuple[int, str], ...]
    grade: str | None


def _key(name: str) -> str:
    return name.strip().casefold()


def _patients(rows: Sequence[_Row]) -> dict[str, _Patient]:
    """Return name -> patient. Rows that share a name, or a patient identifier made from a name, are one patient's."""
    keys = [{_key(key) for _, name in row.names for key in (name, _patient_id(name))} for row in rows]
    first = {key: min(names) for names in join_overlapping(keys) for key in names}
    rows_of: dict[str, list[_Row]] = {}
    for row, names in zip(rows, keys, strict=True):
        if names:
            rows_of.setdefault(first[min(names)], []).append(row)
    patients = {name: _patient(rows) for name, rows in rows_of.items()}
    return {key: patients[name] for key, name in first.items()}


def _patient(rows: Sequence[_Row]) -> _Patient:
    """Name the patient after the newest release. The grade is unknown if rows disagree."""
    names = {name for row in rows for name in row.names}
    newest = min(names, key=lambda name: (-name[0], natural_key(name[1])))[1]
    grades = {row.grade for row in rows if row.grade}
    return _Patient(_patient_id(newest), grades.pop() if len(grades) == 1 else None)


def _patient_id(name: str) -> str:
    return layout_of(name).patient_of(name)


def _read_rows(path: Path) -> Iterator[_Row]:
    try:
        header, *rows = read_table(path)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            path, f"cannot be read as CSV: {error}", expected="BraTS's name mapping", advice=_ADVICE
        ) from error
    columns = header[1]
    years = {i: _year(name) for i, name in enumerate(columns) if _ID_COLUMN.fullmatch(name)}
    if not years:
        raise DataError(
            path,
            f"has the columns {', '.join(columns)[:200]}",
            expected="at least one such as BraTS_2020_subject_ID",
            advice=_ADVICE,
        )
    grade = next((i for i, name in enumerate(columns) if name.casefold() == "grade"), None)
    for line, row in rows:
        if len(row) < len(columns) or any(row[len(columns) :]):
            expected = f"{len(columns)} as in the header"
            raise DataError(path, f"line {line} has {len(row)} cells", expected=expected, advice=_ADVICE)
        names = tuple((year, row[i]) for i, year in years.items() if _IDENTIFIER.fullmatch(row[i]))
        value = row[grade].upper() if grade is not None else ""
        yield _Row(names, value if value in GRADES else None)


def _year(column: str) -> int:
    match = re.search(r"BraTS[ _-]?(?:20)?(\d\d)", column, re.IGNORECASE)
    return 2000 + int(match[1]) if match else 0


def _folders_above(root: Path) -> Iterator[Path]:
    folder = root
    for _ in range(2):
        is_part = folder.name.upper() in GRADES or any(map(is_image_name, _names_in(folder)))
        home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises an error if the user has none
        if not is_part or str(folder) in (home, str(folder.parent)):
            return
        folder = folder.parent
        yield folder


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:  # a folder above the data set may be private
        return []
