"""The image files of a folder, by the folder of their case, and evidence that they are those of several patients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from brats3d.cases import natural_key
from brats3d.files import is_image_name, walk_folders
from brats3d.scans.series_kind import kind_of_name


def image_folders(root: Path) -> dict[Path, list[Path]]:
    """Return the image files of each folder, in natural order.

    The only image of a folder with the name of its sequence, such as ``P1/T1/AX_T1.nii.gz``, belongs to the folder
    above.
    """
    folders: dict[Path, list[Path]] = {}
    for name, files in walk_folders(root):
        place = Path(name)
        paths = [Path(path) for name, group in files.items() if is_image_name(name) for path in group]
        modality = kind_of_name(paths[0].name).modality if len(paths) == 1 else None
        for folder in (place, place.parent) if modality else ():
            if root in folder.parents and kind_of_name(f"{folder.name}.nii").modality == modality:
                place = folder.parent
                break
        folders.setdefault(place, []).extend(paths)
    return {place: sorted(paths, key=lambda path: natural_key(path.name)) for place, paths in folders.items()}


def several_patients(paths: Sequence[Path]) -> str:
    """Return why the image files of one folder seem to show several patients; empty if they do not."""
    studies = {time for path in paths for time in _STUDY_TIME.findall(path.name)}
    shown = [modality for path in paths if (modality := kind_of_name(path.name).modality)]
    if len(studies) > 1:
        return f"holds images of {len(studies):,} studies, by their names; put each study into a folder of its own"
    if len(shown) > 1 and len(set(shown)) == 1:
        problem = f"holds {len(shown):,} images of {shown[0]} and no other sequence"
        return f"{problem}; keep one, or put each patient into a folder of its own"
    return ""


_STUDY_TIME = re.compile(r"(?<!\d)(?:19|20)\d{12}(?!\d)")
"""The date and time of the study, as in dcm2niix's names."""
