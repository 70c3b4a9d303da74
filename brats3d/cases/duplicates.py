"""Files with the same content under different names, found without reading most of them; cases that share images."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, cast

from brats3d.cases.case import Case, natural_key
from brats3d.files import MAX_BYTES, is_packed, ordinary_size

_BLOCK = 1 << 16


def identical_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of two or more files with the same content; ``.gz`` files are compared unpacked.

    Only files with the same signature are compared whole: the checksum and length with which a ``.gz`` file ends, or
    the length and four blocks of another file. Where both kinds are among them, the others' checksums are computed.

    Args:
        paths: of files that can be read; each stands in one group at most.

    Raises:
        ValueError: if one of them cannot be read.
    """
    paths = list(paths)
    mixed = len({is_packed(path) for path in paths}) > 1
    alike: dict[tuple[object, ...], list[Path]] = {}
    for path in paths:
        try:
            alike.setdefault(signature(path, mixed), []).append(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read: {error}; check the file, or download it again") from error
    return [group for candidates in alike.values() if len(candidates) > 1 for group in _groups(candidates)]


def shared_images(cases: Sequence[Case]) -> dict[tuple[str, ...], list[str]]:
    """Cases that have an image in common: their identifiers, in natural order -> the modalities of what they share.

    Segmentations are left out: those of two cases without a tumour are the same.

    Raises:
        ValueError: if an image cannot be read.
    """
    owners: dict[Path, list[tuple[str, str]]] = {}
    for case in cases:
        for modality, path in case.images.items():
            owners.setdefault(path, []).append((case.case_id, modality))
    groups = [*identical_files(owners), *([path] for path, whose in owners.items() if len(whose) > 1)]
    shared: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        whose = [each for path in group for each in owners[path]]
        ids = tuple(sorted({case_id for case_id, _ in whose}, key=natural_key))
        if len(ids) > 1:
            kinds = shared.setdefault(ids, [])
            kinds += [kind for kind in dict.fromkeys(kind for _, kind in whose) if kind not in kinds]
    return dict(sorted(shared.items(), key=lambda item: [natural_key(case_id) for case_id in item[0]]))


def signature(path: Path, whole: bool = False) -> tuple[object, ...]:
    """What tells two files' contents apart, nearly always, and takes little reading.

    Args:
        path: of the file. Of a ``.gz`` the checksum and length with which it ends are taken.
        whole: take those of another file too, which is then read whole; else its length and four blocks of it.

    Raises:
        ValueError, OSError: if it is no ordinary file, or cannot be read.
    """
    size = ordinary_size(path)
    with path.open("rb") as file:
        if is_packed(path):
            file.seek(max(0, size - 8))  # RFC 1952: CRC32 and length of what was packed
            return "gz", file.read()
        if whole:
            checksum = 0
            while block := file.read(16 * _BLOCK):
                checksum = zlib.crc32(block, checksum)
            return "gz", struct.pack("<II", checksum, size % 2**32)
        blocks = []
        for quarter in (0, 1, 2, 3):  # the header, then where there is brain; the end is background
            file.seek(max(0, quarter * size // 4 - _BLOCK // 2))
            blocks.append(zlib.crc32(file.read(_BLOCK)))
        return "", size, *blocks


def _groups(candidates: list[Path]) -> list[list[Path]]:
    """Compare whole contents; the first file of a group stands for it."""
    groups: list[list[Path]] = []
    for path in candidates:
        group = next((group for group in groups if _same_content(group[0], path)), None)
        if group:
            group.append(path)
        else:
            groups.append([path])
    return [group for group in groups if len(group) > 1]


def _same_content(a: Path, b: Path) -> bool:
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
        raise ValueError(f"{a} or {b}: cannot be read: {error}; check the files, or download them again") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if is_packed(path) else path.open("rb")
