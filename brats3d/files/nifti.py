"""Read a NIfTI file: the header alone, or all voxels with a check of gzip's checksum.

nibabel stops at the last voxel and never reads the checksum behind it, so that damaged voxels go unnoticed. Here the
whole file is unpacked, which is also faster than unpacking it in small pieces.

An unusable header raises as soon as it is read. Training, its checks and the audit therefore refuse the same files with
the same messages.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.errors import DataError
from brats3d.files.bounded_read import regular_file_size

MAX_VOXELS = 2**28
"""Largest volume to read: 30 times BraTS's 240 x 240 x 155, or a whole head at 0.35 mm. Four such sequences take 4 GiB
in float32, and a few times that during preprocessing. A file of 250 kB can unpack to such a volume of zeros."""

MAX_BYTES = 2**31
"""Largest size of the stored voxels of a file: :data:`MAX_VOXELS` in float64."""


@dataclass(frozen=True, eq=False)
class Header:
    """The header of a NIfTI file.

    Args:
        path: the file.
        shape: three voxel counts.
        affine: (4, 4), voxel index -> mm.
        dtype: dtype of the stored voxels, with byte order.
        nifti: nibabel's header.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    dtype: np.dtype
    nifti: Any

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along the three axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def end(self) -> int:
        """Number of bytes up to and including the last voxel."""
        return int(self.nifti.get_data_offset()) + math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Volume:
    """The header and the voxels of a file.

    Args:
        header: the header.
        values: shape (x, y, z), x varies fastest; in the stored dtype unless the header scales the values. Read-only.
    """

    header: Header
    values: np.ndarray


def is_packed(path: Path) -> bool:
    """Return True if a file's name ends in ``.gz``, which is how nibabel recognises compressed files too."""
    return path.name.lower().endswith(".gz")


def read_header(path: Path) -> Header:
    """Read the header of a 3-D NIfTI file, without its voxels.

    Raises:
        DataError: if the file does not exist, or is not a 3-D NIfTI file with integer or float voxels and an invertible
            affine.
    """
    with _explained(path):
        size = _size(path)
        with path.open("rb") as file:
            header = _parse(path, _head(path, file.read(_HEAD_BYTES)))
            if is_packed(path):
                file.seek(-min(size, 4), io.SEEK_END)
                _check_trailer(int.from_bytes(file.read(4), "little"), header)
    if not is_packed(path) and size < header.end:
        problem = f"file ends early: {size:,} bytes"
        raise DataError(path, problem, expected=f"{header.end:,} for shape {header.shape}", advice=_DOWNLOAD)
    return header


def read_volume(path: Path) -> Volume:
    """Read a 3-D NIfTI file. A ``.gz`` file is read to its end and its checksum is verified.

    Bytes after the last voxel of a plain file are not read. A ``.gz`` file may unpack to :data:`_SLACK_BYTES` more than
    the header announces; unpacking stops there, so that a "gzip bomb" does no harm.

    Raises:
        DataError: as :func:`read_header`, and if the file ends early, or is compressed and damaged or continues long
            after the last voxel.
    """
    with _explained(path):
        size = _size(path)
        with path.open("rb") as file:
            header = _parse(path, _head(path, file.read(_HEAD_BYTES)))
            if is_packed(path) and size > 2 * header.end + _PACKED_SLACK_BYTES:
                problem = f"has {size:,} compressed bytes, but its header announces only {header.end:,}"
                raise DataError(path, problem, expected=_EXPECTED)
            file.seek(0)
            content = file.read(size if is_packed(path) else min(size, header.end))
    try:
        data = _unpack(content, header.end) if is_packed(path) else content
        if len(data) < header.end:
            raise EOFError(f"{len(data):,} bytes")
        stored = np.frombuffer(data, header.dtype, math.prod(header.shape), int(header.nifti.get_data_offset()))
        return Volume(header, _scaled(stored, header).reshape(header.shape, order="F"))
    except _UNREADABLE as error:
        what = "CRC check failed" if "incorrect data check" in str(error) else _one_line(error)
        problem, expected = f"file ends early or is damaged: {what}", f"{math.prod(header.shape):,} voxels"
        raise DataError(path, problem, expected=expected, advice=_DOWNLOAD) from error


_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348

_SLACK_BYTES = 1 << 16  # some programs write more after the last voxel

_PACKED_SLACK_BYTES = 1 << 26  # a compressed file may exceed its unpacked size by this much

_HEAD_BYTES = 1 << 16  # enough of a compressed file to unpack its header

_FIRST_PIECE = 1 << 12  # first piece to unpack; pieces grow, since bytes behind a gzip member are copied

_MAX_OFFSET = 1 << 24  # of the first voxel: nibabel reads everything before it, such as a DICOM header

_DEFLATE_LIMIT = 1032  # largest compression ratio of deflate (https://zlib.net/zlib_tech.html)

_UNREADABLE = (OSError, EOFError, ValueError, ArithmeticError, AttributeError, zlib.error)

_EXPECTED = "one 3-D volume in NIfTI format"

_DOWNLOAD = "download it again"


def _size(path: Path) -> int:
    if not (size := regular_file_size(path)):
        raise ValueError("the file is empty (0 bytes)")
    return size


def _head(path: Path, start: bytes) -> bytes:
    """Return the first bytes of a file, given its start; unpacked if the file is compressed."""
    if not is_packed(path):
        return start[:_HEADER_BYTES]
    with gzip.open(io.BytesIO(start)) as unpacked:
        return unpacked.read(_HEADER_BYTES)


def _check_trailer(stated: int, header: Header) -> None:
    """Check the last four bytes of a gzip file: the unpacked length (modulo 2^32) of its last member."""
    if stated > header.end + _SLACK_BYTES:
        problem = (
            f"file ends early or is damaged, or contains much more than its voxels: its header announces "
            f"{header.end:,} bytes, its last four bytes {stated:,}"
        )
        raise DataError(header.path, problem, advice=_DOWNLOAD)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of nibabel, gzip and the system into a DataError."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except FileNotFoundError:
        problem = "a link to a file that does not exist" if path.is_symlink() else "no such file"
        raise DataError(path, problem, expected=_EXPECTED) from None
    except PermissionError:
        raise DataError(path, "no permission to read this file", advice="change its permissions") from None
    except DataError:
        raise
    except (*_UNREADABLE, ImageFileError, HeaderDataError) as error:
        problem = f"cannot be read as NIfTI: {_one_line(error)}"
        raise DataError(path, problem, expected=_EXPECTED, advice=_DOWNLOAD) from error


def _parse(path: Path, head: bytes) -> Header:
    import nibabel  # takes a third of a second

    if head[:2] == b"\x1f\x8b":
        raise DataError(path, "is compressed, but its name does not end in .gz", advice="rename it")
    is_nifti_2 = 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    kind = nibabel.Nifti2Header if is_nifti_2 else nibabel.Nifti1Header
    size = kind.template_dtype.itemsize
    if len(head) < size:
        raise ValueError(f"ends after {len(head)} bytes, within the header")
    nifti = kind(head[:size], check=True)
    header = Header(path, tuple(nifti.get_data_shape()), nifti.get_best_affine(), nifti.get_data_dtype(), nifti)
    if nifti["magic"].item() not in (b"n+1", b"n+2") or nifti.get_data_offset() < size:
        raise ValueError("not one file with header and voxels")
    shape, affine = header.shape, header.affine
    if len(shape) != 3:
        problem = f"is {len(shape)}-D, of shape {shape}"
        raise DataError(path, problem, expected="3-D: one file for each sequence", advice="split it")
    if min(shape) < 1 or header.dtype.kind not in "iuf":
        problem = f"has shape {shape} and voxels of type {header.dtype}"
        raise DataError(path, problem, expected=f"{_EXPECTED} with integer or float voxels")
    if math.prod(shape) > MAX_VOXELS or header.end > MAX_BYTES + _MAX_OFFSET:
        size_text = f"{math.prod(shape):,} voxels in {header.end:,} bytes"
        problem = f"has shape {shape} and voxels of type {header.dtype}: {size_text}"
        expected = f"{_EXPECTED} of at most {MAX_VOXELS:,} voxels and {MAX_BYTES:,} bytes"
        raise DataError(path, problem, expected=expected)
    if nifti.get_data_offset() > _MAX_OFFSET:
        problem = f"its first voxel is at byte {nifti.get_data_offset():,}"
        raise DataError(path, problem, expected=f"one of the first {_MAX_OFFSET:,} bytes")
    nifti.get_slope_inter()  # raises for an invalid scale, which would only be used with the voxels
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        problem = f"its affine {affine[:3].tolist()} is not invertible"
        raise DataError(path, problem, expected="an affine that places each voxel in space")
    return header


def _unpack(content: bytes, end: int) -> bytes:
    """Unpack gzip members and verify their checksums. Raise ValueError if there are many more bytes than ``end``."""
    if end > _DEFLATE_LIMIT * len(content):
        raise EOFError(f"{len(content):,} compressed bytes are too few")
    parts, room, packed = [], end + _SLACK_BYTES, memoryview(content)
    while any(packed):  # zeros may follow the last member
        member, piece = zlib.decompressobj(zlib.MAX_WBITS | 16), _FIRST_PIECE
        while not member.eof:
            if not packed:
                raise EOFError("the compressed data end early")
            part = member.decompress(packed[:piece], room + 1)  # 0 would mean no limit
            room -= len(part)
            if room < 0:
                raise ValueError(f"continues for more than {_SLACK_BYTES:,} bytes after the last voxel")
            if part:
                parts.append(part)
            packed = packed[min(piece, len(packed)) - len(member.unused_data) :]
            piece *= 2
    return b"".join(parts)


def _scaled(stored: np.ndarray, header: Header) -> np.ndarray:
    from nibabel.volumeutils import apply_read_scaling

    slope, inter = header.nifti.get_slope_inter()
    return stored if slope in (None, 1) and inter in (None, 0) else apply_read_scaling(stored, slope, inter)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
