"""Read NIfTI, Analyze and MGH files: the header alone, or all voxels with a check of gzip's checksum.

nibabel stops at the last voxel and never reads the checksum behind it, so that damaged voxels go unnoticed. Here the
whole file is unpacked, which is also faster than unpacking it in small pieces.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from isal import isal_zlib

from brats3d.errors import DataError
from brats3d.files.bounded_read import regular_file_size
from brats3d.files.nifti_header import HEADER_BYTES, Stored, parse_mgh, parse_nifti
from brats3d.files.volume import DOWNLOAD, EXPECTED, Header, Volume
from brats3d.files.voxel_file import is_packed, voxel_file

UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, ArithmeticError, AttributeError, RuntimeError, zlib.error),
    isal_zlib.error,  # type: ignore[assignment]  # its stub names an instance
)
"""Exceptions of nibabel, numpy, SimpleITK, zlib, isa-l and the system for damaged files."""


def read_nifti_header(path: Path) -> Header:
    """Read the header of a NIfTI, Analyze or MGH file, and check that the voxels' file is long enough.

    Raises:
        DataError: if it cannot be used.
        Exception: one of :data:`UNREADABLE` or of nibabel's own, if it is damaged.
    """
    with _open_voxels(path) as (stored, voxels, file):
        size = file_size(voxels)
        if is_packed(voxels):
            file.seek(-min(size, 4), io.SEEK_END)
            _check_trailer(int.from_bytes(file.read(4), "little"), stored)
    if not is_packed(voxels) and size < stored.end:
        problem = f"file ends early: {size:,} bytes"
        raise DataError(voxels, problem, expected=f"{stored.end:,} for shape {stored.header.shape}", advice=DOWNLOAD)
    return stored.header


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI, Analyze or MGH file. A compressed file is read to its end and its checksum is verified.

    Bytes after the last voxel of a plain file are not read. A compressed file may unpack to :data:`_SLACK_BYTES` more
    than the header announces; unpacking stops there, so that a "gzip bomb" does no harm.

    Raises:
        DataError, Exception: as :func:`read_nifti_header`, and if the file ends early, or is compressed and damaged or
            continues long after the last voxel.
    """
    with _open_voxels(path) as (stored, voxels, file):
        header, size = stored.header, file_size(voxels)
        if is_packed(voxels) and size > 2 * stored.end + _PACKED_SLACK_BYTES:
            problem = f"has {size:,} compressed bytes, but its header announces only {stored.end:,}"
            raise DataError(voxels, problem, expected=EXPECTED)
        file.seek(0)
        content = file.read(size if is_packed(voxels) else min(size, stored.end))
    try:
        data = _unpack(content, stored.end) if is_packed(voxels) else content
        if len(data) < stored.end:
            raise EOFError(f"{len(data):,} bytes")
        values = np.frombuffer(data, header.dtype, math.prod(header.shape), stored.offset)
        return Volume(header, _scaled(values, stored).reshape(header.shape, order="F"))
    except UNREADABLE as error:
        what = "CRC check failed" if "Incorrect checksum" in str(error) else one_line(error)
        problem, expected = f"file ends early or is damaged: {what}", f"{math.prod(header.shape):,} voxels"
        raise DataError(voxels, problem, expected=expected, advice=DOWNLOAD) from error


def file_size(path: Path) -> int:
    """Return the size of an ordinary file.

    Raises:
        ValueError: if it is empty or not an ordinary file.
    """
    if not (size := regular_file_size(path)):
        raise ValueError("the file is empty (0 bytes)")
    return size


def one_line(error: Exception) -> str:
    """Return the text of an error on one line; of SimpleITK's, the last line."""
    lines = str(error).strip().splitlines()
    text = lines[-1] if isinstance(error, RuntimeError) and lines else str(error)
    return " ".join(text.split()) or type(error).__name__


_SLACK_BYTES = 1 << 16  # some programs write more after the last voxel

_PACKED_SLACK_BYTES = 1 << 26  # a compressed file may exceed its unpacked size by this much

_HEAD_BYTES = 1 << 16  # enough of a compressed file to unpack its header

_PIECES = (1 << 12, 1 << 16)  # first and largest piece to unpack; bytes behind a gzip member are copied

_DEFLATE_LIMIT = 1032  # largest compression ratio of deflate (https://zlib.net/zlib_tech.html)


@contextmanager
def _open_voxels(path: Path) -> Iterator[tuple[Stored, Path, IO[bytes]]]:
    """Parse the header of a file, and yield it with the path of the file that holds the voxels, and that file, open."""
    file_size(path)
    with path.open("rb") as file:
        stored = _parse(path, file.read(_HEAD_BYTES))
        if not stored.in_two_files:
            yield stored, path, file
            return
    voxels = voxel_file(path)
    if not voxels.exists():
        raise DataError(path, f"its voxels are missing: no file {voxels.name} beside it", advice="add that file")
    with voxels.open("rb") as file:
        yield stored, voxels, file


def _parse(path: Path, start: bytes) -> Stored:
    is_gzip, is_nifti = start[:2] == b"\x1f\x8b", start[344:347] in (b"n+1", b"ni1")
    if is_gzip and not is_packed(path):
        raise DataError(path, "is compressed, but its name does not end in .gz or .mgz", advice="rename it")
    if is_nifti and is_packed(path):
        raise DataError(path, "is not compressed, but its name ends in .gz", advice="rename it")
    if is_packed(path):
        with gzip.open(io.BytesIO(start)) as unpacked:
            start = unpacked.read(HEADER_BYTES)
    parse = parse_mgh if path.name.lower().endswith((".mgh", ".mgz")) else parse_nifti
    return parse(path, start[:HEADER_BYTES])


def _check_trailer(stated: int, stored: Stored) -> None:
    """Check the last four bytes of a gzip file: the unpacked length (modulo 2^32) of its last member."""
    if stated > stored.end + _SLACK_BYTES:
        problem = (
            f"file ends early or is damaged, or contains much more than its voxels: its header announces "
            f"{stored.end:,} bytes, its last four bytes {stated:,}"
        )
        raise DataError(stored.header.path, problem, advice=DOWNLOAD)


def _unpack(content: bytes, end: int) -> np.ndarray:
    """Unpack gzip members and verify their checksums. Raise ValueError if there are many more bytes than ``end``.

    The pieces are copied to one array, for which NumPy uses huge pages: joining them takes longer than unpacking.
    """
    if end > _DEFLATE_LIMIT * len(content):
        raise EOFError(f"{len(content):,} compressed bytes are too few")
    data, size, packed = np.empty(end + _SLACK_BYTES, np.uint8), 0, memoryview(content)
    while any(packed):  # zeros may follow the last member
        member, piece = isal_zlib.decompressobj(zlib.MAX_WBITS | 16), _PIECES[0]
        while not member.eof:
            if not packed:
                raise EOFError("the compressed data end early")
            part = member.decompress(packed[:piece], len(data) - size + 1)  # 0 would mean no limit
            if len(part) > len(data) - size:
                raise ValueError(f"continues for more than {_SLACK_BYTES:,} bytes after the last voxel")
            data[size : size + len(part)] = np.frombuffer(part, np.uint8)
            size += len(part)
            packed = packed[min(piece, len(packed)) - len(member.unused_data) :]
            piece = min(2 * piece, _PIECES[1])
    data.setflags(write=False)
    return data[:size]


def _scaled(values: np.ndarray, stored: Stored) -> np.ndarray:
    from nibabel.volumeutils import apply_read_scaling

    slope, inter = stored.slope, stored.inter
    return values if slope in (None, 1) and inter in (None, 0) else apply_read_scaling(values, slope, inter)
