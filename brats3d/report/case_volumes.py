"""The volumes of a scored case: read, cropped to the brain, and compared with its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brats3d.cases import check_labels, grid_difference, whole_labels
from brats3d.data import labels_to_regions
from brats3d.errors import DataError
from brats3d.evaluation import ScoreRow, box_with_margin
from brats3d.files import Header, Volume, best_slice, lps_axes, read_volume, to_lps
from brats3d.labels import BRATS2020, REGIONS, REGIONS_TO_READ, get_convention
from brats3d.report.scored_cases import CaseFiles


@dataclass(frozen=True, eq=False)
class CaseVolumes:
    """A case within the bounding box of its brain and its tumour, axes towards L, P and S.

    Args:
        case_id: the case.
        modalities: the channels' names.
        image: shape (C, H, W, D).
        ref: regions {0, 1} of the reference, shape (3, H, W, D).
        pred: regions {0, 1} of the prediction, shape (3, H, W, D).
        spacing_mm: voxel size along each axis.
        start: the box's first voxel, along the axes of the whole volume in LPS.
        ref_ml: region -> volume of the reference.
    """

    case_id: str
    modalities: tuple[str, ...]
    image: np.ndarray
    ref: np.ndarray
    pred: np.ndarray
    spacing_mm: tuple[float, float, float]
    start: tuple[int, int, int]
    ref_ml: Mapping[str, float]

    @property
    def shown_slice(self) -> int:
        """The axial slice with the most tumour in the reference, or in the prediction if the reference has none."""
        return best_slice(self.ref if self.ref.any() else self.pred)


def load_volumes(files: CaseFiles, modalities: Sequence[str]) -> CaseVolumes:
    """Read a case.

    Args:
        files: the files of the case.
        modalities: the sequences to read.

    Raises:
        DataError: if a file cannot be read, lies on another grid, or holds labels that its convention does not have.
    """
    case = files.case
    if case.label is None or case.convention is None:
        raise DataError(
            case.label or case.case_id,
            "neither its name nor the run's settings define its label convention",
            expected="a label_convention in settings.json",
        )
    images = [read_volume(case.images[name]) for name in modalities]
    conventions = [get_convention(case.convention), BRATS2020]
    labels = [read_volume(path) for path in (case.label, files.segmentation)]
    for volume, convention, path in zip(labels, conventions, (case.label, files.segmentation), strict=True):
        check_labels(volume.values, convention, str(path))
    grid = images[0].header
    for volume in (*images[1:], *labels):
        if difference := grid_difference(volume.header, grid):
            path = volume.header.path
            raise DataError(path, difference[1].removeprefix(f"{path}: "))
    image = [np.nan_to_num(_to_lps(volume, grid)) for volume in images]
    ref, pred = (
        labels_to_regions(torch.from_numpy(whole_labels(_to_lps(volume, grid)).astype(np.uint8))[None], meaning).numpy()
        for volume, meaning in zip(labels, conventions, strict=True)
    )
    occupied = np.logical_or.reduce([*(channel != 0 for channel in image), *ref, *pred])
    box = box_with_margin(occupied, 3) if occupied.any() else tuple(slice(0, n) for n in occupied.shape)
    x_mm, y_mm, z_mm = (grid.spacing_mm[axis] for axis in lps_axes(grid.affine))
    return CaseVolumes(
        case_id=case.case_id,
        modalities=tuple(modalities),
        image=np.stack([channel[box] for channel in image]),
        ref=ref[:, *box],
        pred=pred[:, *box],
        spacing_mm=(x_mm, y_mm, z_mm),
        start=(int(box[0].start), int(box[1].start), int(box[2].start)),
        ref_ml={r: float(np.count_nonzero(ref[REGIONS.index(r)])) * grid.voxel_ml for r in REGIONS_TO_READ},
    )


def compare_with_scores(volumes: CaseVolumes, rows: Mapping[str, ScoreRow]) -> str:
    """Return how the files differ from those that were scored; an empty string if volumes and Dice agree.

    Args:
        volumes: the case.
        rows: region -> its scores.
    """
    advice = "the files are not those that were scored; run brats3d evaluate again"
    for region in REGIONS_TO_READ:
        ref_ml, scored_ml = volumes.ref_ml[region], rows[region].ref_volume_ml
        if abs(ref_ml - scored_ml) > 0.01 + 0.01 * scored_ml:
            return f"the reference has {ref_ml:.2f} ml of {region}, but {scored_ml:.2f} ml were scored: {advice}"
        ref, pred = (regions[REGIONS.index(region)] > 0 for regions in (volumes.ref, volumes.pred))
        both, total = np.count_nonzero(ref & pred), np.count_nonzero(ref) + np.count_nonzero(pred)
        dice, scored_dice = (2 * both / total if total else 1.0), rows[region].dice
        if abs(dice - scored_dice) > 0.005:
            return f"the files have a Dice of {dice:.3f} for {region}, but the scores say {scored_dice:.3f}: {advice}"
    return ""


def _to_lps(volume: Volume, grid: Header) -> np.ndarray:
    native = volume.values.astype(volume.values.dtype.newbyteorder("="), copy=False)  # torch needs native byte order
    return to_lps(native, grid.affine)
