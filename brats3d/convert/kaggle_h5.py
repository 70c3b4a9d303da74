"""Kaggle's HDF5 form of BraTS 2020: one file a slice, every channel z-scored on its own. The originals are recovered.

``awsaf49/brats2020-training-data`` holds ``volume_<v>_slice_<s>.h5``: ``image`` (X, Y, 4) float64 and ``mask``
(X, Y, 3) uint8 {0, 1}, with the axes of the NIfTI release. Each channel of each slice has mean 0 and standard deviation
1 over all its pixels, so background is another value in each, and slices cannot simply be stacked. The originals are
integers with background 0, which makes the z-score reversible: see :func:`recover_slice`.
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

from brats3d.files import ordinary_size
from brats3d.labels import MODALITIES

CHANNELS = ("flair", "t1", "t1ce", "t2")
"""Modalities in the order of the channels of ``image``."""

MASKS = (1, 2, 4)
"""BraTS 2020's labels in the order of the channels of ``mask``."""

SLICE_FILE = re.compile(r"volume_(?P<volume>\d+)_slice_(?P<slice>\d+)\.h5", re.IGNORECASE | re.ASCII)

DECIDED = 32
"""From so many distinct foreground values on, a slice's integers are taken to have no common factor. N random integers
have one with probability 1 - 1/zeta(N), about 2^-N: for the 369 x 155 x 4 slices of the whole data set together, if all
had just 32 values, 5e-5."""

SCALE_SPREAD = 0.7
"""Standard deviation of the logarithm of (median intensity of a slice with fewer values) / (that of the nearest slice
with enough): 0.34 over the 73 such slices of twelve phantoms (seed 50), and twice that, since real brains end less
evenly."""


@dataclass(frozen=True)
class AmbiguousSlice:
    """A slice with too few distinct values to know their common factor, and the factor that was chosen.

    Args:
        volume, slice, modality: which.
        pixels: how many are not background.
        distinct: how many values they have.
        factor: the chosen one; 1 leaves the integers without a common factor.
    """

    volume: int
    slice: int
    modality: str
    pixels: int
    distinct: int
    factor: int


@dataclass(frozen=True)
class Recovered:
    """One volume as the NIfTI release holds it.

    Args:
        arrays: t1, t1ce, t2, flair: int16 (int32 if need be) (X, Y, Z), background 0; seg: uint8 {0, 1, 2, 4}.
        affine: (4, 4) voxel -> RAS millimetres.
        ambiguous: slices whose common factor was chosen by their neighbours' intensities.
    """

    arrays: Mapping[str, np.ndarray]
    affine: np.ndarray
    ambiguous: tuple[AmbiguousSlice, ...]


@dataclass(frozen=True)
class SliceFiles:
    """The files of one volume.

    Args:
        volume: its number.
        slices: number of the slice -> its file; several files are an error when the volume is read.
        depth: how many slices the deepest volume of the set has. That the last slices of all volumes are missing can
            only be seen where the slices have BraTS's 240 x 240 pixels, of which there are 155.
        source_bytes: size of the files.
    """

    volume: int
    slices: Mapping[int, tuple[Path, ...]]
    depth: int
    source_bytes: int

    @property
    def case_id(self) -> str:
        """BraTS 2020's."""
        return f"BraTS20_Training_{self.volume:03d}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the files to write."""
        return (*MODALITIES, "seg")

    def read(self) -> Recovered:
        """Read and undo the z-score of every slice.

        Raises:
            ValueError: naming the file, or the slices that are missing; if the backgrounds that were found in the four
                channels of a slice are not much the same.
        """
        shape = _read_slice(self.slices[min(self.slices)][0])[1].shape[:2]
        depth = _FULL_DEPTH if shape == _FULL_SHAPE else self.depth
        if depth > _MAX_DEPTH:
            raise ValueError(
                f"{self.slices[min(self.slices)][0].parent}: a volume of the set has a slice {depth - 1}; expected at "
                f"most {_MAX_DEPTH} slices; remove the file, or {_DOWNLOAD}"
            )
        self._check_complete(depth, shape)
        images = {name: np.zeros((depth, *shape), np.int32) for name in CHANNELS}  # slice by slice: (Z, X, Y)
        distinct = {name: np.zeros(depth, np.int64) for name in CHANNELS}
        label = np.zeros((depth, *shape), np.uint8)
        for s in range(depth):
            path = self.slices[s][0]
            image, mask = _read_slice(path)
            if image.shape[:2] != shape:
                raise ValueError(
                    f"{path}: has {image.shape[0]} x {image.shape[1]} pixels; expected {shape[0]} x {shape[1]} as in "
                    f"the volume's first slice; {_DOWNLOAD}"
                )
            label[s] = _labels(mask, path)
            for c, name in enumerate(CHANNELS):
                try:
                    images[name][s], distinct[name][s] = recover_slice(np.ascontiguousarray(image[..., c]))
                except ValueError as error:
                    raise ValueError(f"{path}: {name} (channel {c} of image): {error}") from None
            _check_background({name: images[name][s] for name in CHANNELS}, path)
        ambiguous = []
        for name in CHANNELS:
            for s, factor in _scale_ambiguous(images[name], distinct[name]).items():
                pixels, values = int(np.count_nonzero(images[name][s])), int(distinct[name][s])
                ambiguous.append(AmbiguousSlice(self.volume, s, name, pixels, values, factor))
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        affine[1, 3] = shape[1] - 1
        arrays = {name: _narrow(images[name]).transpose(1, 2, 0) for name in MODALITIES}
        return Recovered({**arrays, "seg": label.transpose(1, 2, 0)}, affine, tuple(ambiguous))

    def _check_complete(self, depth: int, shape: Sequence[int]) -> None:
        here = f"{self.slices[min(self.slices)][0].parent}: volume {self.volume}"
        if missing := [s for s in range(depth) if s not in self.slices]:
            raise ValueError(
                f"{here}: {_slices(missing)} missing; expected 0-{depth - 1} of "
                f"{shape[0]} x {shape[1]} pixels; {_DOWNLOAD}"
            )
        if extra := [s for s in self.slices if s >= depth]:
            raise ValueError(f"{here}: has {_slices(sorted(extra), verb=False)}; expected 0-{depth - 1}; {_DOWNLOAD}")
        if double := [s for s, paths in self.slices.items() if len(paths) > 1]:
            paths = " and ".join(str(path) for path in self.slices[double[0]])
            raise ValueError(
                f"{here}: {_slices(sorted(double))} there more than once: {paths}; expected one file a "
                "slice; remove the others, or give one of the folders"
            )


def find_volumes(files: Iterable[tuple[Path, int]]) -> list[SliceFiles]:
    """Sort slice files by volume.

    Args:
        files: paths and sizes in bytes; those that are not named like a slice are left out.

    Returns:
        The volumes in the order of their numbers; empty if there is none.
    """
    slices: dict[int, dict[int, tuple[Path, ...]]] = {}
    sizes: dict[int, int] = {}
    for path, size in files:
        if match := SLICE_FILE.fullmatch(path.name):
            volume, s = int(match["volume"]), int(match["slice"])
            of_volume = slices.setdefault(volume, {})
            of_volume[s] = (*of_volume.get(s, ()), path)
            sizes[volume] = sizes.get(volume, 0) + size
    depth = 1 + max((s for of_volume in slices.values() for s in of_volume), default=0)
    return [SliceFiles(volume, slices[volume], depth, sizes[volume]) for volume in sorted(slices)]


def recover_slice(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Undo the z-score of one channel of one slice.

    Background, which was 0, is the most common value. The others are ``background + step * integer``; the step is the
    largest that makes them all whole (Euclid's algorithm, which starts with the smallest gap between two values).

    Args:
        values: float64 (X, Y), contiguous.

    Returns:
        The integers, int32 (X, Y), without a common factor, and how many distinct ones but 0 there are.

    Raises:
        ValueError: if the values are no z-scored integers with a constant background: the integers found must give the
            values again within 1e-12.
    """
    if values.dtype != np.float64:
        raise ValueError(f"has dtype {values.dtype}; expected float64, from which the integers can be recovered")
    if not values.any():  # empty slices were left at 0
        return np.zeros(values.shape, np.int32), 0
    if not np.isfinite(values).all():
        raise ValueError(f"holds NaN or Inf; expected numbers; {_DOWNLOAD}")
    background = _background(values)
    foreground = values[values != background]
    foreground.sort()
    new = np.empty(foreground.shape, bool)
    new[:1] = True
    np.not_equal(foreground[1:], foreground[:-1], out=new[1:])
    offsets = foreground[new] - background
    if not offsets.size:
        raise ValueError(f"is {background:.6g} everywhere; expected 0 in an empty slice; {_DOWNLOAD}")
    step = _common_step(offsets)
    integers = np.subtract(values, background)
    integers /= step
    np.rint(integers, out=integers)
    largest = np.abs(offsets).max() / step
    error = np.abs(zscore(integers) - values).max() if largest <= _MAX_INTENSITY else np.inf
    if not error <= _TOLERANCE:  # nor NaN
        raise ValueError(
            f"cannot be undone to integers (off by {error:.2g}); expected z-scored integers with background 0, within "
            f"{_TOLERANCE:g}; {_DOWNLOAD}"
        )
    return integers.astype(np.int32), len(offsets)


def choose_factor(scale: float, pixels: int, reference: float | None) -> int:
    """The most probable common factor of a slice with few distinct values.

    That n random integers are all multiples of k has a probability of k^-n; how much brighter or darker than its
    neighbour a slice is, times k, follows a log-normal distribution of width :data:`SCALE_SPREAD`. Every pixel counts,
    not every value: 17 pixels with the values 1 and 2 are hardly 7 and 14.

    Args:
        scale: median of the slice's foreground, without a common factor.
        pixels: n, how many foreground pixels it has.
        reference: median of the foreground of the nearest slice with enough values; None, if there is none, gives 1.
    """
    if reference is None:
        return 1
    factors = np.arange(1, max(2, int(np.ceil(4 * reference / scale))))
    log_posterior = -pixels * np.log(factors) - np.log(factors * scale / reference) ** 2 / (2 * SCALE_SPREAD**2)
    return int(factors[np.argmax(log_posterior)])


def zscore(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over all pixels, in float64; all 0 if they are all the same."""
    values = np.asarray(values, np.float64)
    centred = values - values.mean()
    std = np.sqrt(np.square(centred).mean())
    return centred / std if std > 0 else np.zeros_like(centred)


def write_slices(folder: Path, volume: int, images: Mapping[str, np.ndarray], label: np.ndarray) -> list[Path]:
    """Write a case in this form, z-scored slice by slice.

    Args:
        folder: an existing folder.
        volume: number of the volume, from 1.
        images: modality -> (X, Y, Z) integers, background 0.
        label: (X, Y, Z) {0, 1, 2, 4}.

    Returns:
        The files, one a slice.
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

_MAX_INTENSITY = 2**17  # int16 and uint16, and some more; BraTS 2020 is int16

_MIN_BACKGROUND = 0.25  # of the pixels; in BraTS more than half

_MIN_SHARED = 0.5  # of the smaller of two backgrounds: one brain leaves nearly the same pixels free in all channels

_TOLERANCE = 1e-12

_DOWNLOAD = "download it again"


def _read_slice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``image`` (X, Y, 4) and ``mask`` (X, Y, 3) of one file."""
    import h5py

    try:
        ordinary_size(path)
        with h5py.File(path, "r") as file:
            found = {name: _read_array(file, name) for name in ("image", "mask") if name in file}
    except Exception as error:  # what h5py makes of a damaged file depends on the damage
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be read ({what}); expected an HDF5 file; {_DOWNLOAD}") from None
    shapes = {name: np.shape(array) for name, array in found.items()}
    image, mask = shapes.get("image", ()), shapes.get("mask", ())
    if len(image) != 3 or image[2] != len(CHANNELS) or mask != (*image[:2], len(MASKS)):
        text = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "neither"
        raise ValueError(
            f"{path}: found {text}; expected image (X, Y, {len(CHANNELS)}) and mask (X, Y, {len(MASKS)}); {_DOWNLOAD}"
        )
    return found["image"], found["mask"]


def _read_array(file: Any, name: str) -> np.ndarray:
    """An array of an open file, once its size is known; none whose values lie in other files."""
    import h5py

    array = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(array, h5py.Dataset) or array.is_virtual or array.external or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} is no array of numbers in this file")
    for what, shape in (("shape", array.shape or ()), ("chunks", array.chunks or ())):
        if math.prod(shape) > _MAX_PIXELS * len(CHANNELS):
            raise ValueError(f"{name} has {what} {shape}; expected at most {_MAX_PIXELS:,} pixels")
    return array[()]


def _labels(mask: np.ndarray, path: Path) -> np.ndarray:
    """(X, Y, 3) {0, 1}, exclusive -> (X, Y) {0, 1, 2, 4}."""
    if bad := set(np.unique(mask)) - {0, 1}:
        found = ", ".join(f"{value:g}" for value in sorted(bad))
        raise ValueError(f"{path}: mask holds {found}; expected 0 and 1; {_DOWNLOAD}")
    mask = mask.astype(np.uint8)
    if (overlap := np.count_nonzero(mask.sum(-1) > 1)) > 0:
        raise ValueError(
            f"{path}: {overlap} pixel(s) are set in more than one channel of mask; expected labels that exclude each "
            f"other; {_DOWNLOAD}"
        )
    return mask @ np.array(MASKS, np.uint8)


def _background(values: np.ndarray) -> float:
    """The most common value."""
    lowest = values.min()
    count = np.count_nonzero(values == lowest)
    if 2 * count < values.size:
        distinct, counts = np.unique(values, return_counts=True)
        lowest, count = distinct[counts.argmax()], counts.max()
    if count < _MIN_BACKGROUND * values.size:
        raise ValueError(
            f"its most common value covers {count / values.size:.1%} of the pixels; expected a constant background "
            f"on at least {_MIN_BACKGROUND:.0%}; {_DOWNLOAD}"
        )
    return float(lowest)


def _check_background(integers: Mapping[str, np.ndarray], path: Path) -> None:
    """A constant foreground that covers more pixels than 0 would pass for background: z-scores do not know where 0 was.

    It would lie where the other channels have their brain. A channel may have a smaller field of view than the others,
    so that the smaller background of each two is what counts.

    Args:
        integers: modality -> what was recovered of one slice, (X, Y).
        path: of the slice.
    """
    free = {name: image == 0 for name, image in integers.items() if image.any()}
    shared = {
        (a, b): np.count_nonzero(free[a] & free[b]) / min(np.count_nonzero(free[a]), np.count_nonzero(free[b]))
        for a, b in combinations(free, 2)
    }
    if shared and min(shared.values()) < _MIN_SHARED:
        worst = min(shared, key=lambda pair: shared[pair])
        raise ValueError(
            f"{path}: the most common values of {worst[0]} and {worst[1]} share {shared[worst]:.0%} of their pixels; "
            f"expected at least {_MIN_SHARED:.0%}, as of the background around one brain; {_DOWNLOAD}"
        )


def _common_step(offsets: np.ndarray) -> float:
    """The largest step of which sorted offsets from the background are whole multiples."""
    largest = offsets[np.abs(offsets).argmax()]
    negligible = abs(largest) / (4 * _MAX_INTENSITY)
    step = min(np.diff(offsets).min(initial=np.inf), np.abs(offsets).min())
    rest = offsets
    while step > negligible:
        rest = np.abs(rest - np.rint(rest / step) * step)
        rest = rest[rest > negligible]
        if not rest.size:
            break
        # Euclid goes on with what is left: the offsets themselves would multiply the error of ever smaller steps.
        rest, step = np.append(rest, step), rest.min()
    return float(largest / np.rint(largest / step))


def _scale_ambiguous(image: np.ndarray, distinct: np.ndarray) -> dict[int, int]:
    """Multiply the slices of one channel (Z, X, Y), in place, that have few distinct values: slice -> factor."""
    decided = np.flatnonzero(distinct >= DECIDED)
    chosen = {}
    for s in np.flatnonzero((distinct > 0) & (distinct < DECIDED)):
        nearest = decided[np.abs(decided - s).argmin()] if decided.size else None
        reference = None if nearest is None else _scale(image[nearest])
        chosen[int(s)] = choose_factor(_scale(image[s]), int(np.count_nonzero(image[s])), reference)
        image[s] *= chosen[int(s)]
    return chosen


def _scale(image: np.ndarray) -> float:
    """Median of the foreground's magnitude."""
    return float(np.median(np.abs(image[image != 0])))


def _narrow(image: np.ndarray) -> np.ndarray:
    """int16, if that holds every value."""
    limits = np.iinfo(np.int16)
    return image.astype(np.int16) if image.min() >= limits.min and image.max() <= limits.max else image


def _slices(numbers: Sequence[int], verb: bool = True) -> str:
    """``[3]`` -> ``slice 3 is``, ``[3, 5, 6]`` -> ``slices 3, 5-6 are``."""
    noun, is_ = ("slice", " is") if len(numbers) == 1 else ("slices", " are")
    return f"{noun} {_ranges(numbers)}{is_ if verb else ''}"


def _ranges(numbers: Sequence[int]) -> str:
    """``[3, 5, 6, 7]`` -> ``3, 5-7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
