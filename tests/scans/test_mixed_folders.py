"""Raw scans told from cases of BraTS."""

from __future__ import annotations

import numpy as np

from brats3d.cases import scan_cases
from brats3d.files import write_nifti
from brats3d.scans.mixed_folders import is_raw


def test_a_case_is_raw_by_its_grids_or_its_head(tmp_path):
    def images(name: str, values: np.ndarray, spacing_mm: float = 1.0, second: np.ndarray | None = None):
        for modality, each in (("t1", values), ("t2", values if second is None else second)):
            affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1])
            write_nifti(tmp_path / name / f"{name}_{modality}.nii.gz", each.astype(np.int16), affine)
        (case,) = scan_cases(tmp_path / name, ("t1", "t2")).cases
        return case

    rng = np.random.default_rng(0)
    for name in ("brain", "coarse", "shapes", "noise", "head", "crop"):
        (tmp_path / name).mkdir()
    places = [(np.arange(n) - n / 2) / n for n in (150, 180, 150)]
    distance = np.sqrt(sum(np.square(place) for place in np.ix_(*places)))
    textured = rng.integers(300, 500, distance.shape)
    brain = np.where(distance < 0.42, textured, 0)
    assert not is_raw(images("brain", brain))
    assert is_raw(images("coarse", brain, 1.4))
    assert is_raw(images("shapes", brain, second=brain[:-4]))
    assert is_raw(images("noise", brain + rng.integers(1, 20, brain.shape)))
    assert is_raw(images("head", np.where(distance < 0.6, textured, 0)))
    assert not is_raw(images("crop", textured[:60], 1.4))
