"""Checks across cases for copies: equal images in several cases, or as several sequences of one case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from brats3d.audit.finding_kinds import Finding, make_finding
from brats3d.audit.one_case import CaseRecord
from brats3d.files import read_volume

_Image = tuple[str, str]
"""(case_id, modality)."""


def copy_findings(records: Sequence[CaseRecord]) -> Iterator[Finding]:
    """Yield a finding for each copied case, and for each image that equals another one.

    Equal segmentations alone are not a finding, because several cases may have no tumour. They only distinguish a
    copied case from a case with the images of another one.
    """
    groups = list(_equal_images(records))
    original_of = _copied_cases(records, groups)
    for case_id, original in original_of.items():
        yield make_finding("copied case", case_id, None, f"every file equals that of {original}; expected another case")
    images_of = {record.case.case_id: record.case.images for record in records}
    for group in groups:
        yield from _group_findings(group, images_of, original_of)


def _copied_cases(records: Sequence[CaseRecord], groups: Sequence[Sequence[_Image]]) -> dict[str, str]:
    """Return copied case -> the earlier case whose files equal its own."""
    group_of = {image: i for i, group in enumerate(groups) for image in group}
    original_of: dict[str, str] = {}
    first: dict[object, str] = {}
    by_id = {record.case.case_id: record for record in records}
    for case_id in dict.fromkeys(case_id for group in groups for case_id, _ in group):
        record = by_id[case_id]
        images = tuple((modality, group_of.get((case_id, modality))) for modality in record.case.images)
        label_is_unreadable = record.case.label is not None and record.label is None
        if label_is_unreadable or any(group is None for _, group in images):
            continue
        if (original := first.setdefault((images, record.label), case_id)) != case_id:
            original_of[case_id] = original
    return original_of


def _group_findings(
    group: Sequence[_Image], images_of: Mapping[str, Mapping[str, Path]], original_of: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield the findings about equal images; a copied case has one finding for all of its images already."""
    paths: dict[str, list[Path]] = {}
    for case_id, modality in group:
        paths.setdefault(case_id, []).append(images_of[case_id][modality])
    for case_id, (first, *others) in paths.items():
        for other in others:
            problem = f"equals {first.name}; expected another sequence"
            yield make_finding("identical sequences", case_id, other, problem)
    originals = [case_id for case_id in paths if original_of.get(case_id) not in paths]
    for case_id in originals if len(originals) > 1 else ():
        owners = ", ".join(other for other in originals if other != case_id)
        problem = f"equals an image of {owners}; expected different images"
        yield make_finding("image in several cases", case_id, paths[case_id][0], problem)


def _equal_images(records: Sequence[CaseRecord]) -> Iterator[list[_Image]]:
    """Yield groups of two or more images with equal voxels.

    Images with the same fingerprint are read again, two at a time.
    """
    paths: dict[_Image, Path] = {}
    alike: dict[object, list[_Image]] = {}
    for record in records:
        for modality, fingerprint in record.fingerprints.items():
            image = record.case.case_id, modality
            paths[image] = record.case.images[modality]
            alike.setdefault(fingerprint, []).append(image)
    for candidates in alike.values():
        while len(candidates) > 1:
            first, *others = candidates
            equal = [image for image in others if _have_equal_voxels(paths[first], paths[image])]
            if equal:
                yield [first, *equal]
            candidates = [image for image in others if image not in equal]


def _have_equal_voxels(a: Path, b: Path) -> bool:
    try:
        first, second = read_volume(a).values, read_volume(b).values
    except (ValueError, MemoryError):  # a file was removed since, or both do not fit into memory
        return False
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
