"""The search for cases: folders are walked and their files sorted by case, by their names alone."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brats3d.cases.layouts import ANY_LAYOUT, SEGMENTATION, layout_of, parse_file_name
from brats3d.labels import MODALITIES

logger = logging.getLogger("brats3d")


class NoCaseError(ValueError):
    """A folder holds no case."""


@dataclass(frozen=True)
class Problem:
    """Something about the names of a case's files.

    Args:
        kind: ``"missing"``, ``"double"``, ``"case twice"``, ``"misnamed"`` (a segmentation under a wrong name, taken
            nevertheless), ``"ambiguous"`` (several files could be the segmentation; none is taken) or ``"unnamed"``
            (no file names a sequence; :func:`find_unnamed`).
        case_id: whose.
        files: the files, or the folders, that it is about.
        text: what was found and what was expected, on one line.
    """

    kind: str
    case_id: str
    files: tuple[Path, ...]
    text: str


@dataclass
class FoundCase:
    """The files of one case as they lie in one folder; more than one file a modality is a problem."""

    case_id: str
    folder: str
    files: dict[str, list[str]] = field(default_factory=dict)
    stray_segmentations: list[str] = field(default_factory=list)
    foreign_segmentations: list[str] = field(default_factory=list)
    """Named like those of other cases; never taken."""
    bare: bool = False
    """The names state no case (``t1.nii.gz``); the folder's name is it."""

    @property
    def label(self) -> Path | None:
        """The segmentation, where exactly one file can be it."""
        candidates = self.files.get(SEGMENTATION) or self.stray_segmentations
        return Path(candidates[0]) if len(candidates) == 1 else None

    def is_case(self, modalities: Sequence[str]) -> bool:
        """A lone ``atlas_t1.nii`` is no case: an unknown identifier needs its folder's name or company."""
        of_folder = Path(self.folder).name == self.case_id and not self.bare
        known = layout_of(self.case_id) is not ANY_LAYOUT or of_folder
        return known or len(self.files.keys() - {SEGMENTATION}) >= min(2, len(modalities))

    @property
    def refused(self) -> str:
        """Why cases of its release cannot be used; empty where they can."""
        why = layout_of(self.case_id).refused
        return f"cannot be used: {why}" if why else ""

    @property
    def is_lone(self) -> bool:
        """Whether it is a single image: a case that lacks sequences, or no case at all."""
        return len(self.files.keys() - {SEGMENTATION}) == 1

    def missing(self, modalities: Sequence[str]) -> list[str]:
        """Those of the modalities that have no file."""
        return [m for m in modalities if not self.files.get(m)]

    def problems(self, modalities: Sequence[str], absent_sequences: bool = False) -> Iterator[Problem]:
        """What is missing, double or misnamed among the files of these modalities and the segmentation.

        With ``absent_sequences`` one of the modalities is enough.
        """
        if why := self.refused:
            yield Problem("unusable", self.case_id, (Path(self.folder),), f"{why}, in {self.folder}")
            return
        missing = self.missing(modalities)
        if len(missing) > (len(modalities) - 1 if absent_sequences else 0):
            names = ", ".join(map(self._expected, missing))
            found = ", ".join(sorted((m for m, paths in self.files.items() if paths), key=modality_rank)) or "none"
            which, number = (
                ("no sequence", "one or more of ") if absent_sequences else (f"missing {', '.join(missing)}", "")
            )
            text = f"{which}; found {found} in {self.folder}; expected {number}{names}"
            yield Problem("missing", self.case_id, (Path(self.folder),), text)
        for modality in (*modalities, SEGMENTATION):
            if len(paths := self.files.get(modality, [])) > 1:
                text = f"{len(paths)} files for {modality}: {self._listed(paths)} in {self.folder}; expected one"
                yield Problem("double", self.case_id, tuple(map(Path, paths)), text)
        if paths := self.foreign_segmentations:
            text = f"the segmentation of another case lies in its folder: {self._listed(paths)} in {self.folder}"
            yield Problem("ambiguous", self.case_id, tuple(map(Path, paths)), f"{text}; expected none, or its own name")
        elif not self.files.get(SEGMENTATION) and (paths := self.stray_segmentations):
            kind, text = (
                ("misnamed", f"its segmentation is {self._listed(paths)}")
                if len(paths) == 1
                else ("ambiguous", f"{len(paths)} files could be its segmentation: {self._listed(paths)}")
            )
            text = f"{text} in {self.folder}; expected {self._expected(SEGMENTATION)}"
            yield Problem(kind, self.case_id, tuple(map(Path, paths)), text)

    def _expected(self, modality: str) -> str:
        layout = layout_of(self.case_id, (path for paths in self.files.values() for path in paths))
        return f"{modality if self.bare else layout.file_name(self.case_id, modality)}.nii[.gz]"

    def _listed(self, paths: Sequence[str]) -> str:
        return " and ".join(sorted(os.path.relpath(path, self.folder) for path in paths))


def find_below(
    root: Path, modalities: Sequence[str], seen: set[str], absent_sequences: bool = False
) -> list[FoundCase]:
    """The cases at and below one folder; a ValueError that says what lies there if there is none.

    With ``absent_sequences`` a single image under an unknown identifier is a case where nothing else is found, as long
    as its folder holds no second one.
    """
    if os.path.realpath(root) in seen:  # listed twice, or below another that was listed
        return []
    found: list[FoundCase] = []
    lone: list[FoundCase] = []
    n_files, examples = 0, {"any": "", "h5": "", "msd": ""}
    for folder, files in walk(root, seen):
        for each in _group(folder, files):
            if each.is_case(modalities):
                found.append(each)
            elif absent_sequences and each.is_lone and len(each.missing(modalities)) < len(modalities):
                lone.append(each)
        n_files += len(files)
        examples["any"] = examples["any"] or next(iter(files), "")
        if not found:
            examples["h5"] = examples["h5"] or next(filter(_H5_SLICE.fullmatch, files), "")
            examples["msd"] = examples["msd"] or (folder if _is_decathlon(folder, files) else "")
    found = _with_lone(root, found, lone)
    if found and all(each.refused for each in found):
        raise ValueError(
            f"{found[0].folder}: {found[0].case_id} {found[0].refused}; expected the sequences "
            f"{', '.join(MODALITIES)} and BraTS's labels; move such cases out of the folder"
        )
    if found:  # an empty folder beside or around its case's files is no second case
        full = {each.case_id for each in found if each.files}
        return [each for each in found if each.files or each.case_id not in full]
    raise NoCaseError(_no_case(root, n_files, examples))


def find_unnamed(root: Path, case_ids: Collection[str]) -> Iterator[Problem]:
    """Folders that are called as a known release calls its cases, with NIfTI files none of which names a sequence.

    Args:
        root: the folder to search.
        case_ids: of the cases that were found there.
    """
    for folder, files in walk(root, set()):
        own = Path(folder).name
        names = [name for name in files if _NIFTI.fullmatch(name)]
        if own in case_ids or layout_of(own) is ANY_LAYOUT or not names or any(map(parse_file_name, names)):
            continue
        text = (
            f"found {len(names)} file(s) such as {names[0]}; expected names that say which sequence each is, such as "
            f"{layout_of(own).file_name(own, MODALITIES[0])}.nii[.gz]"
        )
        yield Problem("unnamed", own, (Path(folder),), text)


def modality_rank(modality: str) -> tuple[int, str]:
    """Sorts modalities into their order, and what is none after them."""
    return (MODALITIES.index(modality) if modality in MODALITIES else len(MODALITIES)), modality


_STRAY_SEGMENTATION = re.compile(r".*segm?\.nii(\.gz)?", re.IGNORECASE)  # 355's is W39_1998.09.19_Segm.nii

_NIFTI = re.compile(r".*\.nii(\.gz)?", re.IGNORECASE)

_H5_SLICE = re.compile(r"volume_\d+_slice_\d+\.h5")

_IGNORED_FOLDERS = ("__MACOSX", "lost+found")

_MAX_DEPTH = 6  # Kaggle's archive has its cases at depth 3

_MAX_FOLDERS = 100_000


def _with_lone(root: Path, found: list[FoundCase], lone: Sequence[FoundCase]) -> list[FoundCase]:
    """The cases; if there is none, the single images, each in a folder of its own."""
    names = [next(path for paths in each.files.values() for path in paths) for each in lone]
    if found and lone:
        more = f" and {len(lone) - 1} more" if len(lone) > 1 else ""
        text = (
            "%s%s: not taken for a case: a single sequence under an unknown name; if it is one, give its folder alone"
        )
        logger.warning(text, names[0], more)
    if found or not lone:
        return found
    folders = [each.folder for each in lone]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        inside = [Path(name).name for name, folder in zip(names, folders, strict=True) if folder == twice]
        raise ValueError(
            f"{root}: {len(inside)} files in {twice} are single sequences under different names, such as {inside[0]} "
            f"and {inside[1]}: the files of one case, or several cases? expected one name for the files of one case, "
            "or a folder for each case"
        )
    return list(lone)


def _no_case(root: Path, n_files: int, examples: Mapping[str, str]) -> str:
    convert = f"brats3d convert {shlex.quote(str(root))} OUT writes them; then give OUT"
    if examples["h5"]:
        return (
            f"{root}: holds HDF5 slices such as {examples['h5']}: Kaggle's HDF5 form of BraTS 2020; "
            f"expected NIfTI files: {convert}"
        )
    if examples["msd"]:
        return (
            f"{root}: holds a task of the Medical Segmentation Decathlon ({examples['msd']}/dataset.json): all "
            f"sequences in one file; expected one NIfTI file a sequence: {convert}"
        )
    what = f"found {n_files:,} file(s) such as {examples['any']}" if n_files else "found no file"
    return (
        f"{root}: no BraTS case here or up to {_MAX_DEPTH} folders below: {what}; expected folders like "
        "BraTS20_Training_001 with BraTS20_Training_001_t1ce.nii[.gz], …; give the folder that holds them"
    )


def _is_decathlon(folder: str, files: Mapping[str, Any]) -> bool:
    return "dataset.json" in files and Path(folder, "imagesTr").is_dir()


def _group(folder: str, files: Mapping[str, list[str]]) -> list[FoundCase]:
    """Sort the files of one folder by case."""
    own = Path(folder).name
    groups: dict[str, FoundCase] = {}
    strays: list[str] = []
    for name, paths in files.items():
        if parsed := parse_file_name(name):
            case_id, modality = parsed
            each = groups.setdefault(case_id or own, FoundCase(case_id or own, folder, bare=not case_id))
            each.files.setdefault(modality, []).extend(paths)
        elif _STRAY_SEGMENTATION.fullmatch(name):
            strays += paths
    with_images = [each for each in groups.values() if each.files.keys() - {SEGMENTATION}]
    if len(with_images) == 1 and not with_images[0].files.get(SEGMENTATION):
        # An unknown identifier's segmentation in a folder of one case is that case's, misnamed; a known one's is not.
        case = with_images[0]
        for each in groups.values():
            known = layout_of(each.case_id) is not ANY_LAYOUT
            (case.foreign_segmentations if known else strays).extend(each.files.get(SEGMENTATION, []))
        case.stray_segmentations = strays
        return with_images
    if not files and layout_of(own) is not ANY_LAYOUT:  # an interrupted download leaves empty folders
        return [FoundCase(own, folder)]
    return list(groups.values())


def walk(root: Path, seen: set[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Each folder at and below ``root`` with its files: name -> paths. Links are followed, each folder is visited once.

    A folder named like a NIfTI file stands for the NIfTI files in it: one is what some of Kaggle's archives unpack to.
    """
    stack = [(str(root), os.path.realpath(root), 0)]
    while stack:
        folder, real, depth = stack.pop()
        if real in seen:
            continue
        seen.add(real)
        if len(seen) > _MAX_FOLDERS:
            raise ValueError(
                f"{root}: more than {_MAX_FOLDERS:,} folders; expected BraTS cases; give the folder that holds them"
            )
        files: dict[str, list[str]] = {}
        below = []
        for entry in _list(folder):
            if not _is_folder(entry):
                files[entry.name] = [entry.path]
            elif _NIFTI.fullmatch(entry.name):
                files[entry.name] = [inner.path for inner in _list(entry.path) if _NIFTI.fullmatch(inner.name)]
            elif entry.name not in _IGNORED_FOLDERS and depth < _MAX_DEPTH:
                inside = os.path.realpath(entry.path) if entry.is_symlink() else str(Path(real, entry.name))
                below.append((entry.is_symlink(), entry.path, inside))
        yield folder, files
        # Last in, first out: real folders before links to them, each in the order of their names.
        stack += [(path, inside, depth + 1) for _, path, inside in sorted(below, reverse=True)]


def _list(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except PermissionError:
        raise ValueError(
            f"{folder}: no permission to list this folder; expected to read it; change its permissions"
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
