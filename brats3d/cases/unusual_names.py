"""Describe unusual file names of a data set: words that BraTS does not use; ambiguous, ignored or misplaced files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from brats3d.cases.case_files import CaseFiles
from brats3d.cases.file_names import SEGMENTATION, parse_name
from brats3d.cases.naming_rules import ANY_LAYOUT, ANY_LAYOUT_OF_2023
from brats3d.cases.text import name_some
from brats3d.labels import MODALITIES, MODALITY_ALIASES


def describe_names(cases: Sequence[CaseFiles]) -> Iterator[str]:
    """Yield a sentence about each kind of unusual name, with an example.

    Args:
        cases: the cases of a data set.
    """
    if examples := {key: file for case in cases for key, file in _other_words(case)}:
        texts = [f"{file} as {kind}" for (kind, *_), file in examples.items()]
        yield f"names with words that BraTS does not use: reading {name_some(texts, most=5)}"
    chosen = [case for case in cases if case.choices]
    if chosen:
        used, other = chosen[0].choices[0]
        yield (
            f"{_count(chosen, 'case')} with several files for one sequence or segmentation, such as {used} and "
            f"{Path(other).name}: the first is used; to use another, move the first out of the folder"
        )
    if unread := [path for case in cases for path in case.unread]:
        yield (
            f"{_count(unread, 'image file')} beside those of the cases, such as {unread[0]}: ignored, because "
            "their names state no sequence of these cases or their format is not read (see docs/data.md)"
        )
    if apart := [label for case in cases for label in case.files.get(SEGMENTATION, []) if _is_apart(case, label)]:
        yield f"{_count(apart, 'segmentation')} in another folder than the images, such as {apart[0]}: used"


def _other_words(case: CaseFiles) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Yield (kind, word, form) and file name for names with words that no release of BraTS uses."""
    for kind, paths in case.files.items():
        for path in paths:
            name = parse_name(file := path.rpartition(os.sep)[2])
            if name and (name.form or name.word not in _WORDS_OF_BRATS):
                yield (kind, name.word, name.form), file
    if len(case.stray_segmentations) == 1 and case.layout in (ANY_LAYOUT, ANY_LAYOUT_OF_2023):
        yield (SEGMENTATION, "", ""), Path(case.stray_segmentations[0]).name


_WORDS_OF_BRATS = {*MODALITIES, *MODALITY_ALIASES, SEGMENTATION}


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'s' * (len(things) != 1)}"


def _is_apart(case: CaseFiles, label: str) -> bool:
    """Return True if a segmentation is neither in the folder of its images nor in nnU-Net's labelsTr beside it."""
    folder = Path(label).parent
    is_raw = folder.name.startswith("labels") and case.layout.name == "nnunet"
    return bool(case.images) and not Path(label).is_relative_to(case.folder) and not is_raw
