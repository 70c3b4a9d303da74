"""Parse the headers of NIfTI, its predecessor Analyze, and FreeSurfer's MGH."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.errors import DataError
from brats3d.files.volume import Header, Note, check_size, is_invertible, spatial_shape

HEADER_BYTES = 540
"""Size of a NIfTI-2 header. NIfTI-1 and Analyze have 348, MGH 90."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A header, and how the voxels are stored.

    Args:
        header: the header.
        offset: position of the first voxel in its file.
        slope: factor of the stored values.
        inter: offset that is added to the scaled values.
        in_two_files: True if the voxels are in another file than the header.
    """

    header: Header
    offset: int
    slope: float | None = None
    inter: float | None = None
    in_two_files: bool = False

    @property
    def end(self) -> int:
        """Number of bytes up to and including the last voxel."""
        return self.offset + math.prod(self.header.shape) * self.header.dtype.itemsize


def parse_mgh(path: Path, head: bytes) -> Stored:
    """Parse the first bytes of an MGH file, unpacked.

    Raises:
        DataError: as :func:`parse_nifti`.
    """
    from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader

    size = MGHHeader._hdrdtype.itemsize
    if len(head) < size:
        raise ValueError(f"ends after {len(head)} bytes, within the header")
    mgh = MGHHeader(head[:size])
    shape, notes = spatial_shape(path, tuple(map(int, mgh.get_data_shape())))
    if not int.from_bytes(head[28:30], "big"):  # goodRASFlag
        notes += (guessed_orientation("the header does not state it", mgh.get_affine()),)
    return Stored(make_header(path, shape, mgh.get_affine(), mgh.get_data_dtype(), notes), DATA_OFFSET)


def parse_nifti(path: Path, head: bytes) -> Stored:
    """Parse the first bytes of a NIfTI or Analyze file, unpacked.

    Raises:
        DataError: if it is not a 3-D volume with integer or float voxels and an invertible affine.
        ValueError, HeaderDataError: if it is damaged.
    """
    import nibabel  # slow to import

    is_nifti_2 = 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    kind = nibabel.Nifti2Header if is_nifti_2 else nibabel.Nifti1Header
    size = kind.template_dtype.itemsize
    if len(head) < size:
        raise ValueError(f"ends after {len(head)} bytes, within the header")
    in_two_files = path.name.lower().endswith((".hdr", ".hdr.gz"))
    if in_two_files and head[344:347] not in (b"ni1", b"n+1") and not is_nifti_2:
        return _parse_analyze(path, head[:size])
    nifti = kind(head[:size], check=True)
    offset = int(nifti.get_data_offset())
    is_single = nifti["magic"].item() in (b"n+1", b"n+2") and offset >= size
    if not is_single and not in_two_files:
        raise ValueError("not one file with header and voxels")
    if not 0 <= offset <= _MAX_OFFSET:
        problem = f"its first voxel is at byte {offset:,}"
        raise DataError(path, problem, expected=f"one of the first {_MAX_OFFSET:,} bytes")
    shape, notes = spatial_shape(path, tuple(map(int, nifti.get_data_shape())))
    slope, inter = nifti.get_slope_inter()
    affine, affine_notes = _find_affine(nifti)
    header = Header(path, shape, affine, nifti.get_data_dtype(), nifti, notes + affine_notes)
    return Stored(_checked(header), offset, slope, inter, in_two_files)


def make_header(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, dtype: np.dtype, notes: tuple[Note, ...] = ()
) -> Header:
    """Return the header of a file in another format, with a NIfTI header made for it.

    Raises:
        DataError: if the shape, the dtype or the affine cannot be used.
    """
    import nibabel

    header = _checked(Header(path, shape, affine, np.dtype(dtype), nibabel.Nifti1Header(), notes))
    nifti = header.nifti
    nifti.set_data_shape(shape)
    nifti.set_data_dtype(header.dtype)
    nifti.set_xyzt_units("mm")
    code = 0 if any(note.kind == "no affine" for note in notes) else 1
    nifti.set_qform(affine, code)
    nifti.set_sform(affine, code)
    return header


def guessed_orientation(reason: str, affine: np.ndarray) -> Note:
    """Return the note about an assumed orientation."""
    from nibabel.orientations import aff2axcodes

    axes = "".join(code or "?" for code in aff2axcodes(affine)) if is_invertible(affine) else "?"
    return Note("no affine", f"its orientation is unknown ({reason}); {axes} is assumed, which may mirror the image")


_MAX_OFFSET = 1 << 24  # of the first voxel: nibabel reads everything before it, such as a DICOM header


def _checked(header: Header) -> Header:
    check_size(header.path, header.shape, header.dtype)
    if not is_invertible(header.affine):
        problem = f"its affine {header.affine[:3].tolist()} is not invertible"
        raise DataError(header.path, problem, expected="an affine that places each voxel in space")
    return header


def _parse_analyze(path: Path, head: bytes) -> Stored:
    from nibabel.analyze import AnalyzeHeader

    analyze = AnalyzeHeader(head)
    shape, notes = spatial_shape(path, tuple(map(int, analyze.get_data_shape())))
    affine = analyze.get_base_affine()
    notes += (guessed_orientation("Analyze headers do not state it", affine),)
    header = make_header(path, shape, affine, analyze.get_data_dtype(), notes)
    return Stored(header, int(analyze.get_data_offset()), in_two_files=True)


def _find_affine(nifti: Any) -> tuple[np.ndarray, tuple[Note, ...]]:
    """Return the affine of a NIfTI header: the sform if its code is set, else the qform, else a guess.

    A code is ignored if its matrix cannot be used, and the header is corrected.
    """
    from nibabel.spatialimages import HeaderDataError

    sform, sform_code = nifti.get_sform(coded=True)
    if is_invertible(sform):
        return sform, ()
    try:
        qform, qform_code = nifti.get_qform(coded=True)
    except (ValueError, HeaderDataError):  # not a rotation
        qform, qform_code = None, int(nifti["qform_code"])
    if is_invertible(qform):
        if not sform_code:
            return qform, ()
        nifti.set_sform(qform, qform_code)
        text = f"sform_code is {sform_code}, but its matrix is not invertible; the qform is used"
        return qform, (Note("invalid sform", text),)
    affine = nifti.get_base_affine()
    found = "sform_code and qform_code are both 0"
    if sform_code or qform_code:
        found = "neither sform nor qform is valid"
        nifti["sform_code"] = nifti["qform_code"] = 0
    return affine, (guessed_orientation(found, affine),)
