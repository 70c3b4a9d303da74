"""Find files with the same content under different names, mostly without reading them, and cases that share images."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, cast

from brats3d.cases.case import Case
from brats3d.cases.text import natural_key
from brats3d.errors import DataError
from brats3d.files import MAX_BYTES, is_packed, regular_file_size, voxel_file

_BLOCK = 1 << 16


def identical_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Return groups of two or more images with the same content; ``.gz`` files are compared unpacked.

    Only files with the same signature are compared in full: the checksum and length at the end of a ``.gz`` file, or
    the length and four blocks of another file. If both kinds are present, the checksums of the others are computed.

    Args:
        paths: readable files; each appears in one group at most.

    Raises:
        DataError: if a file cannot be read.
    """
    paths = list(paths)
    mixed = len({is_packed(voxel_file(path)) for path in paths}) > 1
    alike: dict[tuple[object, ...], list[Path]] = {}
    for path in paths:
        try:
            alike.setdefault(signature(path, mixed), []).append(path)
        except (OSError, ValueError) as error:
            raise DataError(path, f"cannot be read: {error}", advice="check the file, or download it again") from error
    return [group for candidates in alike.values() if len(candidates) > 1 for group in _groups(candidates)]


def shared_images(cases: Sequence[Case]) -> dict[tuple[str, ...], list[str]]:
    """Find cases that have an image in common.

    Segmentations are ignored: those of two cases without a tumour are equal.

    Returns:
        Case identifiers, in natural order -> modalities of the images that they share.

    Raises:
        DataError: if an image cannot be read.
    """
    owners: dict[Path, list[tuple[str, str]]] = {}
    for case in cases:
        for modality, path in case.images.items():
            owners.setdefault(path, []).append((case.case_id, modality))
    groups = [*identical_files(owners), *([path] for path, pairs in owners.items() if len(pairs) > 1)]
    shared: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        pairs = [pair for path in group for pair in owners[path]]
        ids = tuple(sorted({case_id for case_id, _ in pairs}, key=natural_key))
        if len(ids) > 1:
            shared.setdefault(ids, []).extend(modality for _, modality in pairs)
    ordered = sorted(shared.items(), key=lambda item: [natural_key(case_id) for case_id in item[0]])
    return {ids: list(dict.fromkeys(modalities)) for ids, modalities in ordered}


def signature(path: Path, whole: bool = False) -> tuple[object, ...]:
    """Return a value that nearly always differs if the contents of two files differ. Reads little of the file.

    Args:
        path: the file. For a ``.gz`` file, the checksum and length at its end are used.
        whole: compute checksum and length of other files too, which reads them in full. By default their length and
            four blocks are used.

    Raises:
        DataError, OSError: if it is not an ordinary file or cannot be read.
    """
    path = voxel_file(path)  # the headers of two images can be equal
    size = regular_file_size(path)
    with path.open("rb") as file:
        if is_packed(path):
            file.seek(max(0, size - 8))  # RFC 1952: CRC32 and length of the unpacked content
            return "gz", file.read()
        if whole:
            checksum = 0
            while block := file.read(16 * _BLOCK):
                checksum = zlib.crc32(block, checksum)
            return "gz", struct.pack("<II", checksum, size % 2**32)
        blocks = []
        for quarter in (0, 1, 2, 3):  # the header, then blocks with brain; the end is background
            file.seek(max(0, quarter * size // 4 - _BLOCK // 2))
            blocks.append(zlib.crc32(file.read(_BLOCK)))
        return "", size, *blocks


def _groups(candidates: list[Path]) -> list[list[Path]]:
    """Compare whole contents with the first file of each group."""
    groups: list[list[Path]] = []
    for path in candidates:
        group = next((group for group in groups if _same_content(group[0], path)), None)
        if group:
            group.append(path)
        else:
            groups.append([path])
    return [group for group in groups if len(group) > 1]


def _same_content(a: Path, b: Path) -> bool:
    a, b = voxel_file(a), voxel_file(b)
    if a.samefile(b):
        return True
    try:
        with _open(a) as first, _open(b) as second:
            for _ in range(2 * MAX_BYTES // _BLOCK):
                if (block := first.read(_BLOCK)) != second.read(_BLOCK):
                    return False
                if not block:
                    return True
            raise ValueError(f"more than {2 * MAX_BYTES:,} bytes of content")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        problem = f"cannot be read: {error}"
        raise DataError(f"{a} or {b}", problem, advice="check the files, or download them again") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if is_packed(path) else path.open("rb")
