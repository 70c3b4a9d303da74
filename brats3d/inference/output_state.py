"""Compare an output folder with the cases to segment: those that are done, kept, or belong to other images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brats3d.cases import signature
from brats3d.files import WrittenFiles, first_line, read_volume


@dataclass
class OutputState:
    """The cases that must not be written, and those whose segmentation is replaced. A case is in one set at most.

    Args:
        done: cases whose files are unchanged and were made from the same input, weights and settings.
        kept: cases with a segmentation that brats3d did not write, or that was changed since.
        taken: case_id -> the problem, for cases whose file is the segmentation of other images, or was changed and is
            damaged.
        replaced: cases whose images have all changed in their folder, since an earlier run segmented them.
    """

    done: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    taken: dict[str, str] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)

    @property
    def cases(self) -> set[str]:
        """All cases that must not be written."""
        return {*self.done, *self.kept, *self.taken}


def describe_input(images: Mapping[str, Path]) -> dict[str, Any]:
    """Return the folder of a case's images and, for each sequence, a digest of the image's content.

    Raises:
        DataError, OSError: if an image is not an ordinary file or cannot be read.
    """
    folder = next(iter(images.values())).parent.resolve()
    digests = {name: hashlib.sha256(repr(signature(path)).encode()).hexdigest()[:16] for name, path in images.items()}
    return {"folder": str(folder), "images": digests}


def compare_output(
    files: WrittenFiles,
    names: Mapping[str, Sequence[str]],
    sources: Mapping[str, Mapping[str, Any]],
    made_from: Mapping[str, str],
) -> OutputState:
    """Find the cases that must not be written.

    Args:
        files: the output folder.
        names: case_id -> names of the files to write, the segmentation first.
        sources: case_id -> :func:`describe_input`; unreadable cases are missing.
        made_from: case_id -> digest of everything that the segmentation depends on; empty = no case is done.

    Raises:
        UsageError: if a file to be replaced is not a segmentation and was not written by brats3d, or if the folder has
            a segmentation of every case and no record of brats3d.
    """
    state = OutputState()
    for case_id, (segmentation, *others) in names.items():
        path = files.folder / segmentation
        if case_id in made_from and files.are_unchanged([segmentation, *others], made_from[case_id]):
            state.done.add(case_id)
        elif not os.path.lexists(path):
            files.check_replaceable(others)
        elif problem := other_images(files, segmentation, sources.get(case_id)):
            state.taken[case_id] = problem
        elif files.changed([segmentation, *others]):
            if not path.is_file():  # a folder, a pipe, or a link to a disk that is not mounted
                files.check_replaceable([segmentation])
            if problem := _damage(path):
                state.taken[case_id] = problem
            else:
                state.kept.add(case_id)
        elif _all_changed(files, segmentation, sources.get(case_id)):
            state.replaced.add(case_id)
    if state.kept and len(state.kept) == len(names) and not files.has_record:  # the references, for example
        files.check_replaceable(segmentation for segmentation, *_ in names.values())
    return state


def other_images(files: WrittenFiles, segmentation: str, source: Mapping[str, Any] | None) -> str:
    """Return the problem if the file is the segmentation of other images in another folder; "" otherwise or if unknown.

    The same images may have moved to another folder, and those in one folder may have changed.
    """
    earlier = [version.source for version in files.versions(segmentation) if version.source]
    if source is None or not earlier or any(_is_same_case(each, source) for each in earlier):
        return ""
    problem = f"{files.folder / segmentation} is the segmentation of other images, in {earlier[-1].get('folder')}"
    return f"{problem}; choose another --output_dir, or move this file away"


def _all_changed(files: WrittenFiles, segmentation: str, source: Mapping[str, Any] | None) -> bool:
    """Return True if the segmentation was made from other images in the same folder: another patient's, perhaps."""
    recorded = [version.source.get("images") for version in files.versions(segmentation)]
    earlier = [images for images in recorded if isinstance(images, Mapping)]
    now = (source or {}).get("images", {})
    return bool(earlier and now) and all(images.get(name) != now[name] for images in earlier for name in now)


def _damage(path: Path) -> str:
    """Return the problem if a changed segmentation cannot be read, because it is cut off for example; else ""."""
    try:
        read_volume(path)
    except (OSError, ValueError) as error:
        return f"{path} was changed or not written by brats3d, and cannot be read ({first_line(error)}); move it away"
    return ""


def _is_same_case(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    before, after = earlier.get("images"), now["images"]
    if earlier.get("folder") == now["folder"] or not isinstance(before, Mapping):
        return True
    common = before.keys() & after.keys()
    return bool(common) and all(before[name] == after[name] for name in common)
