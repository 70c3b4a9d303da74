"""Search folders, as downloaded, for BraTS cases. Only the names of files and folders are used; no file is opened."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats3d.cases.case import Case
from brats3d.cases.case_files import CaseFiles, Problem, group_by_case
from brats3d.cases.naming_rules import SEGMENTATION, layout_of
from brats3d.cases.paths import check_folder
from brats3d.cases.text import natural_key
from brats3d.errors import DataError, UsageError
from brats3d.files import MAX_FOLDER_DEPTH, walk_folders
from brats3d.labels import MODALITIES, order_modalities

logger = logging.getLogger("brats3d")


class NoCasesError(DataError):
    """A folder contains no BraTS case."""


@dataclass(frozen=True)
class Scan:
    """The result of a search.

    Args:
        roots: the folders that were searched.
        cases: all cases with the files that they have, complete or not, in the natural order of their identifiers. A
            case that lies in several folders appears once, with the files of the first.
        problems: missing, double and misnamed files.
        advice: what to do about the problems.
    """

    roots: tuple[Path, ...]
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    advice: str

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
    scan = scan_cases(dataset_dir, modalities, absent_sequences)
    subject = str(scan.roots[0]) if len(scan.roots) == 1 else f"{scan.roots[0]} and {len(scan.roots) - 1} more"
    if problems := [f"{problem.case_id}: {problem.text}" for problem in scan.serious_problems(require_label)]:
        raise DataError.of_many(subject, sorted(problems, key=natural_key), scan.advice)
    if require_label and not any(case.label for case in scan.cases):
        first = scan.cases[0].case_id
        raise DataError(
            subject,
            f"no segmentation in {len(scan.cases)} case(s)",
            expected=f"files such as {layout_of(first).file_name(first, SEGMENTATION)}.nii[.gz]",
            advice="training and evaluation need segmentations: pass the folder of the training cases",
        )
    return [case for case in scan.cases if case.label or not require_label]


def scan_cases(
    dataset_dir: str | Path | Sequence[str | Path] | None,
    modalities: Sequence[str] = MODALITIES,
    absent_sequences: bool = False,
) -> Scan:
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
    for root in roots:
        for case in _find_below(root, modalities, seen, absent_sequences):
            places.setdefault(case.case_id, []).append(case)
    problems: list[Problem] = []
    for case_id, (first, *others) in places.items():
        problems += first.problems(modalities, absent_sequences)
        if others:
            folders = [first.folder, *(other.folder for other in others)]
            text = f"found in {len(folders)} folders: {', '.join(folders)}; expected in one"
            problems.append(Problem("case twice", case_id, tuple(map(Path, folders)), text))
    cases = tuple(places[case_id][0].to_case(modalities) for case_id in sorted(places, key=natural_key))
    every = [case for copies in places.values() for case in copies]
    return Scan(roots, cases, tuple(problems), _advice(every, () if absent_sequences else modalities))


_H5_SLICE = re.compile(r"volume_\d+_slice_\d+\.h5")


def _find_below(root: Path, modalities: Sequence[str], seen: set[str], absent_sequences: bool) -> list[CaseFiles]:
    """Find the cases at and below one folder.

    With ``absent_sequences`` and if no other case is found, a single image with an unknown identifier is a case.
    """
    if os.path.realpath(root) in seen:  # given twice, or below another root
        return []
    cases: list[CaseFiles] = []
    single: list[CaseFiles] = []
    for folder, files in walk_folders(root, seen):
        for case in group_by_case(folder, files):
            if case.is_case(modalities):
                cases.append(case)
            elif absent_sequences and len(case.images) == 1 and len(case.missing(modalities)) < len(modalities):
                single.append(case)
    if single and cases:
        logger.warning(
            "%s%s: ignored: a single sequence with an unknown name; if it is a case, pass its folder on its own",
            _first_file(single[0]),
            f" and {len(single) - 1} more" if len(single) > 1 else "",
        )
    elif single:
        _require_one_per_folder(root, single)
        cases = single
    if not cases:
        raise _no_cases(root)
    with_files = {case.case_id for case in cases if case.files}
    # An empty folder beside or around the files of its case is not a second case.
    return [case for case in cases if case.files or case.case_id not in with_files]


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


def _no_cases(root: Path) -> NoCasesError:
    """Walk the folder again and explain what it contains instead of BraTS cases."""
    convert = f"convert them with brats3d convert {shlex.quote(str(root))} OUT, then pass OUT"
    n_files, example = 0, ""
    for folder, files in walk_folders(root):
        n_files += len(files)
        example = example or next(iter(files), "")
        if h5 := next(filter(_H5_SLICE.fullmatch, files), ""):
            problem = f"contains HDF5 slices such as {h5}: Kaggle's HDF5 form of BraTS 2020"
            return NoCasesError(root, problem, expected="NIfTI files", advice=convert)
        if "dataset.json" in files and Path(folder, "imagesTr").is_dir():
            problem = f"contains a task of the Medical Segmentation Decathlon ({folder}): all sequences in one file"
            return NoCasesError(root, problem, expected="one NIfTI file per sequence", advice=convert)
    found = f"{n_files:,} file(s) such as {example}" if n_files else "no file"
    return NoCasesError(
        root,
        f"no BraTS case here or up to {MAX_FOLDER_DEPTH} folders below: found {found}",
        expected="folders such as BraTS20_Training_001 with BraTS20_Training_001_t1ce.nii[.gz], ...",
        advice="pass the folder that contains them",
    )


def _advice(cases: Sequence[CaseFiles], modalities: Sequence[str]) -> str:
    missing = {tuple(case.missing(modalities)) for case in cases}
    absent = [m for m in modalities if any(m in names for names in missing)]
    rest = ",".join(f"'{m}'" for m in modalities if m not in absent)
    if not absent or not rest:
        return "add or remove these files, or move these cases out of the folder"
    move = "" if len(missing) == 1 else " move these cases out of the folder,"
    return f'add the files,{move} or pass --modalities "[{rest}]" to work without {", ".join(absent)}'
