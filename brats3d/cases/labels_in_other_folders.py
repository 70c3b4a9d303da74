"""Segmentations in other folders than the images of their case."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from brats3d.cases.case_files import CaseFiles
from brats3d.cases.file_names import SEGMENTATION, may_be_segmentation, parse_name, segmentation_rank
from brats3d.cases.text import readable_name
from brats3d.files import is_image_name, strip_image_ending, walk_folders


def add_label(copies: list[CaseFiles], loose: Sequence[CaseFiles]) -> list[CaseFiles]:
    """Attach the segmentation of a case from another folder, if it has none beside its images.

    Args:
        copies: the folders with files of the case.
        loose: folders with only a segmentation of the case.

    Returns:
        The copies, without those whose segmentation was attached.
    """
    with_images = [case for case in copies if case.images]
    apart = [*(case for case in copies if case.files.keys() == {SEGMENTATION}), *loose]
    if len(with_images) != 1 or not apart:
        return copies
    (case,) = with_images
    if case.files.get(SEGMENTATION) or case.stray_segmentations or case.foreign_segmentations:
        return [copy for copy in copies if copy.images or not _has_other_word(copy)]
    ranked: dict[int, list[str]] = {}
    for path in (path for other in apart for path in other.files.get(SEGMENTATION, [])):
        name = parse_name(Path(path).name)
        ranked.setdefault(segmentation_rank(name.word if name else ""), []).append(path)
    best = ranked[min(ranked)] if ranked else []
    if len(best) == 1:
        case.files[SEGMENTATION] = best
    else:
        case.stray_segmentations += best
    return [copy for copy in copies if copy not in apart]


def _has_other_word(case: CaseFiles) -> bool:
    """Return True if no segmentation has the suffix ``seg``, which a second copy of the case would have."""
    names = [parse_name(Path(path).name) for path in case.files.get(SEGMENTATION, [])]
    return bool(names) and all(name and name.word != SEGMENTATION for name in names)


def possible_labels(roots: Sequence[Path], case_ids: Collection[str]) -> Iterator[Path]:
    """Yield the image files that could be a segmentation: those named like one, or like a case."""
    for root in roots:
        for folder, files in walk_folders(root, skip_unreadable=True):
            yield from (Path(folder, name) for name in files if _could_be_label(name, case_ids))


def _could_be_label(name: str, case_ids: Collection[str]) -> bool:
    parsed = parse_name(name)
    if not is_image_name(name) or (parsed and parsed.kind != SEGMENTATION):
        return False
    return may_be_segmentation(name) or readable_name(strip_image_ending(name)) in case_ids
