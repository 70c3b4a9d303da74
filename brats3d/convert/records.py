"""The records shared by all forms of source data: a case before and after its conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AmbiguousSlice:
    """A slice with too few distinct values to determine their common factor, and the factor that was chosen.

    Args:
        volume, slice, modality: where it is.
        pixels: number of foreground pixels.
        distinct: number of distinct foreground values.
        factor: the chosen factor; 1 leaves the integers without a common factor.
    """

    volume: int
    slice: int
    modality: str
    pixels: int
    distinct: int
    factor: int


@dataclass(frozen=True)
class ConvertedCase:
    """One case as BraTS 2020's NIfTI release would store it.

    Args:
        arrays: t1, t1ce, t2 and flair: numbers (X, Y, Z), background 0; seg, if there is one: uint8 {0, 1, 2, 4}.
        affine: (4, 4) voxel -> RAS millimetres.
        ambiguous: slices whose common factor is a guess; only the HDF5 form has any.
    """

    arrays: Mapping[str, np.ndarray]
    affine: np.ndarray
    ambiguous: tuple[AmbiguousSlice, ...] = ()
