"""Describe the files of a data set that look like images but are not used, once for the whole data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from brats3d.cases.case_files import CaseFiles
from brats3d.cases.file_names import SEGMENTATION


def describe_unused(cases: Sequence[CaseFiles]) -> Iterator[str]:
    """Yield a sentence about each kind of file that is not used, or that is used from an unusual place.

    Args:
        cases: the cases of a data set.
    """
    chosen = [case for case in cases if case.choices]
    if chosen:
        used, other = chosen[0].choices[0]
        yield (
            f"{_count(chosen, 'case')} with several files for one sequence or segmentation, such as {used} and "
            f"{Path(other).name}: the first is used; to use others, move these out of the folder"
        )
    if unread := [path for case in cases for path in case.unread]:
        yield (
            f"{_count(unread, 'image file')} beside those of the cases, such as {unread[0]}: not read, since the names "
            "state none of the sequences (docs/data.md lists the names)"
        )
    if apart := [label for case in cases for label in case.files.get(SEGMENTATION, []) if _is_apart(case, label)]:
        yield f"{_count(apart, 'segmentation')} in another folder than the images, such as {apart[0]}: used"


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'s' * (len(things) != 1)}"


def _is_apart(case: CaseFiles, label: str) -> bool:
    """Return True if a segmentation is neither in the folder of its images nor in nnU-Net's labelsTr beside it."""
    folder = Path(label).parent
    is_raw = folder.name.startswith("labels") and case.layout.name == "nnunet"
    return bool(case.images) and not Path(label).is_relative_to(case.folder) and not is_raw
