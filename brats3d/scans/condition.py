"""Judge from the images of a case what it lacks of BraTS's form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brats3d.cases import MIN_HEAD_MM, ImageFacts, background_of, image_doubts, measure_image, spacing_warning
from brats3d.errors import DataError
from brats3d.files import Volume, same_grid
from brats3d.scans.atlas_space import BRATS_GRID
from brats3d.scans.scan import Scan


@dataclass(frozen=True)
class Condition:
    """The properties of BraTS's form that a case has.

    Args:
        with_skull: the sequences that are not skull-stripped, or whose background is not 0.
        on_one_grid: True if all sequences have the same grid.
        at_1_mm: True if the voxels of all sequences are 1 mm in size.
        on_brats_grid: True if all sequences have the shape of BraTS's grid, at 1 mm.
    """

    with_skull: tuple[str, ...]
    on_one_grid: bool
    at_1_mm: bool
    on_brats_grid: bool

    @property
    def is_prepared(self) -> bool:
        """True if nothing is lacking that the networks need; another shape than BraTS's, such as a crop, is fine."""
        return not self.with_skull and self.on_one_grid and self.at_1_mm

    @property
    def needs_only_mask(self) -> bool:
        """True if the sequences are on BraTS's grid, but not skull-stripped."""
        return bool(self.with_skull) and self.on_one_grid and self.on_brats_grid

    def describe(self) -> str:
        """Describe what the case lacks, on one line."""
        lacks = [f"skull or background in {', '.join(self.with_skull)}"] if self.with_skull else []
        lacks += [] if self.on_one_grid else ["not on one grid"]
        lacks += [] if self.at_1_mm else ["not at 1 mm"]
        lacks += [] if self.on_brats_grid else ["not on BraTS's grid"]
        return "; ".join(lacks) or "as in BraTS"


def judge_condition(scans: Mapping[str, Scan]) -> Condition:
    """Judge a case by its headers and voxels; see :mod:`brats3d.cases.image_evidence`.

    Raises:
        DataError: if a scan is empty or constant, or has voxels that are NaN or infinite.
    """
    for scan in scans.values():
        if n_bad := np.count_nonzero(~np.isfinite(scan.volume.values)):
            raise DataError(scan.description, f"{n_bad:,} voxels are NaN or infinite", expected="numbers")
    volumes = {modality: scan.volume for modality, scan in scans.items()}
    facts = {modality: _measure(volume) for modality, volume in volumes.items()}
    doubts = image_doubts(facts)
    if empty := next((doubt for doubt in doubts if doubt.kind == "empty sequence"), None):
        raise DataError(scans[empty.names[0]].description, empty.problem, expected="a scan of a head")
    with_skull = {name for doubt in doubts if doubt.kind in ("whole head", "background") for name in doubt.names}
    # Only a part of a brain fills the corners, unless they hold the shoulders.
    with_skull |= {m for m in scans if facts[m].is_cropped and min(_sides_mm(volumes[m])) >= MIN_HEAD_MM}
    headers = [volume.header for volume in volumes.values()]
    at_1_mm = all(spacing_warning(header) is None for header in headers)
    return Condition(
        tuple(modality for modality in scans if modality in with_skull),
        all(same_grid(headers[0], header) for header in headers),
        at_1_mm,
        at_1_mm and all(sorted(header.shape) == sorted(BRATS_GRID.shape) for header in headers),
    )


def is_head(volume: Volume) -> bool:
    """Return True if an image seems to show a whole head: by its volume, or by noise in the background."""
    facts = _measure(volume)
    has_noise = facts.background is None and not facts.is_cropped
    return has_noise or any(doubt.kind == "whole head" for doubt in image_doubts({volume.header.path.name: facts}))


def _sides_mm(volume: Volume) -> np.ndarray:
    return np.array(volume.values.shape) * volume.header.spacing_mm


def _measure(volume: Volume) -> ImageFacts:
    """Measure an image. A field of view that is too flat to hold a head is padded, so that a skull is seen in it."""
    values, spacing_mm = np.asarray(volume.values), volume.header.spacing_mm
    if background_of(values) == 0:
        lacking = [max(0, round(np.ceil(MIN_HEAD_MM / mm)) - n) for n, mm in zip(values.shape, spacing_mm, strict=True)]
        values = np.pad(values, [(n // 2, n - n // 2) for n in lacking])
    return measure_image(values, spacing_mm)
