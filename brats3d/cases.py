"""BraTS cases on disk: found in a folder as it was downloaded, by the names of files and folders alone.

Nothing is opened, repaired or guessed: what cannot be bound to one case and one modality is reported. What is wrong
inside the files is for :mod:`brats3d.checks` to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brats3d.labels import MODALITIES, MODALITY_ALIASES, order_modalities

__all__ = [
    "ANY_LAYOUT",
    "LAYOUTS",
    "Case",
    "Layout",
    "check_folder",
    "check_path_syntax",
    "find_cases",
    "layout_of",
    "make_case",
    "modality_of",
    "natural_key",
    "report_problems",
]


@dataclass(frozen=True)
class Case:
    """One case: the files of one scan session.

    Args:
        case_id: one path component; outputs are named by it.
        patient_id: whose scan it is; splits group by it.
        images: modality -> file, in the order of :data:`brats3d.labels.MODALITIES`.
        label: the segmentation, if there is one.
        layout: name of the layout that the names follow.

    Raises:
        ValueError: if ``case_id`` is not one path component.
    """

    case_id: str
    patient_id: str
    images: Mapping[str, Path] = field(hash=False)
    label: Path | None
    layout: str

    def __post_init__(self) -> None:
        if self.case_id in ("", ".", "..") or re.search(r"[/\\\0]", self.case_id):
            raise ValueError(
                f"case_id: expected one path component, such as BraTS20_Training_001, got {self.case_id!r}"
            )

    @property
    def convention(self) -> str:
        """Name of the label convention that the layout's names decide."""
        return layout_of(self.case_id).convention

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case: the images in their order, then the segmentation."""
        return (*self.images.values(), *([self.label] if self.label else []))


@dataclass(frozen=True)
class Layout:
    """How one release names its cases, and what follows from that.

    Args:
        name: the layout's name.
        case_id: matches the whole of a case's identifier.
        convention: name of the label convention that the release uses.
        patient: case_id -> patient_id; several time points of one patient share it.
    """

    name: str
    case_id: re.Pattern[str]
    convention: str = "brats2020"
    patient: Callable[[str], str] = str


ANY_LAYOUT = Layout("brats2020", re.compile(r".+"))
"""BraTS 2020's form of file name under any other identifier, such as ``TCGA-DU-7294_t1ce.nii.gz``."""

LAYOUTS = (
    Layout("brats2020", re.compile(r"BraTS20_(Training|Validation)_\d+")),
    Layout("brats2021", re.compile(r"BraTS2021_\d+")),
    ANY_LAYOUT,
)
"""Every layout that is understood; the first whose ``case_id`` matches decides. New releases go before the last."""


def find_cases(
    dataset_dir: str | Path | Sequence[str | Path] | None,
    modalities: Sequence[str] = MODALITIES,
    require_label: bool = False,
) -> list[Case]:
    """Find the BraTS cases in a folder as it was downloaded.

    Args:
        dataset_dir: the folder of case folders, a folder above it, one case's folder, or a list of such folders.
        modalities: the sequences that every case must have.
        require_label: leave out cases without a segmentation (BraTS's validation cases lie beside the training cases).

    Returns:
        The cases in the natural order of their identifiers, with absolute paths.

    Raises:
        FileNotFoundError: if ``dataset_dir`` does not exist.
        ValueError: if it is not given, is no folder or holds no case; or with every missing and double file at once.
    """
    modalities = order_modalities(modalities)
    if dataset_dir is None:
        raise ValueError("dataset_dir: not given; expected a folder with BraTS cases; pass --dataset_dir DIR")
    listed = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else list(dataset_dir or [""])
    roots = [check_folder(folder) for folder in listed]
    seen: set[str] = set()
    found = [each for root in roots for each in _find_below(root, modalities, seen)]
    folders: dict[str, list[str]] = {}
    for each in found:
        folders.setdefault(each.case_id, []).append(each.folder)
    problems = [
        f"{case_id}: found in {len(where)} folders: {', '.join(where)}; expected in one"
        for case_id, where in folders.items()
        if len(where) > 1
    ]
    unique = [each for each in found if len(folders[each.case_id]) == 1]
    problems += [problem for each in unique for problem in each.problems(modalities, require_label)]
    where = str(roots[0]) if len(roots) == 1 else f"{roots[0]} and {len(roots) - 1} more"
    if problems:
        report_problems(where, sorted(problems, key=natural_key), _advice(found, modalities))
    cases = [
        make_case(each.case_id, {m: Path(each.files[m][0]) for m in modalities}, each.label)
        for each in sorted(found, key=lambda each: natural_key(each.case_id))
    ]
    if require_label and not any(case.label for case in cases):
        raise ValueError(
            f"{where}: none of the {len(cases)} case(s) has a segmentation; expected files like "
            f"{cases[0].case_id}_seg.nii[.gz]; training and evaluation need them: give the folder of the training cases"
        )
    return [case for case in cases if case.label or not require_label]


def make_case(case_id: str, images: Mapping[str, Path], label: Path | None, patient_id: str | None = None) -> Case:
    """A :class:`Case` whose layout and, unless given, patient follow from its identifier."""
    layout = layout_of(case_id)
    patient_id = layout.patient(case_id) if patient_id is None else patient_id
    return Case(case_id, patient_id, {m: images[m] for m in sorted(images, key=_rank)}, label, layout.name)


def layout_of(case_id: str) -> Layout:
    """The layout that a case's identifier follows."""
    return next((layout for layout in LAYOUTS if layout.case_id.fullmatch(case_id)), ANY_LAYOUT)


def modality_of(path: str | Path) -> str | None:
    """The modality that a file's name states, under BraTS 2020's name, or None if it states none.

    One form of Kaggle's archive has a folder in each file's place (``X_flair.nii/00000057_brain.nii``): where the
    file's own name says nothing, its folder's does.
    """
    path = Path(path)
    match = _MODALITY_FILE.fullmatch(path.name) or _MODALITY_FILE.fullmatch(path.parent.name)
    return MODALITY_ALIASES.get(name := match["modality"].lower(), name) if match else None


def natural_key(text: str) -> tuple[list[Any], str]:
    """Sorts ``case_2`` before ``case_10``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", text)], text


def check_folder(folder: str | os.PathLike[str] | None, name: str = "dataset_dir") -> Path:
    """The folder's absolute path.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is no folder, or its path is syntax to MONAI.
    """
    text = str(folder or "")
    if not text.strip():
        raise ValueError(f"{name}: expected a folder with BraTS cases, got {folder!r}")
    check_path_syntax(text, name)
    path = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - links stay as they are
    if not path.exists():
        raise FileNotFoundError(f"{name}: there is no {path}; expected a folder with BraTS cases; check the path")
    if not path.is_dir():
        raise ValueError(f"{name}: {path} is a file; expected a folder with BraTS cases, or one case's folder")
    return path


def check_path_syntax(path: str | Path, name: str) -> None:
    """Refuse a path that MONAI's config parser would read as something else.

    Raises:
        ValueError: if it holds ``#`` or ``::``, or starts with ``$``, ``@`` or ``%``.
    """
    text = str(path)
    if "#" in text or "::" in text:
        why = "holds '#' or '::', with which MONAI separates config ids (it rewrites '#' as '::')"
    elif text.startswith(("$", "@", "%")):
        why = f"starts with {text[0]!r}, which MONAI reads as an expression, a reference or a macro"
    else:
        return
    raise ValueError(f"{name}: the path {text!r} {why}; rename the folder, or link to it under another name")


def report_problems(where: str, problems: Sequence[str], advice: str) -> None:
    """Raise every problem at once: one as a single line, several as a list that is cut at 20.

    Raises:
        ValueError: always.
    """
    if len(problems) == 1:
        raise ValueError(f"{where}: {problems[0]}; {advice}")
    more = [f"and {len(problems) - _MAX_LISTED} more"] if len(problems) > _MAX_LISTED else []
    lines = (f"{where}: {len(problems)} problems", *problems[:_MAX_LISTED], *more)
    raise ValueError("\n  ".join(lines) + f"\nWhat to do: {advice}")


_MODALITY = "|".join((*MODALITIES, *MODALITY_ALIASES))
_CASE_FILE = re.compile(rf"(?P<case_id>.+)_(?P<modality>{'|'.join(MODALITIES)}|seg)\.nii(\.gz)?", re.IGNORECASE)
_MODALITY_FILE = re.compile(rf".*[_-](?P<modality>{_MODALITY})\.nii(\.gz)?", re.IGNORECASE)
_STRAY_SEGMENTATION = re.compile(r".*segm?\.nii(\.gz)?", re.IGNORECASE)  # 355's is W39_1998.09.19_Segm.nii
_NIFTI = re.compile(r".*\.nii(\.gz)?", re.IGNORECASE)
_H5_SLICE = re.compile(r"volume_\d+_slice_\d+\.h5")
_IGNORED_FOLDERS = ("__MACOSX", "lost+found")
_MAX_DEPTH = 6  # Kaggle's archive has its cases at depth 3
_MAX_FOLDERS = 100_000
_MAX_LISTED = 20


@dataclass
class _Found:
    """The files of one case as they lie in one folder; more than one file a modality is a problem."""

    case_id: str
    folder: str
    files: dict[str, list[str]] = field(default_factory=dict)
    stray_segmentations: list[str] = field(default_factory=list)

    @property
    def label(self) -> Path | None:
        candidates = self.files.get("seg") or self.stray_segmentations
        return Path(candidates[0]) if len(candidates) == 1 else None

    def is_case(self, modalities: Sequence[str]) -> bool:
        """A lone ``atlas_t1.nii`` is no case: an unknown identifier needs its folder's name or company."""
        known = layout_of(self.case_id) is not ANY_LAYOUT or Path(self.folder).name == self.case_id
        return known or len(self.files.keys() - {"seg"}) >= min(2, len(modalities))

    def missing(self, modalities: Sequence[str]) -> list[str]:
        return [m for m in modalities if not self.files.get(m)]

    def problems(self, modalities: Sequence[str], require_label: bool) -> Iterator[str]:
        if missing := self.missing(modalities):
            names = ", ".join(f"{self.case_id}_{m}.nii[.gz]" for m in missing)
            found = ", ".join(sorted((m for m, paths in self.files.items() if paths), key=_rank)) or "none"
            yield f"{self.case_id}: missing {', '.join(missing)}; found {found} in {self.folder}; expected {names}"
        for modality in (*modalities, "seg"):
            if len(paths := self.files.get(modality, [])) > 1:
                names = " and ".join(sorted(os.path.relpath(path, self.folder) for path in paths))
                yield f"{self.case_id}: {len(paths)} files for {modality}: {names} in {self.folder}; expected one"
        if require_label and not self.files.get("seg") and len(self.stray_segmentations) > 1:
            names = " and ".join(sorted(os.path.relpath(path, self.folder) for path in self.stray_segmentations))
            yield (
                f"{self.case_id}: {len(self.stray_segmentations)} files could be its segmentation: {names} in "
                f"{self.folder}; expected {self.case_id}_seg.nii[.gz]"
            )


def _find_below(root: Path, modalities: Sequence[str], seen: set[str]) -> list[_Found]:
    """The cases at and below one folder; a ValueError that says what lies there if there is none."""
    if os.path.realpath(root) in seen:  # listed twice, or below another that was listed
        return []
    found: list[_Found] = []
    n_files, example, h5 = 0, "", ""
    for folder, files in _walk(root, seen):
        found += [each for each in _group(folder, files) if each.is_case(modalities)]
        n_files += len(files)
        example = example or next(iter(files), "")
        h5 = h5 or (next(filter(_H5_SLICE.fullmatch, files), "") if not found else "")
    if found:  # an empty folder beside or around its case's files is no second case
        full = {each.case_id for each in found if each.files}
        return [each for each in found if each.files or each.case_id not in full]
    if h5:
        raise ValueError(
            f"{root}: holds HDF5 slices such as {h5}: Kaggle's HDF5 form of BraTS 2020, which brats3d does not read "
            "yet (a later version will convert it); download the NIfTI form instead "
            "(BraTS20_Training_001/BraTS20_Training_001_t1ce.nii)"
        )
    what = f"found {n_files:,} file(s) such as {example}" if n_files else "found no file"
    raise ValueError(
        f"{root}: no BraTS case here or up to {_MAX_DEPTH} folders below: {what}; expected folders like "
        "BraTS20_Training_001 with BraTS20_Training_001_t1ce.nii[.gz], …; give the folder that holds them"
    )


def _group(folder: str, files: Mapping[str, list[str]]) -> list[_Found]:
    """Sort the files of one folder by case."""
    groups: dict[str, _Found] = {}
    strays: list[str] = []
    for name, paths in files.items():
        if match := _CASE_FILE.fullmatch(name):
            each = groups.setdefault(match["case_id"], _Found(match["case_id"], folder))
            each.files.setdefault(match["modality"].lower(), []).extend(paths)
        elif _STRAY_SEGMENTATION.fullmatch(name):
            strays += paths
    with_images = [each for each in groups.values() if each.files.keys() - {"seg"}]
    if len(with_images) == 1 and not with_images[0].files.get("seg"):
        # Another identifier's segmentation in a folder of one case is that case's, misnamed.
        strays += [path for each in groups.values() for path in each.files.get("seg", [])]
        with_images[0].stray_segmentations = strays
        return with_images
    name = Path(folder).name
    if not files and layout_of(name) is not ANY_LAYOUT:  # an interrupted download leaves empty folders
        return [_Found(name, folder)]
    return list(groups.values())


def _walk(root: Path, seen: set[str]) -> Iterator[tuple[str, dict[str, list[str]]]]:
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


def _advice(found: Sequence[_Found], modalities: Sequence[str]) -> str:
    missing = {tuple(each.missing(modalities)) for each in found}
    rest = [m for m in modalities if missing and m not in next(iter(missing))]
    if len(missing) == 1 and 0 < len(rest) < len(modalities):
        names = ",".join(f"'{m}'" for m in rest)
        return f'add the files, or pass --modalities "[{names}]" to work without {", ".join(next(iter(missing)))}'
    return "add or remove these files, or move these cases out of the folder"


def _rank(modality: str) -> tuple[int, str]:
    return (MODALITIES.index(modality) if modality in MODALITIES else len(MODALITIES)), modality
