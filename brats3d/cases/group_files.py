"""Sort the files of one folder by case, sequence and form, according to their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from brats3d.cases.case_files import CaseFiles
from brats3d.cases.case_folders import folder_case_id
from brats3d.cases.file_names import (
    SEGMENTATION,
    FileName,
    form_rank,
    parse_name,
    segmentation_rank,
    shows_other_than_tumour,
    without_processing,
)
from brats3d.cases.naming_rules import ANY_LAYOUT, layout_of
from brats3d.cases.nnunet import RawDataset, find_raw_label, raw_dataset_of, split_channel
from brats3d.cases.other_formats import is_other_volume
from brats3d.cases.text import readable_name
from brats3d.files import is_image_name, strip_image_ending

Named = tuple[FileName, list[str]]
"""The parsed name of a file, and its paths: several if a folder replaces the file."""


def group_by_case(folder: str, files: Mapping[str, list[str]]) -> list[CaseFiles]:
    """Sort the files of one folder by case.

    Args:
        folder: the folder.
        files: name -> paths, as :func:`brats3d.files.walk_folders` yields them.
    """
    folder_name = readable_name(Path(folder).name)
    raw = raw_dataset_of(folder) if any(map(split_channel, files)) else None
    groups: dict[str, list[Named]] = {}
    for name, paths in files.items():
        if parsed := parse_name(name) or _parse_channel(name, raw):
            groups.setdefault(parsed.case_id or folder_case_id(folder), []).append((parsed, paths))
    _move_to_time_point_2(groups)
    _join_spellings(groups, folder_name)
    read = {path for group in groups.values() for _, paths in group for path in paths}
    rest = {name: paths for name, paths in files.items() if read.isdisjoint(paths)}
    unknown = {name: paths for name, paths in rest.items() if is_image_name(name) or (read and is_other_volume(name))}
    cases = {case_id: _choose_files(case_id, folder, group) for case_id, group in groups.items()}
    with_images = [case for case in cases.values() if case.images]
    for case in with_images:
        _find_label(case, cases, unknown, is_only=len(with_images) == 1)
    if not cases and layout_of(folder_name) is not ANY_LAYOUT:
        unnamed = [name for name in unknown if is_image_name(name)]
        if unnamed or not files:  # an interrupted download leaves empty folders
            return [CaseFiles(folder_name, folder, unnamed=unnamed)]
    for other in [case for case in cases.values() if not case.images and layout_of(case.case_id) is ANY_LAYOUT]:
        if any(other.case_id.startswith(case.case_id) for case in with_images):  # X_brain_seg, beside the images of X
            unknown |= {Path(path).name: [path] for paths in other.files.values() for path in paths}
            del cases[other.case_id]
    owners = with_images or list(cases.values())
    for name, paths in unknown.items() if owners else ():
        stem = readable_name(strip_image_ending(name))
        if stem not in cases:  # a segmentation that predict wrote beside the images
            owner = max(owners, key=lambda case: len(case.case_id) if stem.startswith(case.case_id) else 0)
            owner.unread += paths
    return list(cases.values())


def _move_to_time_point_2(groups: dict[str, list[Named]]) -> None:
    """Move ``P01_T2_flair`` from P01 to P01_T2, if other files in the folder name several sequences of P01_T2."""
    for case_id, group in list(groups.items()):
        for named in [named for named in group if re.match(r"t2w?[_-]", named[0].word)]:
            start = re.compile(rf"{re.escape(case_id)}[_-]{named[0].word[:2]}", re.IGNORECASE)
            longer = next(filter(start.fullmatch, groups), "")
            if longer and len({name.kind for name, _ in groups[longer]} - {SEGMENTATION}) > 1:
                groups[longer].append((replace(named[0], case_id=longer, word=named[0].word[3:]), named[1]))
                group.remove(named)
        if not group:
            del groups[case_id]


def _join_spellings(groups: dict[str, list[Named]], folder_name: str) -> None:
    """Join ``P1_t1`` and ``p1_flair``, unless both have a file for the same sequence."""
    if len({case_id.casefold() for case_id in groups}) == len(groups):
        return
    first: dict[str, str] = {}
    for case_id in sorted(groups, key=lambda each: (layout_of(each) is ANY_LAYOUT, each != folder_name, each)):
        other = first.setdefault(case_id.casefold(), case_id)
        kinds = [{name.kind for name, _ in groups[each]} for each in (case_id, other)]
        if kinds[0].isdisjoint(kinds[1]):
            groups[other] += groups.pop(case_id)


def _parse_channel(name: str, raw: RawDataset | None) -> FileName | None:
    parts = split_channel(name) if raw else None
    modality = raw.channels.get(parts[1]) if raw and parts else None
    return FileName(parts[0], modality, parts[1]) if parts and modality else None


def _choose_files(case_id: str, folder: str, group: Sequence[Named]) -> CaseFiles:
    """Return the files of one case, with one form of each sequence if there are several.

    The form that most sequences have is preferred, so that a case is not mixed; then images without the skull; then
    the least processed ones. Among segmentations, see :func:`segmentation_rank`.
    """
    case = CaseFiles(case_id, folder, bare=not group[0][0].case_id)
    forms: dict[str, dict[str, list[str]]] = {}
    labels: dict[int, list[str]] = {}
    for name, paths in group:
        if name.kind == SEGMENTATION:
            labels.setdefault(segmentation_rank(name.word), []).extend(paths)
        else:
            forms.setdefault(name.form, {}).setdefault(name.kind, []).extend(paths)
    rank = {form: (-len(files), *form_rank(form)) for form, files in forms.items()}
    best_first = sorted(forms, key=rank.__getitem__)
    for kind in dict.fromkeys(kind for files in forms.values() for kind in files):
        _use_first(case, kind, [(rank[form], forms[form][kind]) for form in best_first if kind in forms[form]])
    if labels:
        best = min(labels)
        if best and len(labels[best]) > 1:
            case.stray_segmentations += labels[best]
        else:
            _use_first(case, SEGMENTATION, sorted(labels.items()))
    if group[0][0].word.isdecimal() and (label := find_raw_label(group[0][1][0])):
        case.files.setdefault(SEGMENTATION, [label])
    return case


def _use_first(case: CaseFiles, kind: str, ranked: Sequence[tuple[object, list[str]]]) -> None:
    """Use the files of the first rank; several of the same rank are a problem that the case reports."""
    first = ranked[0][0]
    used = case.files.setdefault(kind, [])
    used += [path for rank, paths in ranked if rank == first for path in paths]
    case.choices += [(used[0], path) for rank, paths in ranked if rank != first and used for path in paths]


def _find_label(case: CaseFiles, cases: dict[str, CaseFiles], unknown: dict[str, list[str]], is_only: bool) -> None:
    """Find the segmentation of a case among those whose names state another case or none."""
    loose = {other.case_id: other for other in cases.values() if not other.images}
    if case.files.get(SEGMENTATION) or case.stray_segmentations:
        return
    if same := loose.get(without_processing(case.case_id)):
        case.files[SEGMENTATION] = same.files.get(SEGMENTATION, [])
        del cases[same.case_id]
    if not is_only or same:
        return
    # In a folder of one case, a segmentation with an unknown identifier is that case's, misnamed.
    for other in loose.values():
        del cases[other.case_id]
        if layout_of(other.case_id) is not ANY_LAYOUT:
            case.foreign_segmentations += other.files.get(SEGMENTATION, [])
            continue
        for path in (*other.files.get(SEGMENTATION, []), *other.stray_segmentations):
            _sort_stray(case, path, unknown)
    for name in [name for name in unknown if strip_image_ending(name).lower().endswith(("seg", "segm"))]:
        for path in unknown.pop(name):
            _sort_stray(case, path, unknown)


def _sort_stray(case: CaseFiles, path: str, unknown: dict[str, list[str]]) -> None:
    name = Path(path).name
    if shows_other_than_tumour(readable_name(name).removeprefix(case.case_id)):
        unknown.setdefault(name, []).append(path)
    else:
        case.stray_segmentations.append(path)
