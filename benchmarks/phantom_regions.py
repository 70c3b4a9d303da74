"""How large the regions of phantoms are, how many cases enhance, and in how many parts: beside BraTS 2020.

python benchmarks/phantom_regions.py [--cases 200] [--size full]

Small phantoms have voxels of 64 mm³, enough for volumes, and take a tenth of the time.
"""

from __future__ import annotations

import argparse

import numpy as np
from machine import rows
from scipy import ndimage

from brats3d.labels import BRATS2020, REGIONS_TO_READ
from brats3d.phantoms import SETTINGS, SIZES, make_phantom

THIRDS_ML = {"WT": (63.1, 125.3), "TC": (19.2, 49.9), "ET": (9.1, 26.2)}
"""Where the 369 training cases of BraTS 2020 divide into a small, a middle and a large third, see docs/phantoms.md."""
PART_ML = 1
"""Smaller parts of a tumour are not counted."""


def measure(setting: str, cases: int, size: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Volumes in ml by region, and the number of parts of the whole tumour, one value a case."""
    voxel_ml = SIZES[size].step_mm ** 3 / 1000
    volumes: dict[str, list[float]] = {region: [] for region in REGIONS_TO_READ}
    parts = []
    for seed in range(cases):
        label = make_phantom(seed, size, setting=setting).label
        for region in REGIONS_TO_READ:
            volumes[region].append(np.isin(label, BRATS2020.regions[region]).sum() * voxel_ml)
        numbers, _ = ndimage.label(label > 0, np.ones((3, 3, 3)))
        parts.append(int((np.bincount(numbers.ravel())[1:] * voxel_ml >= PART_ML).sum()))
    return {region: np.array(values) for region, values in volumes.items()}, np.array(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--size", choices=SIZES, default="small")
    options = parser.parse_args()
    cells = []
    for setting in SETTINGS:
        volumes, parts = measure(setting, options.cases, options.size)
        enhancing = (volumes["ET"] > 0).mean()
        for region in REGIONS_TO_READ:
            found = volumes[region][volumes[region] > 0]
            low, high = THIRDS_ML[region]
            shares = [(found <= low).mean(), ((found > low) & (found <= high)).mean(), (found > high).mean()]
            quantiles = np.percentile(found, (5, 100 / 3, 200 / 3, 95))
            cells.append(
                [
                    setting,
                    region,
                    f"{found.mean():.0f}",
                    " / ".join(f"{q:.0f}" if q >= 10 else f"{q:.1f}" for q in quantiles),
                    " / ".join(f"{share:.0%}" for share in shares),
                ]
            )
        print(f"{setting}: {enhancing:.0%} enhance; {(parts > 1).mean():.0%} in several parts of {PART_ML} ml or more")
    header = [
        "setting",
        "region",
        "mean, ml",
        "5 % / third / two thirds / 95 % of cases below, ml",
        "in BraTS's thirds",
    ]
    print("\n".join(rows(header, cells)))


if __name__ == "__main__":
    main()
