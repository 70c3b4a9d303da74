"""A clean copy of a data set: links to the files that are sound, mended copies of those that can be mended.

The originals are only read. The copy is built in a hidden folder and takes its place at the end, so that it appears
whole or not at all; ``manifest.json`` in it says what was done, why, and from which file.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from brats3d.audit.carried_split import carry_datalists, part_of
from brats3d.audit.case_audit import audit_case
from brats3d.audit.copy_folder import appearing_whole, check_output, leftovers
from brats3d.audit.dataset_audit import Audit
from brats3d.audit.findings import Finding, make_finding
from brats3d.audit.mending import Mended, mend_case
from brats3d.audit.repair_record import MANIFEST, Repair, RepairedCase, RepairedFile
from brats3d.cases import (
    SEGMENTATION,
    Case,
    identical_files,
    layout_of,
    modality_of,
    parse_file_name,
    read_name_mappings,
    scan_cases,
)
from brats3d.files import is_packed, read_volume, write_json, write_whole

SCHEMA = 1
"""Version of the manifest's form."""


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

    target = check_output(audit.roots, out, [path for case in audit.cases for path in case.files])
    for finding in audit.findings:
        if not finding.case_id and finding.severity == "error" and finding.kind != "datalist":
            where = f"{finding.file}: " if finding.file else ""
            raise ValueError(f"{audit.roots[0]}: cannot be repaired: {where}{finding.what}; {finding.todo}")
    audit = _with_equal_segmentations(audit)
    plans = _plan(audit)
    tables = _tables(audit)
    notes = [
        f"{path} was left by a run that was killed: remove it, unless one is at work" for path in leftovers(target)
    ]
    _refuse_repeated([*(place for plan in plans for place in plan.places.items()), *tables])
    with appearing_whole(target, last=MANIFEST) as partial:
        bar = tqdm(plans, desc="repair", unit="case", disable=not progress)
        cases = tuple(_repair_case(plan, audit.label_convention, partial) for plan in bar)
        cases = _without_unfound(audit, _without_twins(cases, partial), partial)
        if all(case.left_out for case in cases):
            raise ValueError(f"{audit.roots[0]}: no case can be kept: {cases[0].case_id}: {cases[0].left_out[0]}")
        others = [_link(path, partial, place) for path, place in tables]
        datalists, lost = carry_datalists(audit, cases, partial)
        notes += lost
        _write_manifest(audit, cases, [*others, *datalists], notes, partial / MANIFEST)
    return Repair(target, cases, tuple(notes))


@dataclass(frozen=True)
class _Plan:
    """What is to become of a case: each file's place, relative to the copy; or why it is left out."""

    case: Case
    findings: Sequence[Finding]
    places: Mapping[Path, Path]
    left_out: RepairedCase | None


def _with_equal_segmentations(audit: Audit) -> Audit:
    """The audit with a label for the cases that have several equal ones, and with what is wrong with these labels.

    The search takes none of several segmentations, so that the audit has not read them.
    """
    of_case = _by_case(audit.findings)
    labels = {case.case_id: label for case in audit.cases if (label := _equal_label(case, of_case[case.case_id]))}
    if not labels:
        return audit
    cases = tuple(replace(case, label=labels.get(case.case_id, case.label)) for case in audit.cases)
    found = [*audit.findings]
    for case in cases:
        if case.case_id in labels:
            found += [each for each in audit_case(case, audit.label_convention).findings if each not in found]
            if not (audit.label_convention or case.convention):
                text = "its name does not say what its labels mean; expected one convention"
                found.append(make_finding("label convention", case.case_id, case.label, text))
    return replace(audit, cases=cases, findings=tuple(found))


def _equal_label(case: Case, findings: Sequence[Finding]) -> Path | None:
    equal = (finding.file for finding in findings if finding.kind == "double" and finding.repair)
    return next((path for path in equal if path not in case.images.values()), None) if case.label is None else None


def _by_case(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    of_case: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        of_case[finding.case_id].append(finding)
    return of_case


def _plan(audit: Audit) -> list[_Plan]:
    of_case = _by_case(audit.findings)
    plans = []
    for case in audit.cases:
        found = of_case[case.case_id]
        left_out = _left_out(audit, case, found)
        doubles = {each.file for each in found if each.kind == "double"}
        names = {} if left_out else _names(case, doubles)
        places = {path: _folder(audit, case) / name for path, name in names.items()}
        plans.append(_Plan(case, found, places, left_out))
    return plans


def _left_out(audit: Audit, case: Case, findings: Sequence[Finding]) -> RepairedCase | None:
    if copies := [finding.what for finding in findings if finding.kind == "same case"]:
        return RepairedCase(case.case_id, left_out=tuple(copies), repaired=True)
    if fatal := [finding for finding in findings if finding.severity == "error" and finding.repair is None]:
        return RepairedCase(case.case_id, left_out=tuple(f"{each.kind}: {each.what}" for each in fatal))
    if missing := ", ".join(modality for modality in audit.modalities if modality not in case.images):
        what = f"missing: missing {missing}; found {', '.join(case.images) or 'none'}"
        return RepairedCase(case.case_id, left_out=(f"{what}; expected {', '.join(audit.modalities)}",))
    return None


def _refuse_repeated(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Two files for one place in the copy would be one too many."""
    sources: dict[Path, Path] = {}
    for source, place in pairs:
        if (other := sources.setdefault(place, source)) is not source:
            raise ValueError(
                f"repair: {source} and {other} would both be {place} in the copy; expected different names; rename one"
            )


def _repair_case(plan: _Plan, label_convention: str | None, out: Path) -> RepairedCase:
    """Put one case into the copy, or say why it is left out."""
    if plan.left_out:
        return plan.left_out
    case = plan.case
    mended: dict[Path, Mended] = {}
    places = {path: out / place for path, place in plan.places.items()}
    why = {path: tuple(f"{each.kind}: {each.what}" for each in plan.findings if each.file == path) for path in places}
    try:
        if any(finding.repair and finding.kind not in _OF_NAMES for finding in plan.findings):
            images = {modality: read_volume(path) for modality, path in case.images.items()}
            mended = mend_case(images, read_volume(case.label) if case.label else None)
        files = tuple(_put(path, out, place, why[path], mended.get(path)) for path, place in plan.places.items())
        if mended:
            _check_again(case, places, label_convention)
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


def _without_unfound(audit: Audit, cases: tuple[RepairedCase, ...], out: Path) -> tuple[RepairedCase, ...]:
    """Leave out the cases that a search of the copy does not find, or finds with other files: the last check."""
    if all(case.left_out for case in cases):
        return cases
    scan = scan_cases(out, audit.modalities)
    found = {case.case_id: set(case.files) for case in scan.cases}
    wrong = {problem.case_id: problem.text for problem in scan.problems}
    checked = []
    for case in cases:
        places = {out / file.file for file in case.files}
        if not case.left_out and (case.case_id in wrong or found.get(case.case_id) != places):
            _remove(places)
            why = wrong.get(case.case_id, "a search of the copy does not find its files")
            case = RepairedCase(case.case_id, left_out=(f"cannot be found in the copy: {why}",))
        checked.append(case)
    return tuple(checked)


def _remove(places: Iterable[Path]) -> None:
    """Remove files, and the folders that become empty."""
    for place in places:
        place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            place.parent.rmdir()


def _put(source: Path, out: Path, place: Path, why: tuple[str, ...], mended: Mended | None) -> RepairedFile:
    if mended is None:
        return replace(_link(source, out, place), findings=why)
    _write_nifti(out / place, mended)
    return RepairedFile(place.as_posix(), "rewritten", str(source), why, mended.changes)


def _link(source: Path, out: Path, place: Path) -> RepairedFile:
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    try:
        (out / place).symlink_to(source.resolve())
    except FileExistsError:  # what is there may be a link to an original: it is never written to
        raise
    except OSError:  # a file system, or a Windows account, without links
        with source.open("rb") as original, (out / place).open("xb") as copy:
            shutil.copyfileobj(original, copy, _COPIED_AT_ONCE)
        return RepairedFile(place.as_posix(), "copied", str(source))
    return RepairedFile(place.as_posix(), "linked", str(source))


_COPIED_AT_ONCE = 1 << 20


def _write_nifti(place: Path, mended: Mended) -> None:
    import nibabel

    header = mended.header.nifti.copy()
    header.set_data_dtype(mended.values.dtype)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    content = kind(mended.values, mended.header.affine, header).to_bytes()
    packed = gzip.compress(content, 6, mtime=0) if is_packed(place) else content
    write_whole(place, lambda file: file.write(packed))


def _folder(audit: Audit, case: Case) -> Path:
    """The case's folder in the copy: that of the original, with the grade if that stood above the audited folder."""
    inside = case.files[0].parent
    if _is_nifti(inside.name):  # a folder in a file's place
        inside = inside.parent
    root = next(root for root in audit.roots if inside.is_relative_to(root))
    relative = inside.relative_to(root)
    if relative == Path():
        relative = Path(case.case_id)
    if case.grade and case.grade not in (part.upper() for part in relative.parts):
        relative = Path(case.grade, relative)
    return part_of(audit, root) / relative


def _names(case: Case, doubles: set[Path | None]) -> dict[Path, str]:
    """file -> its proper name: its own, unless that is a folder's or another segmentation's, or one of several."""
    parsed = [parse_file_name(path.name) for path in case.images.values()]
    bare = any(each is not None and not each[0] for each in parsed)
    names = {}
    for modality, path in (*case.images.items(), *([(SEGMENTATION, case.label)] if case.label else [])):
        own = parse_file_name(path.name)
        is_own = own and own[0] in (case.case_id, "" if bare else case.case_id) and own[1] == modality
        if is_own and path not in doubles:
            names[path] = path.name
        else:
            stem = modality if bare else layout_of(case.case_id, case.images.values()).file_name(case.case_id, modality)
            names[path] = stem + (".nii.gz" if is_packed(path) else ".nii")
    return names


def _is_nifti(name: str) -> bool:
    return name.lower().endswith((".nii", ".nii.gz"))


def _tables(audit: Audit) -> list[tuple[Path, Path]]:
    """The CSV files beside and above the cases, such as name_mapping.csv, and their places in the copy.

    A mapping above a root (a grade's folder, or one case's) gets a folder of its own, below which it is found again.
    """
    folders = dict.fromkeys(audit.roots)
    for case in audit.cases:
        for folder in case.files[0].parents if case.files else ():
            if not any(folder.is_relative_to(root) for root in audit.roots):
                break
            folders[folder] = None
    mappings = read_name_mappings(audit.roots).files
    beside = (
        path for folder in folders for path in sorted(folder.glob("*.csv")) if path.name[0] != "." and path.is_file()
    )
    tables = []
    for path in dict.fromkeys((*beside, *mappings)):
        if root := next((root for root in audit.roots if path.is_relative_to(root)), None):
            tables.append((path, part_of(audit, root) / path.relative_to(root)))
        for root in audit.roots if path in mappings else ():
            if path.parent in root.parents:
                n = [*root.parents].index(path.parent) + 1
                tables.append((path, part_of(audit, root) / "above" / str(n) / path.name))
    return tables


def _write_manifest(
    audit: Audit, cases: Sequence[RepairedCase], others: Sequence[RepairedFile], notes: Sequence[str], path: Path
) -> None:
    content = {
        "schema": SCHEMA,
        **audit.about,
        "cases": [asdict(case) for case in cases],
        "other_files": [asdict(file) for file in others],
        "notes": list(notes),
    }
    write_json(path, content)
