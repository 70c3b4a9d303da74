"""Group the cases of each patient: by the releases' names or, for other names, by what names and folders share.

1. Dates, words for time points and words for processing do not belong to a patient's name: ``P01_FU2_N4`` is P01's.
2. A short number, a letter or a word after the patient's number is a time point if the names of several patients end
   so: UPENN-GBM's ``00001_11`` and ``00001_21``. A longer number belongs to the name: ``TCGA-06-0138`` and
   ``TCGA-06-0139`` differ. After a word for a patient or a long number, a longer number is a scan's: ``P01_A12345``.
3. Cases in one patient's folder belong together: a folder named like a patient or like a case that lies in it.

All names are compared with each other, so that sites, cohorts and the folder of a data set are not taken for patients.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from brats3d.cases.case import Case
from brats3d.cases.case_folders import folder_case_id
from brats3d.cases.file_names import parse_file_name
from brats3d.cases.name_mapping import NameMapping, join_overlapping
from brats3d.cases.name_words import (
    has_number,
    has_words,
    is_numbered,
    is_person,
    is_site,
    states_patient,
    without_times,
)
from brats3d.cases.naming_rules import ANY_LAYOUT, LAYOUTS, layout_of
from brats3d.cases.patients_table import PATIENTS_COLUMNS, PATIENTS_NAME
from brats3d.cases.text import name_some, natural_key, readable_name
from brats3d.files import is_image_name


def unite_patients(
    cases: Sequence[Case], mapping: NameMapping, stated: Mapping[str, str] = MappingProxyType({})
) -> list[Case]:
    """Return the cases with one ``patient_id`` per patient.

    Cases are united by a name mapping and by their own ``patient_id``. Those whose names follow no release are also
    grouped by name. A case that is alone keeps its ``patient_id``.

    Args:
        cases: every case of the data set.
        mapping: the tables of the data set.
        stated: case_id -> patient_id, stated by a datalist.json; it wins over the ``patients.csv``, and both over
            names. A case that is not stated joins the stated ones of its group if they agree.
    """
    stated = {**mapping.stated, **stated}
    patients = [stated.get(case.case_id, case.patient_id) for case in cases]
    names = _patient_names(cases) if any(map(is_unknown, cases)) else []
    for group, keys in _groups(cases, names) if names else ():
        free = [i for i in group if cases[i].case_id not in stated and is_unknown(cases[i])]
        fixed = {patients[i] for i in group if i not in free}
        united = fixed.pop() if len(fixed) == 1 else _shared_name([names[i] for i in group], keys)
        for i in free:
            if len(group) > 1 or mapping.knows(united):
                patients[i] = united
    cases = [replace(case, patient_id=patient) for case, patient in zip(cases, patients, strict=True)]
    named = [mapping.patient_of(case) for case in cases]
    joined = join_overlapping({name, case.patient_id} for name, case in zip(named, cases, strict=True))
    usual = set(named)
    first = {name: min(names & usual, key=natural_key) for names in joined for name in names}
    return [replace(case, patient_id=first[name]) for name, case in zip(named, cases, strict=True)]


def is_unknown(case: Case) -> bool:
    """Return True if no release defines the case's name, so that the patient is derived from what names share."""
    return layout_of(case.case_id) is ANY_LAYOUT


def group_notes(cases: Sequence[Case], mapping: NameMapping) -> list[str]:
    """Return remarks about cases that were grouped by name, and about cases in ``patients.csv`` that do not exist.

    Args:
        cases: the result of :func:`unite_patients`.
        mapping: the tables of the data set.
    """
    notes = []
    if groups := [own for own in several_cases(cases) if any(map(is_unknown, own)) and not _stated(own, mapping)]:
        first = name_some([case.case_id for case in groups[0]])
        one = f"patient {groups[0][0].patient_id} with {first}"
        count = "1 patient has" if len(groups) == 1 else f"{len(groups)} patients have"
        notes.append(
            f"{count} several cases, judging by their names: {one}; all cases of a patient are kept in one fold; if "
            f"these are different patients, list them in a {PATIENTS_NAME} in the data folder, with the columns "
            f"{', '.join(PATIENTS_COLUMNS)}"
        )
    if strangers := unknown_cases(cases, mapping):
        notes.append(f"{PATIENTS_NAME} lists cases that were not found: {name_some(strangers)}; check their names")
    return notes


def unknown_cases(cases: Sequence[Case], mapping: NameMapping) -> list[str]:
    """Return the case identifiers in ``patients.csv`` that no case has."""
    known = {case.case_id for case in cases}
    return [case_id for case_id in mapping.stated if case_id not in known]


def several_cases(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases of each patient who has several."""
    patients: dict[str, list[Case]] = {}
    for case in cases:
        patients.setdefault(case.patient_id, []).append(case)
    return [own for own in patients.values() if len(own) > 1]


_MOST_CASES = 30
"""A name that more cases share is taken for that of a data set, unless cases share other names as often."""

_MOST_TAILS = 10
"""If more names on average have the same beginning, it is taken for that of a site rather than of a patient."""

_TAIL = re.compile(
    r"(?P<stem>.*\d|(?:.*_)?(?:patient|pat|subject|subj|case)_?[a-z])"
    r"(?:_(?P<date>\d{6})|_(?P<number>\d{1,3}|(?:19|20)\d\d)|_(?P<word>[^\W\d_]+(?:_[^\W\d_]+)*|[^\W\d_]{3,}\d{1,2})|(?P<letter>(?<=\d)[a-h])|"
    r"_(?P<accession>[a-z]{0,5}\d{4,}))"
)

_SHORT_DATE = re.compile(r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


def _stated(cases: Sequence[Case], mapping: NameMapping) -> bool:
    return all(case.case_id in mapping.stated for case in cases)


def _key(name: str) -> str:
    """Return a name in lower case with ``_`` as the only separator, for comparison."""
    return re.sub(r"[\W_]+", "_", name).strip("_").casefold() or name


def _patient_names(cases: Sequence[Case]) -> list[str]:
    """Return, for each case, the part of its name that states the patient."""
    ids = _own_names(cases)
    names = [without_times(name) for name in ids]
    too_few = _are_too_few({_key(name) for name in names if has_number(name) or has_words(name)}, len(cases))
    for i, (case, name) in enumerate(zip(cases, names, strict=True)):
        if not is_unknown(case):
            names[i] = case.patient_id
            continue
        if name != ids[i] and (too_few or not (has_number(name) or has_words(name))):
            name = without_times(ids[i], numbers=False)
            name = name if has_number(name) or (has_words(name) and not too_few) else ids[i]
        names[i] = _patient_of_release(name)
    return names


def _patient_of_release(name: str) -> str:
    """Return the patient if a name contains a case identifier of a release, as ``HGG_Brats18_ABC_1`` does."""
    found = ((layout, layout.case_id.search(name)) for layout in LAYOUTS if layout is not ANY_LAYOUT)
    return next((layout.patient_of(match[0]) for layout, match in found if match), name)


def _are_too_few(names: Collection[str], cases: int) -> bool:
    """Return True if names cannot be those of patients: one word for all cases, or numbers that recur too often."""
    if len(names) == 1:
        return cases > _MOST_CASES or not any(map(has_number, names))
    return all(map(str.isdigit, names)) and cases > len(names) * max(_MOST_CASES, len(names))


def _top(cases: Sequence[Case]) -> Path:
    """Return the lowest folder that contains all cases."""
    folders = [_folder(case) for case in cases if case.files]
    return Path(os.path.commonpath(folders)) if folders else Path()


def _own_names(cases: Sequence[Case]) -> list[str]:
    """Return the cases' identifiers, after the names of the folders above where an identifier alone states no patient.

    An identifier that was extended because several folders have the same name (``backup_P01``) is replaced by the
    folder's name, unless these folders belong to two sites or two patients.
    """
    top = _top(cases)
    names = [case.case_id for case in cases]
    copies: dict[int, str] = {}
    for i, case in enumerate(cases):
        folder = _folder(case)
        above = case.case_id.removesuffix(f"_{readable_name(folder.name)}")
        if not case.files or not is_unknown(case):
            continue
        if not states_patient(case.case_id):
            names[i] = folder_case_id(folder.relative_to(top) / case.case_id)
        elif above != case.case_id and _is_bare(case) and _may_be_copy(folder, above):
            copies[i] = above
    more_folders = len(set(copies.values())) > len({_folder(case).name for case in cases})
    for i in copies:
        if is_person(own := _folder(cases[i]).name) or not more_folders:
            names[i] = own
    return names


def _may_be_copy(folder: Path, above: str) -> bool:
    """Return True if folders with this one's name, in ``above`` and elsewhere, may belong to the same patient."""
    own = readable_name(folder.name)
    is_own_case = folder_case_id(folder) == own and has_number(without_times(own))
    return is_own_case and not has_number(without_times(above)) and not is_site(above)


def _is_bare(case: Case) -> bool:
    return any((parsed := parse_file_name(path.name)) and not parsed[0] for path in case.files)


def _shared_name(names: Sequence[str], keys: Container[str]) -> str:
    """Return the shortest beginning of a name that all names of the group share; by default, the shortest name."""
    starts = {name[: cut.start()] for name in names for cut in re.finditer(r"[\W_]+|$", name)}
    best = [start for start in starts if start and _key(start) in keys] or names
    return min(best, key=lambda name: (len(name), natural_key(name)))


def _groups(cases: Sequence[Case], names: Sequence[str]) -> Iterator[tuple[list[int], set[str]]]:
    """Yield the cases of each patient, as indices, and the keys of their names."""
    keys = [_key(name) for name in names]
    unknown = [i for i, case in enumerate(cases) if is_unknown(case)]
    stems = {key: key for key in keys} | {_key(case.case_id): key for case, key in zip(cases, keys, strict=True)}
    for i in unknown:
        cuts = [match.start() for match in re.finditer("_", keys[i])]
        keys[i] = next((stems[keys[i][:n]] for n in cuts if keys[i][:n] in stems and has_number(keys[i][:n])), keys[i])
    unknown = [i for i in unknown if states_patient(names[i])]
    for i, key in _without_tails([keys[i] for i in unknown]):
        keys[unknown[i]] = key
    joined = join_overlapping([*([key] for key in keys), *_shared_folders(cases, keys)])
    group_of = {key: n for n, group in enumerate(joined) for key in group}
    groups: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(group_of[key], []).append(i)
    for n, members in groups.items():
        yield members, joined[n]


def _without_tails(keys: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield index and stem of the names that end with a time point rather than with a patient's number."""
    families: dict[tuple[str, str | None], list[tuple[int, re.Match[str]]]] = {}
    for i, key in enumerate(keys):
        match = _TAIL.fullmatch(key)
        if not match or is_person(match["word"] or ""):
            continue
        if has_number(match["stem"]) or not match["stem"][-1].isdigit():
            families.setdefault((_shape(match["stem"]), match.lastgroup), []).append((i, match))
    for members in families.values():
        stems = {match["stem"] for _, match in members}
        tails = [match for _, match in members]
        # The only patient with several scans has a longer number than a site, and there are others.
        is_long = len(members) < len(keys) and all(re.search(r"\d{3}$", stem) for stem in stems)
        if tails[0]["accession"]:
            are_patients = len(stems) > 1 and _have_accession_numbers(stems, tails)
        else:
            are_patients = (len(stems) > 1 and all(map(is_person, stems))) or _are_patients(stems, tails)
        if are_patients and (len(stems) > 1 or is_long):
            yield from ((i, match["stem"]) for i, match in members)


def _have_accession_numbers(stems: Collection[str], tails: Sequence[re.Match[str]]) -> bool:
    """Return True for names such as ``P01_A12345`` and ``00123456_71234567``: a patient and a scan of the patient."""
    are_patients = all((is_person(stem) and not _YEAR.search(stem)) or re.search(r"\d{6}$", stem) for stem in stems)
    return are_patients and len(tails) <= len(stems) * _MOST_TAILS


def _are_patients(stems: Collection[str], tails: Sequence[re.Match[str]]) -> bool:
    """Return True if stems are patients: few names per stem, short numbers at their ends, and no years as stems."""
    numbers = [match["number"] or "" for match in tails]
    width = max(len(re.findall(r"\d*", stem)[-2]) for stem in stems)
    are_short = any(len(number) <= width or re.fullmatch(r"[1-9]?\d?", number) for number in numbers)
    are_short &= all(len(number) < 4 for number in numbers)
    are_short &= all(_SHORT_DATE.fullmatch(match["date"]) for match in tails if match["date"])
    are_years = not any(has_number(_YEAR.sub("", stem)) or not stem[-1].isdigit() for stem in stems)
    return len(tails) <= len(stems) * max(_MOST_TAILS, len(stems)) and are_short and not are_years


def _shape(stem: str) -> str:
    """Return a name without its numbers, or without the letter that stands for one."""
    return re.sub(r"\d+", "#", stem) if stem[-1].isdigit() else stem[:-1]


def _shared_folders(cases: Sequence[Case], keys: Sequence[str]) -> Iterator[set[str]]:
    """Yield the names of the cases in each patient's folder."""
    folders = {i: _folder(case) for i, case in enumerate(cases) if case.files}
    top = _top(cases)
    inside: dict[Path, list[int]] = {}
    for i, folder in folders.items():
        if is_unknown(cases[i]):
            for each in (folder, *folder.parents):
                if each == top:
                    break
                inside.setdefault(each, []).append(i)
    alike = {each: re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "#", str(each.relative_to(top)))) for each in inside}
    counts = Counter(alike.values())
    n_cases = Counter(alike[each] for each, members in inside.items() for _ in members)
    for folder, members in inside.items():
        shape = alike[folder]
        usual = counts[shape] > 1 and n_cases[shape] <= counts[shape] * max(_MOST_TAILS, counts[shape])
        if len(members) > 1 and _is_patient(folder, [cases[i] for i in members], usual):
            yield {keys[i] for i in members}


def _is_patient(folder: Path, cases: Sequence[Case], usual: bool) -> bool:
    """Return True if a folder belongs to one patient.

    Args:
        folder: the folder.
        cases: those in it whose names no release defines.
        usual: True if there are other folders with such a name, and not too many cases in them.
    """
    name = folder.name
    ids = [_key(case.case_id) for case in cases]
    if layout_of(name) is not ANY_LAYOUT or any(_folder(case) == folder and case.case_id == name for case in cases):
        return True
    if any(is_person(without_times(i)) and not i.startswith(_key(name)) for i in ids):
        return False
    if is_person(name):
        return True
    if not usual or is_site(name) or not without_times(name):
        return False
    if all(not without_times(i.removeprefix(f"{_key(name)}_")) or is_numbered(i) for i in ids):
        return has_number(name) or has_words(name)
    numbers = re.findall(r"\d+", _YEAR.sub("", name))
    return has_number(name) and bool(numbers) and len(numbers[-1]) > 1 and not all(map(_STUDY_ID.fullmatch, ids))


_STUDY_ID = re.compile(r"[a-z]{2,}_.*\d{3,}.*|\d{3,}")
"""Names such as ``TCGA-06-0138`` and ``0138``, in the form of :func:`_key`, which state a patient by themselves."""


def _folder(case: Case) -> Path:
    folder = case.files[0].parent if case.files else Path()
    return folder.parent if is_image_name(folder.name) else folder  # some archives have a folder in place of a file
