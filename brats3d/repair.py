"""A clean copy of a data set: links to the files that are sound, mended copies of those that can be mended.

The originals are only read. The copy is built in a hidden folder beside its place and renamed at the end, so that it
appears whole or not at all; ``manifest.json`` in it says what was done, why, and from which file.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from brats3d import __version__
from brats3d.audit import Audit
from brats3d.case_audit import audit_case
from brats3d.cases import Case
from brats3d.duplicates import identical_files
from brats3d.files import write_whole
from brats3d.findings import Finding
from brats3d.layouts import SEGMENTATION, layout_of, modality_of, parse_file_name
from brats3d.mending import Mended, mend_case
from brats3d.name_mapping import read_name_mappings
from brats3d.volumes import read_volume

__all__ = ["MANIFEST", "Repair", "RepairedCase", "RepairedFile", "check_output", "repair_dataset"]

MANIFEST = "manifest.json"
SCHEMA = 1
"""Version of the manifest's form."""


@dataclass(frozen=True)
class RepairedFile:
    """One file of the copy.

    Args:
        file: its place in the copy.
        action: ``"linked"``, ``"copied"`` (where links are not possible) or ``"rewritten"``.
        source: the original.
        findings: what was found in the original.
        changes: what was changed, with counts.
    """

    file: str
    action: str
    source: str
    findings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RepairedCase:
    """One case of the data set.

    Args:
        case_id: its identifier.
        files: those in the copy; none if the case was left out.
        left_out: why the case is not in the copy; empty if it is.
        repaired: whether leaving it out mends the data set (it is another case's copy).
    """

    case_id: str
    files: tuple[RepairedFile, ...] = ()
    left_out: tuple[str, ...] = ()
    repaired: bool = False


@dataclass(frozen=True)
class Repair:
    """What ``--repair`` did.

    Args:
        out: the copy.
        cases: every case of the data set, those that were left out included.
    """

    out: Path
    cases: tuple[RepairedCase, ...]

    @property
    def complete(self) -> bool:
        """Whether every case that counts is in the copy."""
        return not any(case.left_out and not case.repaired for case in self.cases)

    def summary(self) -> list[str]:
        """What was done, and which cases were left out, in lines for people."""
        actions = Counter(file.action for case in self.cases for file in case.files)
        kept = sum(not case.left_out for case in self.cases)
        counts = ", ".join(f"{n} files {action}" for action, n in actions.items())
        left_out = [f"  left out {case.case_id}: {why}" for case in self.cases for why in case.left_out[:1]]
        return [f"{kept} of {len(self.cases)} cases in {self.out}: {counts}; see {MANIFEST}", *left_out]


def repair_dataset(audit: Audit, out: str | os.PathLike[str], progress: bool = True) -> Repair:
    """Write a clean copy of an audited data set to ``out``. The originals stay untouched.

    Args:
        audit: of the data set.
        out: folder of the copy: it must be empty or not be there.
        progress: show a progress bar.

    Raises:
        ValueError: if ``out`` cannot be used, if what is wrong lies in no single case, or if no case can be kept.
    """
    from tqdm import tqdm

    target = check_output(audit.roots, out)
    for finding in audit.findings:
        if not finding.case_id and finding.severity == "error":
            where = f"{finding.file}: " if finding.file else ""
            raise ValueError(f"{audit.roots[0]}: cannot be repaired: {where}{finding.what}; {finding.todo}")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    partial.mkdir(parents=True)
    try:
        of_case = {case.case_id: [f for f in audit.findings if f.case_id == case.case_id] for case in audit.cases}
        cases = tuple(
            _repair_case(audit, case, of_case[case.case_id], partial)
            for case in tqdm(audit.cases, desc="repair", unit="case", disable=not progress)
        )
        cases = _without_twins(cases, partial)
        if all(case.left_out for case in cases):
            raise ValueError(f"{audit.roots[0]}: no case can be kept: {cases[0].case_id}: {cases[0].left_out[0]}")
        others = tuple(_link(path, partial, name) for path, name in _tables(audit))
        _write_manifest(audit, cases, others, partial / MANIFEST)
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Repair(target, cases)


def check_output(roots: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """The copy's absolute path.

    Raises:
        ValueError: if it is a file, is not empty, lies in the data set or contains it.
    """
    target = Path(os.path.abspath(Path(out).expanduser()))  # noqa: PTH100 - links stay as they are
    advice = "give a folder that is empty or not there yet"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"repair: {target} is {'not empty' if target.is_dir() else 'a file'}; {advice}")
    for root in (Path(each).expanduser().resolve() for each in roots):
        if root in (target.resolve(), *target.resolve().parents) or target.resolve() in root.parents:
            raise ValueError(f"repair: {target} lies in {root}, or contains it; expected one beside it; {advice}")
    return target


def _repair_case(audit: Audit, case: Case, findings: Sequence[Finding], out: Path) -> RepairedCase:
    """Put one case into the copy, or say why it is left out."""
    if copies := [finding.what for finding in findings if finding.kind == "same case"]:
        return RepairedCase(case.case_id, left_out=tuple(copies), repaired=True)
    if fatal := [finding for finding in findings if finding.severity == "error" and finding.repair is None]:
        return RepairedCase(case.case_id, left_out=tuple(f"{each.kind}: {each.what}" for each in fatal))
    mended: dict[Path, Mended] = {}
    folder = out / _folder(audit, case)
    places = {path: folder / name for path, name in _names(case).items()}
    try:
        if any(finding.repair and finding.kind not in _OF_NAMES for finding in findings):
            images = {modality: read_volume(path) for modality, path in case.images.items()}
            mended = mend_case(images, read_volume(case.label) if case.label else None)
        why = {path: tuple(f"{each.kind}: {each.what}" for each in findings if each.file == path) for path in places}
        files = tuple(_put(path, out, place, why[path], mended.get(path)) for path, place in places.items())
        if mended:
            _check_again(case, places, audit.label_convention)
    except ValueError as error:
        _remove(places.values())
        return RepairedCase(case.case_id, left_out=(str(error),))
    return RepairedCase(case.case_id, files)


_OF_NAMES = ("double", "case twice", "misnamed")
"""Findings that are mended by where and under which name a file is linked."""


def _check_again(case: Case, places: dict[Path, Path], label_convention: str | None) -> None:
    images = {modality: places[path] for modality, path in case.images.items()}
    copy = replace(case, images=images, label=places[case.label] if case.label else None)
    for finding in audit_case(copy, label_convention).findings:
        if finding.severity == "error" or finding.repair:
            raise ValueError(f"cannot be mended: {finding.kind}: {finding.what}")


def _without_twins(cases: tuple[RepairedCase, ...], out: Path) -> tuple[RepairedCase, ...]:
    """Leave out the cases of which two images have become equal: what was mended had hidden it."""
    mended = any(file.action == "rewritten" for case in cases for file in case.files)
    images = [out / file.file for case in cases for file in case.files if modality_of(file.file)] if mended else []
    twin_of = {path: group[int(group[0] == path)] for group in identical_files(images) for path in group}
    checked = []
    for case in cases:
        places = [out / file.file for file in case.files]
        if twins := [place for place in places if place in twin_of]:
            _remove(places)
            why = f"{twins[0].relative_to(out)} equals {twin_of[twins[0]].relative_to(out)} once mended"
            case = RepairedCase(case.case_id, left_out=(why,))
        checked.append(case)
    return tuple(checked)


def _remove(places: Iterable[Path]) -> None:
    """Remove files, and the folders that become empty."""
    for place in places:
        place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            place.parent.rmdir()


def _put(source: Path, out: Path, place: Path, why: tuple[str, ...], mended: Mended | None) -> RepairedFile:
    name = place.relative_to(out).as_posix()
    if mended is None:
        return replace(_link(source, out, name), findings=why)
    _write_nifti(place, mended)
    return RepairedFile(name, "rewritten", str(source), why, mended.changes)


def _link(source: Path, out: Path, name: str) -> RepairedFile:
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(source.resolve())
    except OSError:  # a file system, or a Windows account, without links
        shutil.copyfile(source, place)
        return RepairedFile(name, "copied", str(source))
    return RepairedFile(name, "linked", str(source))


def _write_nifti(place: Path, mended: Mended) -> None:
    import nibabel

    header = mended.header.nifti.copy()
    header.set_data_dtype(mended.values.dtype)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    content = kind(mended.values, mended.header.affine, header).to_bytes()
    packed = gzip.compress(content, 6, mtime=0) if place.name.lower().endswith(".gz") else content
    write_whole(place, lambda file: file.write(packed))


def _folder(audit: Audit, case: Case) -> Path:
    """The case's folder in the copy: that of the original, with the grade if that stood above the audited folder."""
    inside = case.files[0].parent
    if _is_nifti(inside.name):  # a folder in a file's place
        inside = inside.parent
    root, prefix = next((root, i) for i, root in enumerate(audit.roots) if inside.is_relative_to(root))
    relative = inside.relative_to(root)
    if relative == Path():
        relative = Path(case.case_id)
    if case.grade and case.grade not in (part.upper() for part in relative.parts):
        relative = Path(case.grade, relative)
    return relative if len(audit.roots) == 1 else Path(str(prefix + 1), relative)


def _names(case: Case) -> dict[Path, str]:
    """file -> its proper name: its own, unless that is a folder's or another segmentation's."""
    parsed = [parse_file_name(path.name) for path in case.images.values()]
    bare = any(each is not None and not each[0] for each in parsed)
    names = {}
    for modality, path in (*case.images.items(), *([(SEGMENTATION, case.label)] if case.label else [])):
        own = parse_file_name(path.name)
        if own and own[0] in (case.case_id, "" if bare else case.case_id) and own[1] == modality:
            names[path] = path.name
        else:
            stem = modality if bare else layout_of(case.case_id).file_name(case.case_id, modality)
            names[path] = stem + (".nii.gz" if path.name.lower().endswith(".gz") else ".nii")
    return names


def _is_nifti(name: str) -> bool:
    return name.lower().endswith((".nii", ".nii.gz"))


def _tables(audit: Audit) -> Iterator[tuple[Path, str]]:
    """The CSV files beside and above the cases, such as name_mapping.csv, and their places in the copy."""
    folders = {root: i for i, root in enumerate(audit.roots)}
    for case in audit.cases:
        for folder in case.files[0].parents if case.files else ():
            root = next((root for root in audit.roots if folder.is_relative_to(root)), None)
            if root is None:
                break
            folders.setdefault(folder, audit.roots.index(root))
    found = {path: audit.roots[i] for folder, i in folders.items() for path in sorted(folder.glob("*.csv"))}
    for path in read_name_mappings(audit.roots).files:
        found.setdefault(path, path.parent)
    for path, root in found.items():
        name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        prefix = f"{audit.roots.index(root) + 1}/" if len(audit.roots) > 1 and root in audit.roots else ""
        yield path, prefix + name.as_posix()


def _write_manifest(audit: Audit, cases: Sequence[RepairedCase], others: Sequence[RepairedFile], path: Path) -> None:
    content = {
        "schema": SCHEMA,
        "brats3d": __version__,
        "dataset_dir": [str(root) for root in audit.roots],
        "modalities": list(audit.modalities),
        "label_convention": audit.label_convention,
        "cases": [asdict(case) for case in cases],
        "other_files": [asdict(file) for file in others],
    }
    write_whole(path, lambda file: file.write(json.dumps(content, indent=1).encode() + b"\n"))
