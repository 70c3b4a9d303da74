"""Small score rows, masks and folders of segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brats3d.evaluation.score_rows import ScoreRow
from brats3d.labels import REGIONS, REGIONS_TO_READ

AFFINE = np.diag([-1.0, -1, 1, 1])


class Samples:
    """Functions that make test data."""

    @staticmethod
    def masks(tc: int = 0, wt: int = 0, et: int = 0, start: int = 0) -> torch.Tensor:
        """Regions of so many consecutive voxels from ``start``, shape (3, 8, 8, 8)."""
        flat = torch.zeros(3, 512, dtype=torch.uint8)
        for region, size in (("TC", tc), ("WT", wt), ("ET", et)):
            flat[REGIONS.index(region), start : start + size] = 1
        return flat.view(3, 8, 8, 8)

    @staticmethod
    def rows(*dice: float, **more: float) -> tuple[ScoreRow, ...]:
        """One case for each Dice, with this Dice in every region."""
        more = {"ref_volume_ml": 1.0, "pred_volume_ml": 1.0, **more}
        return tuple(
            ScoreRow(case_id=f"case_{number}", region=region, dice=value, **more)
            for (number, value), region in product(enumerate(dice), REGIONS_TO_READ)
        )

    @staticmethod
    def by_region(rows: Sequence[ScoreRow], name: str = "dice") -> dict[str, float | None]:
        """Region -> value, of the rows of one case."""
        return {row.region: row.value(name) for row in rows}

    @staticmethod
    def tumour(shift: int = 0) -> np.ndarray:
        """BraTS 2020's labels: edema of 6 x 6 x 6, in it a core of 4 x 4 x 4, half of which enhances."""
        label = np.zeros((14, 12, 10), np.uint8)
        label[2 + shift : 8 + shift, 3:9, 2:8] = 2
        label[3 + shift : 7 + shift, 4:8, 3:7] = 1
        label[3 + shift : 5 + shift, 4:8, 3:7] = 4
        return label

    @staticmethod
    def save(path: Path, label: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        """Write a NIfTI file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(label, affine), path)
        return path


@pytest.fixture
def samples() -> type[Samples]:
    return Samples


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and references of cases 1 and 2: the first is right, the second is shifted by one voxel."""
    pred, ref = tmp_path / "pred", tmp_path / "ref"
    for number, shift in ((1, 0), (2, 1)):
        Samples.save(pred / f"BraTS20_Training_{number:03d}.nii.gz", Samples.tumour(shift))
        Samples.save(ref / f"BraTS20_Training_{number:03d}_seg.nii.gz", Samples.tumour())
    return pred, ref
