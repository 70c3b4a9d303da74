"""One NIfTI file, read once: the header alone, or every voxel together with gzip's checksum.

nibabel stops reading at the last voxel, so it never sees the checksum that follows it, and a file that is damaged in
the middle passes. Here the whole file is unpacked in one call, which is also faster than unpacking piece by piece.

Whatever makes a header unusable is said when it is read, so that the checks before a training, the training and the
audit refuse the same files with the same words.
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

from brats3d.files.bounded_read import ordinary_size

AFFINE_TOLERANCE_MM = 1e-3
"""Two files whose affines differ by no more than this lie on the same grid."""

MAX_VOXELS = 2**28
"""Of one volume: 30 times BraTS's 240 x 240 x 155, a whole head at 0.35 mm. Four such sequences take 4 GiB in float32,
and a few times that while they are prepared; a file of 250 kB can hold one, if it is zeros."""

MAX_BYTES = 2**31
"""Of one file's voxels as they are stored: :data:`MAX_VOXELS` of float64."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a NIfTI file says about its voxels.

    Args:
        path: the file.
        shape: three voxel counts.
        affine: (4, 4), voxel index -> mm.
        dtype: of the stored voxels, byte order included.
        nifti: nibabel's header.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    dtype: np.dtype
    nifti: Any

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distances between voxels along the three axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def end(self) -> int:
        """Number of bytes up to the last voxel."""
        return int(self.nifti.get_data_offset()) + math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Volume:
    """A file's header and its voxels.

    Args:
        header: of the file.
        values: shape (x, y, z), x varies fastest; in the stored dtype unless the header scales the values. Read-only.
    """

    header: Header
    values: np.ndarray


def same_grid(a: Header, b: Header) -> bool:
    """Whether two files have the same shape, and the same affine within :data:`AFFINE_TOLERANCE_MM`."""
    return a.shape == b.shape and bool(np.abs(a.affine - b.affine).max() <= AFFINE_TOLERANCE_MM)


def format_affine(affine: np.ndarray) -> str:
    """The first three rows on one line."""
    return "[" + ", ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3]) + "]"


def to_lps(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A volume (x, y, z) in a file's voxel order, turned by right angles until its axes run towards L, P and S."""
    from nibabel.orientations import apply_orientation

    return np.ascontiguousarray(apply_orientation(volume, _turn_to_lps(affine)))


def lps_axes(affine: np.ndarray) -> list[int]:
    """Which of a file's axes runs along L, which along P, which along S, either way."""
    return [int(axis) for axis in np.argsort(_turn_to_lps(affine)[:, 0])]


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it is compressed; nibabel decides it so too."""
    return path.name.lower().endswith(".gz")


def read_header(path: Path) -> Header:
    """Read the header of a 3-D NIfTI file; no voxel is read.

    Raises:
        ValueError: if there is no such file, or it is no 3-D NIfTI file with integer or float voxels placed in space.
    """
    with _explained(path):
        size = _size(path)
        with path.open("rb") as file:
            header = _parse(path, _head(path, file.read(_HEAD_BYTES)))
            if is_packed(path):
                file.seek(-min(size, 4), io.SEEK_END)
                _check_stated(int.from_bytes(file.read(4), "little"), header)
    if not is_packed(path) and size < header.end:
        raise ValueError(
            f"{path}: file ends early: {size:,} bytes; expected {header.end:,} for shape {header.shape}; "
            "download it again"
        )
    return header


def read_volume(path: Path) -> Volume:
    """Read a 3-D NIfTI file in one pass; a ``.gz`` file to its end, its checksum verified.

    Of what follows the last voxel, a plain file's is not read. A packed one may unpack to :data:`_SLACK_BYTES` more
    than the header announces, whatever its trailer says of its length; one that goes on (a "gzip bomb") ends there.

    Raises:
        ValueError: as :func:`read_header`, and if the file ends early, or is packed and damaged or goes on for long
            after the last voxel.
    """
    with _explained(path):
        size = _size(path)
        with path.open("rb") as file:
            header = _parse(path, _head(path, file.read(_HEAD_BYTES)))
            if is_packed(path) and size > 2 * header.end + _PACKED_SLACK_BYTES:
                raise _Unfit(f"has {size:,} bytes, packed; its header announces {header.end:,}, unpacked; {_EXPECTED}")
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
        raise ValueError(
            f"{path}: file ends early or is damaged: {what}; expected {math.prod(header.shape):,} voxels; "
            "download it again"
        ) from error


def _turn_to_lps(affine: np.ndarray) -> np.ndarray:
    """nibabel's orientation transform (3, 2)."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    return np.asarray(ornt_transform(io_orientation(affine), axcodes2ornt("LPS")))


_HEADER_BYTES = 540  # NIfTI-2's; NIfTI-1 has 348

_SLACK_BYTES = 1 << 16  # what some programs write after the last voxel

_PACKED_SLACK_BYTES = 1 << 26  # a packed file this much larger than it is unpacked is not read

_HEAD_BYTES = 1 << 16  # of a packed file, from which its header is unpacked

_FIRST_PIECE = 1 << 12  # of a packed file; pieces grow, since what follows the end of a member is copied

_MAX_OFFSET = 1 << 24  # of the first voxel: nibabel reads what stands before it, a DICOM header or a table

_DEFLATE_LIMIT = 1032  # no deflate stream unpacks to more times its size (https://zlib.net/zlib_tech.html)

_UNREADABLE = (OSError, EOFError, ValueError, ArithmeticError, AttributeError, zlib.error)

_EXPECTED = "expected one 3-D volume in NIfTI format"


def _size(path: Path) -> int:
    if not (size := ordinary_size(path)):
        raise ValueError("the file is empty (0 bytes)")
    return size


def _head(path: Path, start: bytes) -> bytes:
    """The first bytes of a file, unpacked from its start if it is packed."""
    if not is_packed(path):
        return start[:_HEADER_BYTES]
    with gzip.open(io.BytesIO(start)) as unpacked:
        return unpacked.read(_HEADER_BYTES)


def _check_stated(stated: int, header: Header) -> None:
    """A packed file ends with its unpacked length (modulo 2^32); the last of several members has a part of it."""
    if stated > header.end + _SLACK_BYTES:
        raise _Unfit(
            f"file ends early or is damaged, or holds much more than its voxels: its header announces {header.end:,} "
            f"bytes, its last four bytes {stated:,}; download it again"
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever nibabel, gzip or the system raise becomes one ValueError that names the file."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except FileNotFoundError:
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise ValueError(f"{path}: {what}; {_EXPECTED}") from None
    except PermissionError:
        raise ValueError(f"{path}: no permission to read this file; change its permissions") from None
    except _Unfit as error:
        raise ValueError(f"{path}: {error}") from None
    except (*_UNREADABLE, ImageFileError, HeaderDataError) as error:
        raise ValueError(
            f"{path}: cannot be read as NIfTI: {_one_line(error)}; {_EXPECTED}; download it again"
        ) from error


class _Unfit(Exception):
    """A readable header of a file that cannot be used."""


def _parse(path: Path, head: bytes) -> Header:
    import nibabel  # here, since it takes a third of a second

    if head[:2] == b"\x1f\x8b":
        raise _Unfit("is compressed, but its name does not end in .gz; rename it")
    two = 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    kind = nibabel.Nifti2Header if two else nibabel.Nifti1Header
    size = kind.template_dtype.itemsize
    if len(head) < size:
        raise ValueError(f"ends after {len(head)} bytes, within the header")
    nifti = kind(head[:size], check=True)
    header = Header(path, tuple(nifti.get_data_shape()), nifti.get_best_affine(), nifti.get_data_dtype(), nifti)
    if nifti["magic"].item() not in (b"n+1", b"n+2") or nifti.get_data_offset() < size:
        raise ValueError("not one file with header and voxels")
    shape, affine = header.shape, header.affine
    if len(shape) != 3:
        raise _Unfit(f"is {len(shape)}-D, of shape {shape}; expected 3-D: one file a sequence; split it")
    if min(shape) < 1 or header.dtype.kind not in "iuf":
        raise _Unfit(f"has shape {shape} and voxels of type {header.dtype}; {_EXPECTED} with integer or float voxels")
    if math.prod(shape) > MAX_VOXELS or header.end > MAX_BYTES + _MAX_OFFSET:
        found = f"{math.prod(shape):,} voxels in {header.end:,} bytes"
        raise _Unfit(
            f"has shape {shape} and voxels of type {header.dtype}: {found}; {_EXPECTED} "
            f"of at most {MAX_VOXELS:,} voxels and {MAX_BYTES:,} bytes"
        )
    if nifti.get_data_offset() > _MAX_OFFSET:
        raise _Unfit(
            f"its first voxel stands at byte {nifti.get_data_offset():,}; expected it within the first {_MAX_OFFSET:,}"
        )
    nifti.get_slope_inter()  # raises where a scale comes without a number to add; it is used with the voxels
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise _Unfit(f"its affine {format_affine(affine)} places no voxel in space; expected an invertible one")
    return header


def _unpack(content: bytes, end: int) -> bytes:
    """The unpacked bytes, the checksum verified; a ValueError if there are many more than ``end``."""
    if end > _DEFLATE_LIMIT * len(content):
        raise EOFError(f"{len(content):,} packed bytes are too few")
    parts, room, packed = [], end + _SLACK_BYTES, memoryview(content)
    while any(packed):  # zeros may follow the last member
        member, piece = zlib.decompressobj(zlib.MAX_WBITS | 16), _FIRST_PIECE
        while not member.eof:
            if not packed:
                raise EOFError("the compressed data end too soon")
            part = member.decompress(packed[:piece], room + 1)  # 0 would mean no limit
            room -= len(part)
            if room < 0:
                raise ValueError(f"goes on for more than {_SLACK_BYTES:,} bytes after the last voxel")
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
