"""Find the file that holds an image's voxels: in some formats, a second file beside the header."""

from __future__ import annotations

import re
from pathlib import Path

from brats3d.files.image_names import image_ending, strip_image_ending


def is_packed(path: Path) -> bool:
    """Return True if a file's name ends in ``.gz`` or ``.mgz``, which is how nibabel recognises compressed files."""
    return path.name.lower().endswith((".gz", ".mgz"))


def voxel_file(path: Path) -> Path:
    """Return the file that holds an image's voxels.

    For ``.hdr`` this is the ``.img`` or ``.img.gz`` file beside it; for ``.mhd`` and ``.nhdr`` the file that the header
    names, if it names one. Any other file holds its voxels itself.
    """
    ending = image_ending(path.name).lower()
    if ending in (".hdr", ".hdr.gz"):
        stem = strip_image_ending(path.name)
        places = [path.with_name(stem + ending) for ending in (".img", ".img.gz", ".IMG")]
        return next((place for place in places if place.exists()), places[0])
    if ending in (".mhd", ".nhdr"):
        try:
            with path.open("rb") as file:
                named = _DATA_FILE.search(file.read(_HEAD_BYTES))
        except OSError:
            return path
        place = path.parent / named[1].decode("utf-8", "surrogateescape") if named else path
        return place if place.is_file() else path
    return path


def image_files(path: Path) -> list[Path]:
    """Return the files of an image: its own, and the one that holds the voxels if that is another."""
    return list(dict.fromkeys((path, voxel_file(path))))


_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)

_HEAD_BYTES = 1 << 16
