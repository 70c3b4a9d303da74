"""Count the voxels of each label in a segmentation, and the voxel faces between labels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from brats3d.cases.valid_labels import whole_labels


@dataclass(frozen=True, eq=False)
class LabelledVoxels:
    """The nonzero voxels of a segmentation.

    Args:
        where: (n,) flat positions in the volume, x varying fastest.
        values: (n,) their labels, as returned by :func:`brats3d.cases.whole_labels`.
        shape: (x, y, z) of the volume.
    """

    where: np.ndarray
    values: np.ndarray
    shape: tuple[int, ...]

    def fingerprint(self) -> tuple[object, ...]:
        """Return a fingerprint that is equal for equal labels, regardless of the type in which they are stored."""
        labels = self.values.astype(np.float32)
        return self.shape, zlib.crc32(labels.view(np.uint8).data, zlib.crc32(self.where.view(np.uint8).data))

    def rounded(self) -> LabelledVoxels:
        """Return the same voxels with labels rounded to whole numbers; those that become 0 are dropped."""
        values = np.round(self.values)
        return LabelledVoxels(self.where[values != 0], values[values != 0], self.shape)


@dataclass(frozen=True)
class LabelSummary:
    """The counts of labels in a segmentation, independent of their meaning.

    Args:
        voxels: label -> number of its voxels, without background.
        faces: (label, other label or 0) -> number of voxel faces between the two.
    """

    voxels: Mapping[int, int] = field(hash=False)
    faces: Mapping[tuple[int, int], int] = field(hash=False)


MAX_DIFFERENT_LABELS = 20
"""Largest number of different values in the segmentation of a tumour."""


def labelled_voxels(values: np.ndarray) -> LabelledVoxels:
    """Extract the nonzero voxels of a segmentation (x, y, z). Fast if x varies fastest in memory."""
    flat = values.reshape(-1, order="F")
    where = np.flatnonzero(flat != 0)  # eight times as fast on booleans as on integers
    labels = whole_labels(flat[where])
    return LabelledVoxels(where[labels != 0], labels[labels != 0], values.shape)


def summarise_labels(labelled: LabelledVoxels) -> LabelSummary | None:
    """Summarise a segmentation; None if its values are not whole numbers or more than :data:`MAX_DIFFERENT_LABELS`."""
    values, codes, counts = _encode(labelled.values)
    if values is None:
        return None
    voxels = dict(zip(values, counts, strict=True))
    return LabelSummary(voxels, _count_faces(labelled, codes, (0, *values)))


def _encode(labels: np.ndarray) -> tuple[list[int] | None, np.ndarray, list[int]]:
    """Return the different labels, the position of each voxel's label among them counted from 1, and their counts."""
    values: list[int] = []
    codes = np.zeros(labels.shape, np.uint8)
    rest = labels
    while rest.size:  # faster than np.unique, because there are few labels
        value = rest[0]
        if len(values) == MAX_DIFFERENT_LABELS or not np.isfinite(value) or value != round(float(value)):
            return None, codes, []
        values.append(int(value))
        codes[labels == value] = len(values)
        rest = rest[rest != value]
    return values, codes, np.bincount(codes, minlength=len(values) + 1)[1:].tolist()


def _count_faces(labelled: LabelledVoxels, codes: np.ndarray, values: tuple[int, ...]) -> dict[tuple[int, int], int]:
    """Count the faces between voxels of different labels, in the tumour's bounding box with a margin of one voxel."""
    if not codes.size:
        return {}
    places = np.array(np.unravel_index(labelled.where, labelled.shape, order="F"))
    low = places.min(axis=1, keepdims=True) - 1
    box = np.zeros(places.max(axis=1) - low[:, 0] + 2, np.uint8)
    box[tuple(places - low)] = codes
    n = len(values)
    pairs = np.zeros(n * n, int)
    for axis in range(box.ndim):
        first, second = (np.delete(box, end, axis) for end in (-1, 0))
        differ = first != second
        pairs += np.bincount(first[differ].astype(np.int16) * n + second[differ], minlength=n * n)
    both = pairs.reshape(n, n) + pairs.reshape(n, n).T
    return {(values[i], values[j]): int(both[i, j]) for i, j in np.argwhere(both).tolist() if i}
