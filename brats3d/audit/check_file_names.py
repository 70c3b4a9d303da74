"""Checks of the names of files and folders: missing, duplicate, ambiguous and misnamed files of a case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.cases import Case, Problem, identical_files


def file_name_findings(problems: Sequence[Problem], cases: Sequence[Case]) -> Iterator[Finding]:
    """Yield the findings in the names of a data set's files.

    Args:
        problems: those that the search for cases found.
        cases: every case.
    """
    are_identical = cache(_are_identical_folders)  # flat data have one problem per case, all about the same folders
    for problem in problems:
        repairable = True
        if problem.kind == "double":
            repairable = _are_identical(problem.files)
        elif problem.kind == "case twice":
            repairable = are_identical(problem.files)
        yield make_finding(_KINDS[problem.kind], problem.case_id, problem.files[0], problem.text, repairable)
    explained = {problem.case_id for problem in problems if problem.kind in ("ambiguous", "double")}
    for case in cases:
        if case.label is None and case.case_id not in explained:
            yield make_finding("no segmentation", case.case_id, None, "has no segmentation")


_KINDS = {
    "missing": "missing sequence",
    "double": "duplicate files",
    "case twice": "case in several folders",
    "unusable": "unsupported release",
    "misnamed": "misnamed segmentation",
    "ambiguous": "ambiguous segmentation",
}
"""The search's kind of problem -> kind of finding."""


def _are_identical(files: Sequence[Path]) -> bool:
    try:
        return any(len(group) == len(files) for group in identical_files(files))
    except ValueError:
        return False


def _are_identical_folders(folders: tuple[Path, ...]) -> bool:
    names = [sorted(path.name for path in folder.iterdir() if path.name[0] != ".") for folder in folders]
    return all(each == names[0] for each in names) and all(
        _are_identical([folder / name for folder in folders]) for name in names[0]
    )
