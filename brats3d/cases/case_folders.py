"""Case identifiers from folders, for files whose names state no case, such as ``t1.nii.gz``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brats3d.cases.name_words import has_number, has_words, is_numbered, is_person, starts_with_date, without_times
from brats3d.cases.text import readable_name

_MOST_PARENTS = 3


def tell_apart(folders: Sequence[str | Path]) -> list[str]:
    """Return a unique case identifier for each folder: its name, after those of as many parents as needed."""
    parts = [tuple(map(readable_name, Path(folder).parts)) for folder in folders]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["_".join(each[-n:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return names


def folder_case_id(folder: str | Path) -> str:
    """Return a case identifier: the folder's name, after those of its parents if it identifies no patient alone.

    ``pat01/anat`` is ``pat01_anat``, and ``sub-01/ses-02/anat`` is ``sub-01_ses-02_anat``. A number alone needs a
    folder above it that counts patients: ``RHUH-0001/0`` is ``RHUH-0001_0``, but ``train/1`` is ``1``. The result does
    not depend on the folder in which a search starts.
    """
    folder = Path(folder)
    name = best = readable_name(folder.name)
    after_number = is_numbered(name)
    if without_times(name) and not after_number and not starts_with_date(name):
        return name
    after_collection = False
    for above in [readable_name(each.name) for each in folder.parents][:_MOST_PARENTS]:
        if not above or above.startswith("."):
            break
        name = f"{above}_{name}"
        rest = without_times(above)
        if is_numbered(above) and rest:
            best, after_number = name, True
        elif is_person(above):
            return name
        elif has_number(rest) or has_words(rest):
            counts = has_number(rest) and above[-2:].isdigit()
            return name if not after_collection and (counts or not after_number) else best
        elif rest:
            after_collection = True
    return best
