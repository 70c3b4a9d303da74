"""Kaggle's HDF5 form of BraTS 2020: one file per slice, every channel of every slice z-scored on its own.

``awsaf49/brats2020-training-data`` holds ``volume_<v>_slice_<s>.h5``: ``image`` (X, Y, 4) float64 and ``mask``
(X, Y, 3) uint8 {0, 1}, with the axes of the NIfTI release. Each channel of each slice has mean 0 and standard deviation
1 over all its pixels. The background therefore differs between slices, and the slices cannot simply be stacked:
:mod:`brats3d.convert.undo_zscore` recovers the original integers first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.cases import name_some
from brats3d.convert.records import AmbiguousSlice, ConvertedCase
from brats3d.convert.undo_zscore import apply_factors, recover_integers, zscore
from brats3d.errors import DataError
from brats3d.files import regular_file_size
from brats3d.labels import MODALITIES

CHANNELS = ("flair", "t1", "t1ce", "t2")
"""Modalities in the order of the channels of ``image``."""

MASKS = (1, 2, 4)
"""BraTS 2020's labels in the order of the channels of ``mask``."""

SLICE_FILE = re.compile(r"volume_(?P<volume>\d+)_slice_(?P<slice>\d+)\.h5", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class SliceFiles:
    """The slice files of one volume.

    Args:
        volume: its number.
        slices: slice number -> its file; more than one file is an error when the volume is read.
        depth: number of slices of the deepest volume of the set, which every volume must have. Volumes of
            240 x 240 pixels, as in BraTS, must have 155; at other sizes, it goes unnoticed if all volumes lack their
            last slices.
    """

    volume: int
    slices: Mapping[int, tuple[Path, ...]]
    depth: int

    @property
    def case_id(self) -> str:
        """The case's name in BraTS 2020."""
        return f"BraTS20_Training_{self.volume:03d}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The files to write."""
        return (*MODALITIES, "seg")

    def read(self) -> ConvertedCase:
        """Read every slice and undo its z-score.

        Returns:
            Intensities as int16, or int32 if they exceed its range.

        Raises:
            DataError: naming the damaged file or the missing slices; also if the backgrounds found in the four
                channels of a slice hardly overlap.
        """
        shape = _read_slice(self.slices[min(self.slices)][0])[1].shape[:2]
        paths = self._paths(_FULL_DEPTH if shape == _FULL_SHAPE else self.depth, shape)
        images = {name: np.zeros((len(paths), *shape), np.int32) for name in CHANNELS}  # (Z, X, Y)
        distinct = {name: np.zeros(len(paths), np.int64) for name in CHANNELS}
        label = np.zeros((len(paths), *shape), np.uint8)
        for s, path in enumerate(paths):
            image, mask = _read_slice(path)
            if image.shape[:2] != shape:
                raise DataError(
                    path,
                    expected="{} x {} pixels, as in the volume's first slice".format(*shape),
                    found=image.shape[:2],
                    advice=_DOWNLOAD,
                )
            label[s] = _labels(mask, path)
            for c, name in enumerate(CHANNELS):
                values = np.ascontiguousarray(image[..., c])
                images[name][s], distinct[name][s] = recover_integers(values, f"{path}: {name}")
            _check_background({name: images[name][s] for name in CHANNELS}, path)
        ambiguous = []
        for name in CHANNELS:
            for s, factor in apply_factors(images[name], distinct[name]).items():
                pixels, n_values = int(np.count_nonzero(images[name][s])), int(distinct[name][s])
                ambiguous.append(AmbiguousSlice(self.volume, s, name, pixels, n_values, factor))
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        affine[1, 3] = shape[1] - 1
        arrays = {name: _narrow(images[name]).transpose(1, 2, 0) for name in MODALITIES}
        return ConvertedCase({**arrays, "seg": label.transpose(1, 2, 0)}, affine, tuple(ambiguous))

    def _paths(self, depth: int, shape: Sequence[int]) -> list[Path]:
        """Return the file of each slice in order; raise unless there is exactly one for each of ``depth`` slices."""
        volume = f"{self.slices[min(self.slices)][0].parent}: volume {self.volume}"
        if depth > _MAX_DEPTH:
            raise DataError(volume, expected=f"at most {_MAX_DEPTH} slices", found=depth, advice=_DOWNLOAD)
        expected = f"slices 0-{depth - 1} of {shape[0]} x {shape[1]} pixels, one file each"
        missing = [str(s) for s in range(depth) if s not in self.slices]
        extra = [str(s) for s in sorted(self.slices) if s >= depth]
        double = [str(path) for paths in self.slices.values() if len(paths) > 1 for path in paths]
        for problem, which in (("missing slices", missing), ("extra slices", extra), ("duplicate slices", double)):
            if which:
                raise DataError(volume, f"{problem} {name_some(which, 10)}", expected=expected, advice=_DOWNLOAD)
        return [self.slices[s][0] for s in range(depth)]


def find_volumes(files: Iterable[Path]) -> list[SliceFiles]:
    """Group slice files by volume, sorted by number; ignore files that are not named like a slice."""
    slices: dict[int, dict[int, tuple[Path, ...]]] = {}
    for path in files:
        if match := SLICE_FILE.fullmatch(path.name):
            of_volume, s = slices.setdefault(int(match["volume"]), {}), int(match["slice"])
            of_volume[s] = (*of_volume.get(s, ()), path)
    depth = 1 + max((s for of_volume in slices.values() for s in of_volume), default=0)
    return [SliceFiles(volume, slices[volume], depth) for volume in sorted(slices)]


def write_slices(folder: Path, volume: int, images: Mapping[str, np.ndarray], label: np.ndarray) -> list[Path]:
    """Write a case in this form, z-scored slice by slice.

    Args:
        folder: an existing folder.
        volume: number of the volume, from 1.
        images: modality -> (X, Y, Z) integers, background 0.
        label: (X, Y, Z) {0, 1, 2, 4}.

    Returns:
        The files, one per slice.
    """
    import h5py

    paths = []
    for s in range(label.shape[2]):
        path = folder / f"volume_{volume}_slice_{s}.h5"
        with h5py.File(path, "w") as file:
            image = np.stack([zscore(images[name][..., s]) for name in CHANNELS], -1)
            file.create_dataset("image", data=image, compression="gzip")
            mask = np.stack([label[..., s] == value for value in MASKS], -1).astype(np.uint8)
            file.create_dataset("mask", data=mask, compression="gzip")
        paths.append(path)
    return paths


_FULL_SHAPE, _FULL_DEPTH = (240, 240), 155

_MAX_PIXELS, _MAX_DEPTH = 2**18, 1024  # of a slice, of a volume; together 30 times BraTS's voxels, 4 GiB in memory

_MIN_OVERLAP = 0.5  # of the smaller of two backgrounds: all channels of a slice show the same brain

_DOWNLOAD = "download it again"


def _read_slice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return ``image`` (X, Y, 4) and ``mask`` (X, Y, 3) of one file."""
    import h5py

    try:
        regular_file_size(path)
        with h5py.File(path, "r") as file:
            arrays = {name: _read_array(file, name) for name in ("image", "mask") if name in file}
    except Exception as error:  # the exception that h5py raises for a damaged file depends on the damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(path, f"cannot be read as HDF5 ({reason})", advice=_DOWNLOAD) from None
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    image, mask = shapes.get("image", ()), shapes.get("mask", ())
    if len(image) != 3 or image[2] != len(CHANNELS) or mask != (*image[:2], len(MASKS)):
        expected = f"image (X, Y, {len(CHANNELS)}) and mask (X, Y, {len(MASKS)})"
        raise DataError(path, expected=expected, found=shapes, advice=_DOWNLOAD)
    return arrays["image"], arrays["mask"]


def _read_array(file: Any, name: str) -> np.ndarray:
    """Read an array of an open file after checking its size; refuse arrays whose values lie in other files."""
    import h5py

    array = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is not an array of numbers in this file")
    for what, shape in (("shape", array.shape or ()), ("chunks", array.chunks or ())):
        if math.prod(shape) > _MAX_PIXELS * len(CHANNELS):
            raise ValueError(f"{name} has {what} {shape}; expected at most {_MAX_PIXELS:,} pixels")
    return array[()]


def _labels(mask: np.ndarray, path: Path) -> np.ndarray:
    """Convert exclusive masks (X, Y, 3) {0, 1} to labels (X, Y) {0, 1, 2, 4}."""
    if bad := set(np.unique(mask).tolist()) - {0, 1}:
        raise DataError(path, "wrong values in mask", expected="0 and 1", found=sorted(bad), advice=_DOWNLOAD)
    mask = mask.astype(np.uint8)
    if overlap := np.count_nonzero(mask.sum(-1) > 1):
        raise DataError(path, f"{overlap} pixels are set in more than one channel of mask", advice=_DOWNLOAD)
    return mask @ np.array(MASKS, np.uint8)


def _check_background(integers: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise if the backgrounds found in the channels of a slice hardly overlap.

    A constant foreground larger than the background would be mistaken for it, but it lies where the other channels show
    brain. Channels may differ in their field of view, so the overlap is relative to the smaller of two backgrounds.
    """
    backgrounds = {name: image == 0 for name, image in integers.items() if image.any()}
    for (a, first), (b, second) in combinations(backgrounds.items(), 2):
        overlap = np.count_nonzero(first & second) / min(np.count_nonzero(first), np.count_nonzero(second))
        if overlap < _MIN_OVERLAP:
            raise DataError(
                path,
                f"the backgrounds of {a} and {b} overlap by {overlap:.0%}",
                expected=f"at least {_MIN_OVERLAP:.0%}",
                advice=_DOWNLOAD,
            )


def _narrow(image: np.ndarray) -> np.ndarray:
    """Convert to int16 if it holds every value."""
    limits = np.iinfo(np.int16)
    return image.astype(np.int16) if image.min() >= limits.min and image.max() <= limits.max else image
