"""BraTS cases on disk: found in a folder as it was downloaded, by the names of files and folders alone.

Nothing is opened, repaired or guessed: what cannot be bound to one case and one modality is reported. What is wrong
inside the files is for :mod:`brats3d.cases.checks` to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from brats3d.cases.discovery import FoundCase, Problem, find_below, modality_rank
from brats3d.cases.layouts import SEGMENTATION, layout_of
from brats3d.errors import DataError, UsageError
from brats3d.labels import MODALITIES, get_convention, order_modalities

MAX_CASE_ID_BYTES = 200
"""File systems take names of 255 bytes; what is being written has a suffix and a longer, hidden name."""


@dataclass(frozen=True)
class Case:
    """One case: the files of one scan session.

    Args:
        case_id: one path component; outputs are named by it.
        patient_id: whose scan it is; splits group by it.
        images: modality -> file, in the order of :data:`brats3d.labels.MODALITIES`.
        label: the segmentation, if there is one.
        layout: name of the layout that the names follow.
        convention: name of the label convention; None where the names do not decide it.
        grade: ``"HGG"`` or ``"LGG"`` where the case lies in a folder of that name (BraTS 2017 to 2019).

    Raises:
        ValueError: if ``case_id`` cannot be part of a file's name; see :func:`check_case_id`.
    """

    case_id: str
    patient_id: str
    images: Mapping[str, Path] = field(hash=False)
    label: Path | None
    layout: str
    convention: str | None = "brats2020"
    grade: str | None = None

    def __post_init__(self) -> None:
        check_case_id(self.case_id)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case: the images in their order, then the segmentation."""
        return (*self.images.values(), *([self.label] if self.label else []))


@dataclass(frozen=True)
class Scan:
    """What lies in a folder.

    Args:
        roots: the folders that were searched.
        cases: every case with the files that it has, whole or not, in the natural order of their identifiers. A case
            that lies in several folders stands here as the first of them.
        problems: what is missing, double or misnamed.
        advice: what to do about it.
    """

    roots: tuple[Path, ...]
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    advice: str


def find_cases(
    dataset_dir: str | Path | Sequence[str | Path] | None,
    modalities: Sequence[str] = MODALITIES,
    require_label: bool = False,
    absent_sequences: bool = False,
) -> list[Case]:
    """Find the BraTS cases in a folder as it was downloaded.

    Args:
        dataset_dir: the folder of case folders, a folder above it, one case's folder, or a list of such folders.
        modalities: the sequences that every case must have.
        require_label: leave out cases without a segmentation (BraTS's validation cases lie beside the training cases).
        absent_sequences: whether a case may lack some of the modalities, though never all of them.

    Returns:
        The cases in the natural order of their identifiers, with absolute paths.

    Raises:
        FileNotFoundError: if ``dataset_dir`` does not exist.
        ValueError: if it is not given, is no folder or holds no case; or with every missing and double file at once.
    """
    scan = scan_cases(dataset_dir, modalities, absent_sequences)
    problems = [f"{problem.case_id}: {problem.text}" for problem in serious_problems(scan, require_label)]
    where = str(scan.roots[0]) if len(scan.roots) == 1 else f"{scan.roots[0]} and {len(scan.roots) - 1} more"
    if problems:
        raise DataError.of_many(where, sorted(problems, key=natural_key), scan.advice)
    if require_label and not any(case.label for case in scan.cases):
        first = scan.cases[0].case_id
        raise ValueError(
            f"{where}: none of the {len(scan.cases)} case(s) has a segmentation; expected files like "
            f"{layout_of(first).file_name(first, SEGMENTATION)}.nii[.gz]; training and evaluation need them: give the "
            "folder of the training cases"
        )
    return [case for case in scan.cases if case.label or not require_label]


def serious_problems(scan: Scan, require_label: bool = False) -> list[Problem]:
    """Those for which a case cannot be used; what is wrong with its segmentation matters only where one is needed."""
    harmless = {"misnamed"} if require_label else {"misnamed", "ambiguous"}
    return [problem for problem in scan.problems if problem.kind not in harmless]


def scan_cases(
    dataset_dir: str | Path | Sequence[str | Path] | None,
    modalities: Sequence[str] = MODALITIES,
    absent_sequences: bool = False,
) -> Scan:
    """Look at the names of all files in a folder as it was downloaded, and report what is odd instead of raising it.

    Args:
        dataset_dir: as for :func:`find_cases`.
        modalities: the sequences that every case should have; others are not looked at.
        absent_sequences: as for :func:`find_cases`.

    Raises:
        FileNotFoundError: if ``dataset_dir`` does not exist.
        ValueError: if it is not given, is no folder, or holds no case or one of a release that cannot be used.
    """
    modalities = order_modalities(modalities)
    if dataset_dir is None:
        raise ValueError("dataset_dir: not given; expected a folder with BraTS cases; pass --dataset_dir DIR")
    listed = [dataset_dir] if isinstance(dataset_dir, str | os.PathLike) else list(dataset_dir or [""])
    roots = tuple(check_folder(folder) for folder in listed)
    seen: set[str] = set()
    found: dict[str, list[FoundCase]] = {}
    for each in (each for root in roots for each in find_below(root, modalities, seen, absent_sequences)):
        found.setdefault(each.case_id, []).append(each)
    problems: list[Problem] = []
    for case_id, places in found.items():
        problems += places[0].problems(modalities, absent_sequences)
        if len(places) > 1:
            folders = [each.folder for each in places]
            text = f"found in {len(folders)} folders: {', '.join(folders)}; expected in one"
            problems.append(Problem("case twice", case_id, tuple(map(Path, folders)), text))
    cases = [_to_case(found[case_id][0], modalities) for case_id in sorted(found, key=natural_key)]
    expected = [] if absent_sequences else modalities
    advice = _advice([each for places in found.values() for each in places], expected)
    return Scan(roots, tuple(cases), tuple(problems), advice)


def make_case(
    case_id: str,
    images: Mapping[str, Path],
    label: Path | None,
    patient_id: str | None = None,
    convention: str | None = None,
    grade: str | None = None,
) -> Case:
    """A :class:`Case`; its layout and, unless given, patient and label convention follow from its identifier."""
    layout = layout_of(case_id, images.values())
    patient_id = layout.patient_of(case_id) if patient_id is None else patient_id
    ordered = {m: images[m] for m in sorted(images, key=modality_rank)}
    return Case(case_id, patient_id, ordered, label, layout.name, convention or layout.convention, grade)


def absent_warnings(cases: Sequence[Case], modalities: Sequence[str] = MODALITIES) -> list[str]:
    """What is said of cases that lack some of the modalities, for the network is given zeros there: a line a subset."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        lacking.setdefault(tuple(m for m in modalities if m not in case.images), []).append(case.case_id)
    return [_absent_warning(absent, case_ids) for absent, case_ids in lacking.items() if absent]


def with_convention(cases: Sequence[Case], label_convention: str | None) -> list[Case]:
    """Return the cases with their label convention: ``label_convention``, or else the one that their names state.

    Raises:
        UsageError: if no convention is given and the names of a case leave it open.
    """
    if label_convention is not None:
        name = get_convention(label_convention).name
        return [replace(case, convention=name) for case in cases]
    if undecided := [case for case in cases if case.convention is None]:
        case = undecided[0]
        raise UsageError(
            "label_convention",
            f"the names of {name_some([case.case_id for case in undecided])} do not state the meaning of the labels",
            expected=" or ".join(layout_of(case.case_id, case.images.values()).conventions),
            advice="pass --label_convention NAME",
        )
    return list(cases)


def check_case_id(case_id: str) -> None:
    """Refuse a name by which no file can be written in its own folder, or one that a terminal would obey.

    Raises:
        ValueError: if it is empty, begins with a dot, holds a slash or a control character, or is longer than
            :data:`MAX_CASE_ID_BYTES`.
    """
    long = len(case_id.encode(errors="surrogatepass")) > MAX_CASE_ID_BYTES
    if not case_id or case_id.startswith(".") or long or _NOT_IN_NAMES.search(case_id):
        raise ValueError(
            f"case_id: expected one path component, such as BraTS20_Training_001, of at most {MAX_CASE_ID_BYTES} "
            f"bytes, without control characters, and not hidden, got {case_id!r:.80}"
        )


def name_some(names: Sequence[str], most: int = 3) -> str:
    """``"a, b, c and 4 more"``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def natural_key(text: str) -> tuple[list[Any], str]:
    """Sorts ``case_2`` before ``case_10``."""
    parts = re.split(r"([0-9]+)", text)  # every second one is a number, maybe too long for an int
    numbers = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = [(len(number), number) for number in numbers]
    return parts, text


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


_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _to_case(found: FoundCase, modalities: Sequence[str]) -> Case:
    images = {m: Path(found.files[m][0]) for m in modalities if found.files.get(m)}
    return make_case(found.case_id, images, found.label, grade=_grade(found.folder))


def _absent_warning(absent: Sequence[str], case_ids: Sequence[str]) -> str:
    guess = "; without t1ce the enhancing tumour cannot be told reliably from the rest of the core: ET is a guess"
    return f"{name_some(case_ids)}: segmented without {', '.join(absent)}{guess if 't1ce' in absent else ''}"


def _grade(folder: str) -> str | None:
    """``HGG`` or ``LGG``, the nearest folder above the files that is called so."""
    return next((part.upper() for part in reversed(Path(folder).parts) if part.upper() in ("HGG", "LGG")), None)


def _advice(found: Sequence[FoundCase], modalities: Sequence[str]) -> str:
    missing = {tuple(each.missing(modalities)) for each in found}
    absent = [m for m in modalities if any(m in each for each in missing)]
    rest = ",".join(f"'{m}'" for m in modalities if m not in absent)
    if not absent or not rest:
        return "add or remove these files, or move these cases out of the folder"
    moved = "" if len(missing) == 1 else " move these cases out of the folder,"
    return f'add the files,{moved} or pass --modalities "[{rest}]" to work without {", ".join(absent)}'
