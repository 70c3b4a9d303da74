"""Read an image file of any supported format, for every command.

An unusable header raises as soon as it is read. Training, its checks and the audit therefore refuse the same files with
the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from brats3d.errors import DataError
from brats3d.files.itk import ITK_ENDINGS, read_itk, read_itk_header
from brats3d.files.nifti import UNREADABLE, file_size, one_line, read_nifti, read_nifti_header
from brats3d.files.volume import DOWNLOAD, EXPECTED, Header, Note, Volume


def read_header(path: Path) -> Header:
    """Read the header of a 3-D image, without its voxels.

    Raises:
        DataError: if the file does not exist, or is not a 3-D image with integer or float voxels and an invertible
            affine.
    """
    with _explained(path):
        return read_itk_header(path) if _is_itk(path) else read_nifti_header(path)


def read_volume(path: Path) -> Volume:
    """Read a 3-D image. A background of NaN is read as 0, with a note in the header.

    Raises:
        DataError: as :func:`read_header`, and if the file ends early or is damaged.
    """
    with _explained(path):
        return _fill_nan_background(read_itk(path) if _is_itk(path) else read_nifti(path))


def _is_itk(path: Path) -> bool:
    if not path.name.lower().endswith(ITK_ENDINGS):
        return False
    file_size(path)  # SimpleITK's errors for empty files and folders are vague
    return True


def _fill_nan_background(volume: Volume) -> Volume:
    """Set NaN to 0 if most of the eight corners are NaN, as in maps that SPM has masked."""
    values = volume.values
    if values.dtype.kind != "f":
        return volume
    corners = values[np.ix_((0, -1), (0, -1), (0, -1))]
    if np.count_nonzero(np.isnan(corners)) <= corners.size // 2:
        return volume
    is_nan = np.isnan(values)
    if is_nan.all():
        return volume
    filled = values.copy(order="F")
    filled[is_nan] = 0
    text = f"{np.count_nonzero(is_nan):,} of {values.size:,} voxels, the background, are NaN; read as 0"
    header = replace(volume.header, notes=(*volume.header.notes, Note("NaN background", text)))
    return Volume(header, filled)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of nibabel, SimpleITK, gzip and the system into a DataError."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except FileNotFoundError:
        problem = "a link to a file that does not exist" if path.is_symlink() else "no such file"
        raise DataError(path, problem, expected=EXPECTED) from None
    except PermissionError:
        raise DataError(path, "no permission to read this file", advice="change its permissions") from None
    except DataError:
        raise
    except (*UNREADABLE, ImageFileError, HeaderDataError) as error:
        raise DataError(path, f"cannot be read: {one_line(error)}", expected=EXPECTED, advice=DOWNLOAD) from error
