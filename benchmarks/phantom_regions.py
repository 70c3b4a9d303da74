"""Region volumes, enhancing cases and components of phantoms, compared with BraTS 2020.

python benchmarks/phantom_regions.py [--cases 200] [--size full]

Small phantoms have voxels of 64 mm³, which is enough for volumes, and take a tenth of the time.
"""

from __future__ import annotations

import argparse

import numpy as np
from machine import rows
from scipy import ndimage

from brats3d.cases import region_volumes_ml
from brats3d.labels import BRATS2020, REGIONS_TO_READ
from brats3d.phantoms import SETTINGS, SIZES, make_phantom

THIRDS_ML = {"WT": (63.1, 125.3), "TC": (19.2, 49.9), "ET": (9.1, 26.2)}
"""Limits of the smallest and middle third of the 369 training cases of BraTS 2020; see docs/phantoms.md."""
COMPONENT_ML = 1
"""Smaller components of a tumour are not counted."""


def measure(setting: str, cases: int, size: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return region -> volumes in ml, and the number of components of the whole tumour, one value for each case."""
    voxel_ml = SIZES[size].voxel_mm ** 3 / 1000
    volumes: dict[str, list[float]] = {region: [] for region in REGIONS_TO_READ}
    components = []
    for seed in range(cases):
        label = make_phantom(seed, size, setting=setting).label
        for region, volume in region_volumes_ml(label, BRATS2020, voxel_ml).items():
            volumes[region].append(volume)
        numbers, _ = ndimage.label(label > 0, np.ones((3, 3, 3)))
        components.append(int((np.bincount(numbers.ravel())[1:] * voxel_ml >= COMPONENT_ML).sum()))
    return {region: np.array(values) for region, values in volumes.items()}, np.array(components)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--size", choices=SIZES, default="small")
    options = parser.parse_args()
    cells = []
    for setting in SETTINGS:
        volumes, components = measure(setting, options.cases, options.size)
        enhancing = (volumes["ET"] > 0).mean()
        for region in REGIONS_TO_READ:
            present = volumes[region][volumes[region] > 0]
            low, high = THIRDS_ML[region]
            thirds = [(present <= low).mean(), ((present > low) & (present <= high)).mean(), (present > high).mean()]
            quantiles = np.percentile(present, (5, 100 / 3, 200 / 3, 95))
            cells.append(
                [
                    setting,
                    region,
                    f"{present.mean():.0f}",
                    " / ".join(f"{q:.0f}" if q >= 10 else f"{q:.1f}" for q in quantiles),
                    " / ".join(f"{fraction:.0%}" for fraction in thirds),
                ]
            )
        several = (components > 1).mean()
        print(
            f"{setting}: {enhancing:.0%} enhance; {several:.0%} have several components of at least {COMPONENT_ML} ml"
        )
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
