"""The repaired copy of a data set: links to intact NIfTI files and repaired files, without unusable cases.

The originals are only read. The copy has a folder for each case, with the file names of its release, and is written
atomically. Its ``manifest.json`` lists every file, its original, and every change with the reason.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from brats3d.audit.one_case import audit_case
from brats3d.audit.repair_case import RepairedVolume, repair_case
from brats3d.audit.repaired_datalist import datalist_of_copy
from brats3d.audit.repaired_patients import write_patients
from brats3d.audit.whole_dataset import Audit
from brats3d.cases import (
    DATALIST_NAME,
    PATIENTS_NAME,
    SEGMENTATION,
    Case,
    check_path_syntax,
    layout_of,
    read_name_mappings,
)
from brats3d.errors import DataError, UsageError
from brats3d.files import (
    explain_full_disk,
    flush_file,
    has_nifti_name,
    link_or_copy,
    nifti_image,
    read_volume,
    remove_leftovers,
    whole_folder,
    writable_folder,
    write_json,
)

MANIFEST = "manifest.json"

SCHEMA = 2
"""Version of the manifest's structure."""


@dataclass(frozen=True)
class CopiedFile:
    """One file of the copy.

    Args:
        file: its path in the copy.
        action: ``"linked"``, ``"copied"`` (where links are not possible) or ``"rewritten"``.
        source: the original.
        findings: those about the original.
        changes: what was changed, with counts.
    """

    file: str
    action: str
    source: str
    findings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CopiedCase:
    """One case of the data set.

    Args:
        case_id: its identifier.
        files: those in the copy; none if the case was dropped.
        dropped: why the case is not in the copy; empty if it is.
        is_duplicate: True if the case was dropped because it equals another one.
    """

    case_id: str
    files: tuple[CopiedFile, ...] = ()
    dropped: tuple[str, ...] = ()
    is_duplicate: bool = False


@dataclass(frozen=True)
class RepairedCopy:
    """The result of ``--repair``.

    Args:
        folder: the copy.
        cases: every case of the data set, including the dropped ones.
        notes: sentences to show to the user.
    """

    folder: Path
    cases: tuple[CopiedCase, ...]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True if every case is in the copy, apart from copies of other cases."""
        return not any(case.dropped and not case.is_duplicate for case in self.cases)

    def summary(self) -> list[str]:
        """Return the lines to print."""
        actions = Counter(file.action for case in self.cases for file in case.files)
        counts = ", ".join(f"{n} {'file' if n == 1 else 'files'} {action}" for action, n in actions.items())
        kept = sum(not case.dropped for case in self.cases)
        dropped = [f"  dropped {case.case_id}: {case.dropped[0]}" for case in self.cases if case.dropped]
        return [f"{kept} of {len(self.cases)} cases in {self.folder}: {counts}; see {MANIFEST}", *dropped, *self.notes]


def check_copy_folder(roots: Sequence[str | Path], out: str | Path) -> Path:
    """Check that a copy may be written to a folder.

    Args:
        roots: the folders of the data set.
        out: the folder of the copy.

    Returns:
        Its absolute path, links followed.

    Raises:
        UsageError: if it is a file, is not empty, lies in the data set or contains it, or cannot be written.
    """
    check_path_syntax(out, "repair")
    folder = Path(os.path.realpath(Path(out).expanduser()))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("repair", expected="a new or an empty folder", found=str(out))
    for root in (Path(os.path.realpath(Path(root).expanduser())) for root in roots):
        if root in (folder, *folder.parents) or folder in root.parents:
            raise UsageError("repair", expected=f"a folder beside {root}, not in or above it", found=str(out))
    writable_folder(folder.parent, "repair")
    return folder


def write_repaired_copy(audit: Audit, out: str | Path, progress: bool = True) -> RepairedCopy:
    """Write a repaired copy of an audited data set. The originals stay untouched.

    Args:
        audit: the result of the audit.
        out: the folder of the copy, new or empty.
        progress: show a progress bar.

    Raises:
        UsageError: if ``out`` cannot be used.
        DataError: if the whole data set has an error, such as an unreadable name mapping, or no case can be kept.
    """
    from tqdm import tqdm

    folder = check_copy_folder(audit.roots, out)
    for finding in audit.findings:
        if not finding.case_id and finding.severity == "error" and finding.kind != "invalid datalist":
            problem = f"cannot be repaired: {finding.problem}"
            raise DataError(finding.file or audit.roots[0], problem, advice=finding.advice)
    remove_leftovers(folder.parent)
    with explain_full_disk(folder), whole_folder(folder) as hidden:
        bar = tqdm(audit.cases, desc="repair", unit="case", disable=not progress)
        cases = tuple(_copy_case(case, audit, hidden) for case in bar)
        if all(case.dropped for case in cases):
            raise DataError(audit.roots[0], f"no case can be kept: {cases[0].case_id}: {cases[0].dropped[0]}")
        other_files = [_link(path, hidden, Path(name)) for name, path in _tables(audit).items()]
        if write_patients(audit, {case.case_id for case in cases if not case.dropped}, hidden):
            other_files.append(CopiedFile(PATIENTS_NAME, "rewritten", str(audit.roots[0] / PATIENTS_NAME)))
        datalists, notes = _copy_datalist(audit, cases, hidden)
        notes += _label_notes(audit)
        manifest = {
            "schema": SCHEMA,
            **audit.settings,
            "cases": [asdict(case) for case in cases],
            "other_files": [asdict(file) for file in (*other_files, *datalists)],
            "notes": notes,
        }
        write_json(hidden / MANIFEST, manifest)
    return RepairedCopy(folder, cases, tuple(notes))


def _copy_case(case: Case, audit: Audit, out: Path) -> CopiedCase:
    """Write one case into the copy, or drop it."""
    findings = [finding for finding in audit.findings if finding.case_id == case.case_id]
    if copies := [finding.problem for finding in findings if finding.kind == "copied case"]:
        return CopiedCase(case.case_id, dropped=tuple(copies), is_duplicate=True)
    if fatal := [finding for finding in findings if finding.severity == "error" and not finding.repair]:
        return CopiedCase(case.case_id, dropped=tuple(f"{each.kind}: {each.problem}" for each in fatal))
    folder = Path(case.grade or "", case.case_id)
    places = {path: folder / name for path, name in _standard_names(case).items()}
    try:
        repaired: dict[Path, RepairedVolume] = {}
        is_repairable = any(finding.repair and finding.kind not in _REPAIRED_BY_NAME for finding in findings)
        if is_repairable or not all(map(has_nifti_name, case.files)):
            images = {modality: read_volume(path) for modality, path in case.images.items()}
            repaired = repair_case(images, read_volume(case.label) if case.label else None)
        (out / folder).mkdir(parents=True)
        files = []
        for path, place in places.items():
            copied = _rewrite(path, out, place, repaired[path]) if path in repaired else _link(path, out, place)
            about = tuple(f"{each.kind}: {each.problem}" for each in findings if each.file == path)
            files.append(replace(copied, findings=about))
        if repaired:
            _check_again(case, {path: out / place for path, place in places.items()})
    except ValueError as error:
        shutil.rmtree(out / folder, ignore_errors=True)
        return CopiedCase(case.case_id, dropped=(str(error),))
    return CopiedCase(case.case_id, tuple(files))


_REPAIRED_BY_NAME = ("duplicate files", "case in several folders", "misnamed segmentation")
"""Findings that are repaired by choosing which file is linked, and its name."""


def _check_again(case: Case, places: Mapping[Path, Path]) -> None:
    """Audit a case in the copy, because a repair can reveal another defect."""
    images = {modality: places[path] for modality, path in case.images.items()}
    copy = replace(case, images=images, label=places[case.label] if case.label else None)
    for finding in audit_case(copy).findings:
        if finding.severity == "error" or finding.repair:
            raise DataError(case.case_id, f"cannot be repaired: {finding.kind}: {finding.problem}")


def _standard_names(case: Case) -> dict[Path, str]:
    """Map each file of a case to its name in the case's release."""
    layout = layout_of(case.case_id, case.images.values())
    files = {**case.images, **({SEGMENTATION: case.label} if case.label else {})}
    return {
        path: layout.file_name(case.case_id, modality) + (".nii" if path.name.lower().endswith(".nii") else ".nii.gz")
        for modality, path in files.items()
    }


def _link(source: Path, out: Path, place: Path) -> CopiedFile:
    action = "linked" if link_or_copy(source, out / place) else "copied"
    return CopiedFile(place.as_posix(), action, str(source))


def _rewrite(source: Path, out: Path, place: Path, repaired: RepairedVolume) -> CopiedFile:
    import nibabel

    image = nifti_image(repaired.values, repaired.header)
    image.set_data_dtype(repaired.values.dtype)
    nibabel.save(image, out / place)
    flush_file(out / place)
    return CopiedFile(place.as_posix(), "rewritten", str(source), changes=repaired.changes)


def _tables(audit: Audit) -> dict[str, Path]:
    """Find the CSV files to copy: the name mappings, and the tables in the roots and beside the case folders.

    A name that occurs twice gets a number.
    """
    beside = [case.files[0].parent.parent for case in audit.cases if case.files]
    folders = dict.fromkeys(
        each for each in (*audit.roots, *beside) if any(each.is_relative_to(root) for root in audit.roots)
    )
    found = (path for folder in folders for path in sorted(folder.glob("[!.]*.csv")) if path.is_file())
    files = [path for path in found if path.name != PATIENTS_NAME]  # write_patients writes the copy's own
    tables: dict[str, Path] = {}
    for path in dict.fromkeys((*read_name_mappings(audit.roots).files, *files)):
        name, n = path.name, 1
        while name in tables:
            n += 1
            name = f"{path.stem}_{n}{path.suffix}"
        tables[name] = path
    return tables


def _label_notes(audit: Audit) -> list[str]:
    """Return a note for each label convention that only nnU-Net's dataset.json states, not the copy."""
    stated = {case.convention for case in audit.cases if case.layout == "nnunet" and case.label and case.convention}
    return [
        f"the names in the copy do not state the meaning of the labels: pass --label_convention {name} to train"
        for name in sorted(stated)
    ]


def _copy_datalist(audit: Audit, cases: Sequence[CopiedCase], out: Path) -> tuple[list[CopiedFile], list[str]]:
    """Write the datalist.json of the data set for the copy. Return it, or a note if it cannot be used."""
    copies = {Path(file.source): file.file for case in cases for file in case.files}
    try:
        content = datalist_of_copy(audit, copies)
    except ValueError as error:
        text = " ".join(str(error).split())
        return [], [f"{DATALIST_NAME} was not copied: {text}; training splits the copy by itself, or run brats3d split"]
    if content is None:
        return [], []
    write_json(out / DATALIST_NAME, content)
    return [CopiedFile(DATALIST_NAME, "rewritten", str(audit.roots[0] / DATALIST_NAME))], []
