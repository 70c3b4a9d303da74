"""Search folders, as downloaded, for BraTS cases. Only the names of files and folders are used; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brats3d.cases.case import Case
from brats3d.cases.case_files import CaseFiles, Problem
from brats3d.cases.case_folders import tell_apart
from brats3d.cases.explain_no_cases import no_cases
from brats3d.cases.file_names import SEGMENTATION
from brats3d.cases.group_files import group_by_case
from brats3d.cases.labels_in_other_folders import add_label, possible_labels
from brats3d.cases.name_words import states_patient
from brats3d.cases.naming_rules import ANY_LAYOUT, layout_of
from brats3d.cases.paths import check_folder
from brats3d.cases.text import natural_key
from brats3d.cases.unusual_names import describe_names
from brats3d.errors import DataError, UsageError
from brats3d.files import walk_folders
from brats3d.labels import MODALITIES, order_modalities


@dataclass(frozen=True)
class FoundCases:
    """The result of a search.

    Args:
        roots: the folders that were searched.
        cases: all cases with the files that they have, complete or not, in the natural order of their identifiers. A
            case that lies in several folders appears once, with the files of the first.
        problems: missing, double and misnamed files.
        advice: what to do about the problems.
        unread: case_id -> image files beside the case's that belong to no case, since their names state no sequence.
        notes: sentences about unusual file names.
        ignored: single images with an unknown identifier, which are no cases because there are others.
    """

    roots: tuple[Path, ...]
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    advice: str
    unread: Mapping[str, tuple[Path, ...]] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()
    ignored: tuple[Path, ...] = ()

    @property
    def subject(self) -> str:
        """The folders, for messages."""
        return str(self.roots[0]) if len(self.roots) == 1 else f"{self.roots[0]} and {len(self.roots) - 1} more"

    def serious_problems(self, require_label: bool = False) -> list[Problem]:
        """Return the problems that make a case unusable. An ambiguous segmentation matters only if one is required."""
        harmless = ("misnamed",) if require_label else ("misnamed", "ambiguous")
        return [problem for problem in self.problems if problem.kind not in harmless]


def find_cases(
    dataset_dir: str | Path | Sequence[str | Path] | None,
    modalities: Sequence[str] = MODALITIES,
    require_label: bool = False,
    absent_sequences: bool = False,
) -> list[Case]:
    """Find the BraTS cases in a folder as downloaded.

    Args:
        dataset_dir: the folder of case folders, a folder above it, one case's folder, or a list of such folders.
        modalities: the sequences that every case must have.
        require_label: drop cases without a segmentation, such as BraTS's validation cases beside the training cases.
        absent_sequences: accept cases that lack some of the modalities, but not all.

    Returns:
        The cases in the natural order of their identifiers, with absolute paths.

    Raises:
        NotFoundError: if ``dataset_dir`` does not exist.
        UsageError: if it is not given or not a folder.
        DataError: if it contains no case, or if files are missing or double; lists all of them.
    """
    return usable_cases(scan_cases(dataset_dir, modalities, absent_sequences), require_label)


def usable_cases(scan: FoundCases, require_label: bool = False) -> list[Case]:
    """Return the cases of a search, or raise if it found problems; see :func:`find_cases`."""
    if problems := [f"{problem.case_id}: {problem.text}" for problem in scan.serious_problems(require_label)]:
        raise DataError.of_many(scan.subject, sorted(problems, key=natural_key), scan.advice)
    if require_label and not any(case.label for case in scan.cases):
        raise _no_segmentation(scan)
    return [case for case in scan.cases if case.label or not require_label]


def scan_cases(
    dataset_dir: str | Path | Sequence[str | Path] | None,
    modalities: Sequence[str] = MODALITIES,
    absent_sequences: bool = False,
) -> FoundCases:
    """Find the BraTS cases in a folder as downloaded, and report problems instead of raising them.

    Args:
        dataset_dir: as for :func:`find_cases`.
        modalities: the sequences that every case should have; others are ignored.
        absent_sequences: as for :func:`find_cases`.

    Raises:
        NotFoundError: if ``dataset_dir`` does not exist.
        UsageError: if it is not given or not a folder.
        NoCasesError: if it contains no case.
    """
    modalities = order_modalities(modalities)
    if dataset_dir is None:
        raise UsageError(
            "dataset_dir", "not given", expected="a folder with BraTS cases", advice="pass --dataset_dir DIR"
        )
    listed = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else list(dataset_dir or [""])
    roots = tuple(check_folder(folder) for folder in listed)
    seen: set[str] = set()
    places: dict[str, list[CaseFiles]] = {}
    loose: dict[str, list[CaseFiles]] = {}
    ignored: list[Path] = []
    for root in roots:
        for case in _find_below(root, modalities, seen, absent_sequences, ignored):
            (places if case.images or case.is_case(modalities) else loose).setdefault(case.case_id, []).append(case)
    places = {case_id: add_label(copies, loose.get(case_id, ())) for case_id, copies in places.items()}
    _tell_apart(places)
    problems: list[Problem] = []
    for case_id, (first, *others) in places.items():
        problems += first.problems(modalities, absent_sequences)
        if others:
            folders = [first.folder, *(other.folder for other in others)]
            text = f"found in {len(folders)} folders: {', '.join(folders)}; expected in one: pass the folder to use"
            problems.append(Problem("case twice", case_id, tuple(map(Path, folders)), text))
    cases = tuple(places[case_id][0].to_case(modalities) for case_id in sorted(places, key=natural_key))
    every = [case for copies in places.values() for case in copies]
    advice = _advice(every, () if absent_sequences else modalities)
    unread = {case.case_id: tuple(map(Path, case.unread)) for case in every if case.unread}
    return FoundCases(roots, cases, tuple(problems), advice, unread, tuple(describe_names(every)), tuple(ignored))


def _no_segmentation(scan: FoundCases) -> DataError:
    first = scan.cases[0]
    name = f"{layout_of(first.case_id, first.images.values()).file_name(first.case_id, SEGMENTATION)}.nii[.gz]"
    problem = f"no segmentation in {len(scan.cases)} case(s)"
    advice = "training and evaluation need segmentations: pass the folder of the training cases"
    if candidates := list(possible_labels(scan.roots, {case.case_id for case in scan.cases})):
        problem += f"; {len(candidates)} file(s) such as {candidates[0]} could be one but are not used"
        advice = 'if these show the tumour, rename them as expected, or list each as "label" in a datalist.json'
    return DataError(scan.subject, problem, expected=f"files such as {name}", advice=advice)


def _tell_apart(places: dict[str, list[CaseFiles]]) -> None:
    """Rename cases with the same identifier in different folders, if their file names state no patient."""
    for case_id, cases in list(places.items()):
        is_vague = not states_patient(case_id) or all(case.bare for case in cases)
        if len(cases) > 1 and layout_of(case_id) is ANY_LAYOUT and is_vague:
            del places[case_id]
            for case, name in zip(cases, tell_apart([case.folder for case in cases]), strict=True):
                case.case_id = name
                places.setdefault(name, []).append(case)


def _find_below(
    root: Path, modalities: Sequence[str], seen: set[str], absent_sequences: bool, ignored: list[Path]
) -> list[CaseFiles]:
    """Find the cases at and below one folder.

    With ``absent_sequences`` and if no other case is found, a single image with an unknown identifier is a case;
    otherwise it is added to ``ignored``. Segmentations with an unknown identifier and without images beside them come
    last.
    """
    if os.path.realpath(root) in seen:  # given twice, or below another root
        return []
    cases: list[CaseFiles] = []
    single: list[CaseFiles] = []
    labels: list[CaseFiles] = []
    for folder, files in walk_folders(root, seen):
        here = group_by_case(folder, files)
        found = [case for case in here if case.is_case(modalities)]
        cases += found
        for case in (case for case in here if case not in found):
            if not case.images:
                labels.append(case)
            elif found:
                found[0].unread += [path for paths in case.files.values() for path in paths]
            elif absent_sequences and len(case.images) == 1 and len(case.missing(modalities)) < len(modalities):
                single.append(case)
    if single and cases:
        ignored += [Path(_first_file(case)) for case in single]
    elif single:
        _require_one_per_folder(root, single)
        cases = single
    if not cases:
        raise no_cases(root)
    with_files = {case.case_id for case in cases if case.files}
    # An empty folder beside or around the files of its case is not a second case.
    return [*(case for case in cases if case.files or case.case_id not in with_files), *labels]


def _first_file(case: CaseFiles) -> str:
    return next(path for paths in case.files.values() for path in paths)


def _require_one_per_folder(root: Path, single: Sequence[CaseFiles]) -> None:
    """Refuse a folder of several single images: they may be one case or several."""
    by_folder: dict[str, list[str]] = {}
    for case in single:
        by_folder.setdefault(case.folder, []).append(Path(_first_file(case)).name)
    for folder, names in by_folder.items():
        if len(names) > 1:
            raise DataError(
                root,
                f"{len(names)} files in {folder} are single sequences with different names, such as {names[0]} and "
                f"{names[1]}: one case or several?",
                expected="one name for the files of one case, or a folder for each case",
            )


def _advice(cases: Sequence[CaseFiles], modalities: Sequence[str]) -> str:
    missing = {tuple(case.missing(modalities)) for case in cases}
    absent = [m for m in modalities if any(m in names for names in missing)]
    rest = ",".join(f"'{m}'" for m in modalities if m not in absent)
    if not absent or not rest:
        return "add or remove these files, or move these cases out of the folder"
    move = "" if len(missing) == 1 else " move these cases out of the folder,"
    return f'add the files,{move} or pass --modalities "[{rest}]" to work without {", ".join(absent)}'
