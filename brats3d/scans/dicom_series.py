"""Group DICOM images into series, find the grid of a series, and read its voxels.

The grid follows DICOM PS3.3, C.7.6.2.1.1: the centre of a pixel in column i and row j of a slice is its position plus
i times the distance of the columns along a row, plus j times the distance of the rows along a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats3d.errors import DataError
from brats3d.files import Volume, make_header
from brats3d.scans.dicom_headers import DicomImage, SeriesTags

MAX_SHIFT_MM = 0.5
"""Largest distance of a slice from its place on an even grid: half of BraTS's voxel."""

MAX_TURN = 1e-3
"""Largest difference of the directions of two slices, as a component of a unit vector. Headers round to 1e-6."""


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The images of one DICOM series, in no order."""

    images: tuple[DicomImage, ...]

    @property
    def tags(self) -> SeriesTags:
        """The description of the sequence in the first header."""
        return self.images[0].tags

    @property
    def name(self) -> str:
        """Number and description for messages, such as ``series 5 'AX T1'``."""
        number = "" if self.tags.number is None else f" {self.tags.number}"
        return (
            f"series{number} {self.tags.description!r}" if self.tags.description else f"series{number or ' (unnamed)'}"
        )

    @property
    def folder(self) -> Path:
        """The folder of the first file."""
        return self.images[0].path.parent

    def error(self, problem: str, **fields: str) -> DataError:
        """Return an error about this series."""
        return DataError(self.folder, f"{self.name} {problem}", **fields)


@dataclass(frozen=True, eq=False)
class Stack:
    """The grid of a series.

    Args:
        files: one per slice, in the order of the last axis.
        shape: three voxel counts.
        affine: (4, 4), voxel index -> mm towards R, A and S.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along the three axes."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def extent_mm(self) -> float:
        """Distance between the outer faces of the first and the last slice."""
        return float(self.shape[2] * self.spacing_mm[2])


def group_series(images: Iterable[DicomImage]) -> list[DicomSeries]:
    """Group images by their series, in the order of the series' numbers."""
    groups: dict[str, list[DicomImage]] = {}
    for image in images:
        groups.setdefault(image.series, []).append(image)
    series = [DicomSeries(tuple(group)) for group in groups.values()]
    return sorted(series, key=lambda each: (each.tags.number is None, each.tags.number or 0))


def is_one_plane(series: DicomSeries) -> bool:
    """Return False if the slices of a series lie in planes of several directions, as those of a localiser do."""
    axes = [image.axes for image in series.images if image.axes is not None]
    return all(np.abs(each - axes[0]).max() <= MAX_TURN for each in axes)


def stack_slices(series: DicomSeries) -> Stack:
    """Sort the slices of a series along their normal, and return their grid.

    Raises:
        DataError: if the images are multi-frame or coloured, have no position, or differ in size or direction; if
            slices are missing, double, unevenly spaced or shifted (gantry tilt).
    """
    axes, spacing_mm, positions = _planes(series)
    normal = np.cross(*axes)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    _check_positions(series, positions, normal)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    columns_lps = np.column_stack([axes[0] * spacing_mm[0], axes[1] * spacing_mm[1], step, positions[0]])
    affine = np.vstack([np.diag([-1, -1, 1]) @ columns_lps, [0, 0, 0, 1]])
    return Stack(tuple(series.images[i].path for i in order), (*series.images[0].shape, len(positions)), affine)


def read_series(series: DicomSeries) -> tuple[Volume, Stack]:
    """Read the voxels of a series. The values are float32, with the rescale slope and intercept applied.

    SimpleITK's reader (GDCM) decodes the pixels, compressed ones as well.

    Raises:
        DataError: as :func:`stack_slices`, and if a file ends early or has a compression that is not read.
    """
    import SimpleITK as sitk  # slow to import

    stack = stack_slices(series)
    header = make_header(stack.files[0], stack.shape, stack.affine, np.dtype(np.float32))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in stack.files])
    reader.SetOutputPixelType(sitk.sitkFloat32)  # slices may differ in their slopes
    try:
        values = sitk.GetArrayFromImage(reader.Execute())  # (z, y, x)
    except RuntimeError:
        raise _unreadable(series, stack.files) from None
    values.setflags(write=False)
    return Volume(header, values.T), stack


def _planes(series: DicomSeries) -> tuple[np.ndarray, tuple[float, float], np.ndarray]:
    """Return the axes (2, 3) and the pixel spacing of all slices, and the position of each, (n, 3) in mm.

    Raises:
        DataError: unless the series consists of single slices in grey, all of one size and direction.
    """
    images = series.images
    if any(image.frames > 1 or image.tags.object_kind.startswith(("Enhanced", "Legacy")) for image in images):
        raise series.error("has several frames in one file (enhanced DICOM)", expected=_SINGLE, advice=_CONVERT)
    if any(image.colours != 1 for image in images):
        raise series.error("has coloured pixels (RGB): a screenshot or a map?", expected="the images of the scanner")
    positions = [image.position for image in images if image.position is not None]
    axes = [image.axes for image in images if image.axes is not None]
    spacings_mm = [image.spacing_mm for image in images if image.spacing_mm is not None]
    if min(len(positions), len(axes), len(spacings_mm)) < len(images):
        expected = "ImagePositionPatient, ImageOrientationPatient and PixelSpacing in each file"
        raise series.error("has images without a place in space", expected=expected, advice=_EXPORT)
    if len(images) == 1:
        raise series.error("has only one slice", expected="the slices of a volume", advice=_EXPORT)
    if not is_one_plane(series):
        raise series.error("has slices in planes of several directions: a localiser?", expected="parallel slices")
    if len({(image.shape, image.spacing_mm) for image in images}) > 1:
        raise series.error("has slices of several sizes or pixel spacings", expected="one size", advice=_CONVERT)
    return axes[0], spacings_mm[0], np.array(positions)


def _check_positions(series: DicomSeries, positions: np.ndarray, normal: np.ndarray) -> None:
    """Raise unless slices stand at even distances along their normal.

    Args:
        series: the series, for the error.
        positions: (n, 3), in mm, sorted along the normal.
        normal: (3,), of length 1.
    """
    along = positions @ normal
    steps = np.diff(along)
    if double := int(np.count_nonzero(steps < _SAME_MM)):
        problem = f"has several images at {double:,} of its {len(along) - double:,} positions"
        advice = f"two acquisitions, echoes or time points in one series: {_CONVERT}"
        raise series.error(problem, expected="one image at each position", advice=advice)
    typical = float(np.quantile(steps, 0.5, method="lower"))
    if missing := int((np.rint(steps / typical) - 1).clip(min=0).sum()):
        problem = f"lacks {missing:,} of {len(along) + missing:,} slices, which are {typical:.4g} mm apart"
        raise series.error(problem, advice=_EXPORT)
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() > MAX_SHIFT_MM:
        problem = f"has slices at uneven distances, from {steps.min():.4g} to {steps.max():.4g} mm"
        raise series.error(problem, expected="even distances", advice=_CONVERT)
    aside = positions - positions[0] - np.outer(along - along[0], normal)
    if (shift_mm := np.linalg.norm(aside, axis=1).max()) > MAX_SHIFT_MM:
        degrees = np.degrees(np.arctan2(shift_mm, along[-1] - along[0]))
        problem = f"has slices that are shifted against each other: gantry tilt of {degrees:.1f} degrees"
        raise series.error(problem, expected="slices above each other", advice=_CONVERT)


_SAME_MM = 0.01
"""Slices that are closer have the same position."""

_SINGLE = "one slice in each file"

_CONVERT = "convert it to NIfTI with dcm2niix (https://github.com/rordenlab/dcm2niix), and pass the NIfTI files"

_EXPORT = "export the whole series again"


def _unreadable(series: DicomSeries, files: Sequence[Path]) -> DataError:
    """Return the error about the first file that cannot be decoded."""
    import SimpleITK as sitk

    compression = {image.path: image.compression for image in series.images}
    for file in files:
        try:
            sitk.ReadImage(str(file))
        except RuntimeError:
            if compression[file]:
                problem = f"has pixels that cannot be decoded in {file.name} ({compression[file]})"
                return series.error(problem, advice=f"{_EXPORT} without compression (Explicit VR Little Endian)")
            return series.error(f"has a file that ends early or is damaged: {file.name}", advice=_EXPORT)
    return series.error("cannot be read as one volume", advice=_CONVERT)
