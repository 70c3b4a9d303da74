"""The files of one case, and the problems with their names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from brats3d.cases.case import Case, make_case, modality_rank
from brats3d.cases.file_names import SEGMENTATION
from brats3d.cases.naming_rules import ANY_LAYOUT, Layout, layout_of

ProblemKind = Literal["missing", "double", "case twice", "misnamed", "ambiguous", "unusable"]


@dataclass(frozen=True)
class Problem:
    """A problem with the names of a case's files.

    Args:
        kind: ``"missing"`` or ``"double"`` (files); ``"case twice"`` (in two folders); ``"misnamed"`` (a segmentation
            with a wrong name, used nevertheless); ``"ambiguous"`` (several files could be the segmentation; none is
            used); ``"unusable"`` (the release cannot be used).
        case_id: the case.
        files: the files or folders concerned.
        text: what was found and what was expected, on one line.
        modality: the modality of ``files``, or ``seg``; empty if they are folders.
    """

    kind: ProblemKind
    case_id: str
    files: tuple[Path, ...]
    text: str
    modality: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the case."""
        return self.files[0].parent if self.modality else self.files[0]


@dataclass
class CaseFiles:
    """The files of one case in one folder.

    Args:
        case_id: the case.
        folder: the folder.
        files: modality, or ``seg`` -> files. More than one file is a problem.
        stray_segmentations: files under other names that look like a segmentation.
        foreign_segmentations: segmentations named like those of other cases; never used.
        bare: True if the names state no case (``t1.nii.gz``), so that the folder's name is used.
        unnamed: image files whose names state no modality, in a folder named like a case without other images.
        unread: image files in the folder that belong to no case; their names are closest to this case's.
        choices: (used, ignored) pairs of files for the same sequence or segmentation.
    """

    case_id: str
    folder: str
    files: dict[str, list[str]] = field(default_factory=dict)
    stray_segmentations: list[str] = field(default_factory=list)
    foreign_segmentations: list[str] = field(default_factory=list)
    bare: bool = False
    unnamed: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    choices: list[tuple[str, str]] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """The layout of the names."""
        return layout_of(self.case_id, (path for paths in self.files.values() for path in paths))

    @property
    def images(self) -> set[str]:
        """The names of the modalities that have a file."""
        return self.files.keys() - {SEGMENTATION}

    def is_case(self, modalities: Sequence[str]) -> bool:
        """Return True if this is a case, not just an image such as ``atlas_t1.nii``.

        An unknown identifier must be the folder's name, or have two images.
        """
        if layout_of(self.case_id) is not ANY_LAYOUT or len(self.images) >= min(2, len(modalities)):
            return True
        return (Path(self.folder).name == self.case_id and not self.bare) or self.layout.name == "nnunet"

    def missing(self, modalities: Sequence[str]) -> list[str]:
        """Return the modalities without a file."""
        return [m for m in modalities if not self.files.get(m)]

    def to_case(self, modalities: Sequence[str]) -> Case:
        """Return the case with the first file of each modality, and its segmentation if that is unambiguous."""
        images = {m: Path(self.files[m][0]) for m in modalities if self.files.get(m)}
        candidates = self.files.get(SEGMENTATION) or self.stray_segmentations
        label = Path(candidates[0]) if len(candidates) == 1 else None
        # The grade is the nearest folder named HGG or LGG.
        grade = next((part.upper() for part in reversed(Path(self.folder).parts) if part.upper() in GRADES), None)
        return make_case(self.case_id, images, label, grade=grade)

    def problems(self, modalities: Sequence[str], absent_sequences: bool = False) -> Iterator[Problem]:
        """Yield the problems with the files of these modalities and with the segmentation.

        With ``absent_sequences``, one of the modalities is enough.
        """
        folder = (Path(self.folder),)
        if reason := layout_of(self.case_id).refused:
            yield Problem("unusable", self.case_id, folder, f"cannot be used: {reason}, in {self.folder}")
            return
        missing = self.missing(modalities)
        if missing and (not absent_sequences or len(missing) == len(modalities)):
            what = "no sequence" if absent_sequences else f"missing {', '.join(missing)}"
            expected = ("one or more of " if absent_sequences else "") + ", ".join(map(self._file_name, missing))
            found = ", ".join(sorted((m for m, paths in self.files.items() if paths), key=modality_rank)) or "none"
            if self.unnamed:
                found = f"{len(self.unnamed)} file(s) such as {self.unnamed[0]}"
            text = f"{what}; found {found} in {self.folder}; expected {expected}"
            yield Problem("missing", self.case_id, folder, text)
        for modality in (*modalities, SEGMENTATION):
            if len(paths := self.files.get(modality, [])) > 1:
                text = f"{len(paths)} files for {modality}: {self._names(paths)} in {self.folder}; expected one"
                yield Problem("double", self.case_id, tuple(map(Path, paths)), text, modality)
        yield from self._problems_of_segmentation()

    def _problems_of_segmentation(self) -> Iterator[Problem]:
        kind: ProblemKind = "ambiguous"
        if paths := self.foreign_segmentations:
            text = f"the segmentation of another case is in its folder: {self._names(paths)}"
        elif self.files.get(SEGMENTATION) or not (paths := self.stray_segmentations):
            return
        elif len(paths) == 1:
            kind, text = "misnamed", f"its segmentation is {self._names(paths)}"
        else:
            text = f"{len(paths)} files could be its segmentation: {self._names(paths)}"
        text = f"{text} in {self.folder}; expected {self._file_name(SEGMENTATION)}"
        yield Problem(kind, self.case_id, tuple(map(Path, paths)), text, SEGMENTATION)

    def _file_name(self, modality: str) -> str:
        return f"{modality if self.bare else self.layout.file_name(self.case_id, modality)}.nii[.gz]"

    def _names(self, paths: Sequence[str]) -> str:
        return " and ".join(sorted(os.path.relpath(path, self.folder) for path in paths))


GRADES = ("HGG", "LGG")
"""High- and low-grade glioma, the folders of BraTS 2017 to 2019."""
