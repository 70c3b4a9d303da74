"""Accuracy and time of ``brats3d prepare`` on raw phantoms, whose motions, brain masks and labels are known.

    python benchmarks/raw_scans.py [--seeds 4 5 6 7] [--record]

Each phantom is prepared with its true brain mask and with that of deepbet. The segmentations by the shipped weights are
resampled to the grid of the original phantom and scored there, beside the segmentation of the original.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk
from machine import peak_kib, rows, show
from nibabel.affines import apply_affine

import brats3d
from brats3d.errors import DataError
from brats3d.files import Volume, make_header, read_volume, write_nifti
from brats3d.labels import BRATS2020, MODALITIES, REGIONS_TO_READ
from brats3d.phantoms import RawPhantom, make_raw_phantom
from brats3d.scans import Scan, brain_mask
from brats3d.scans.atlas_space import BRATS_GRID
from brats3d.scans.itk_images import RAS_TO_LPS, Grid, resample, voxels
from brats3d.scans.native_space import resample_segmentation
from brats3d.scans.preparation import PreparedCase, prepare_case
from brats3d.scans.prepared_files import write_prepared

AS_MADE, TRUE_MASK, DEEPBET = "as made", "prepared, true mask", "prepared, deepbet's mask"
MOVED = [name for name in MODALITIES if name != "t1ce"]
HEADER = ["seed", *(f"{name} to t1ce, mm" for name in MOVED), "mask of t1"]
HEADER += [*(f"{region}, there and back" for region in REGIONS_TO_READ), "seconds", "of processor time"]


@dataclass(frozen=True)
class Measured:
    """The results of one phantom.

    Args:
        line: of the table of the preparation.
        scores: way -> Dice of WT, TC and ET; a way that failed is missing.
        failure: why it failed.
    """

    line: list[object]
    scores: dict[str, list[float]]
    failure: str


def measure(seed: int) -> Measured:
    """Make, prepare and segment a phantom."""
    raw = make_raw_phantom(seed)
    scans = {
        modality: Scan(modality, Volume(make_header(Path(modality), v.shape, affine, v.dtype), v), modality)
        for modality, (v, affine) in raw.images.items()
    }
    brain = made_grid(raw).to_itk(raw.brain.astype(np.float32))
    to_made = itk_transform(np.linalg.inv(raw.motions["t1"]))
    true_mask = voxels(resample(brain, Grid.of(scans["t1"].volume.header), to_made)) >= 0.5
    start = np.array([time.perf_counter(), time.process_time()])
    mask = brain_mask._estimate("case", scans["t1"].volume)
    case = prepare(scans, true_mask)
    seconds = np.array([time.perf_counter(), time.process_time()]) - start
    found = [dice(mask, true_mask), *dices(*round_trip(raw, case))]
    line = [seed, *registration_errors_mm(raw, case), *(f"{score:.3f}" for score in found), *seconds.tolist()]
    labels, failure = {AS_MADE: segment(raw), TRUE_MASK: segment(raw, case)}, ""
    try:
        labels[DEEPBET] = segment(raw, prepare(scans, mask))
    except DataError as error:
        failure = f"Seed {seed} with deepbet's mask: {error.problem or error}."
    return Measured(line, {way: dices(label, raw.prepared.label) for way, label in labels.items()}, failure)


def prepare(scans: Mapping[str, Scan], mask: np.ndarray) -> PreparedCase:
    """Prepare a case with this brain mask of T1."""
    with mock.patch.object(brain_mask, "_estimate", return_value=mask):
        return prepare_case("case", scans)


def registration_errors_mm(raw: RawPhantom, case: PreparedCase) -> list[float]:
    """Return the error of the registration of each other sequence to T1ce, as the mean over the brain."""
    points = apply_affine(raw.prepared.affine, np.argwhere(raw.brain)[::1000])
    in_case = case.sequences["t1ce"].transform.GetInverse()
    places = [in_case.TransformPoint(p) for p in apply_affine(RAS_TO_LPS @ raw.motions["t1ce"], points).tolist()]
    errors = []
    for name in MOVED:
        found = [case.sequences[name].transform.TransformPoint(place) for place in places]
        true = apply_affine(RAS_TO_LPS @ raw.motions[name], points)
        errors.append(float(np.linalg.norm(found - true, axis=1).mean()))
    return errors


def round_trip(raw: RawPhantom, case: PreparedCase) -> tuple[np.ndarray, np.ndarray]:
    """Return the label at 1 mm in the space of the raw T1ce, after its way to BraTS space and back and before."""
    values, affine = raw.images["t1ce"]
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    shape = tuple(int(n) for n in np.ceil(values.shape * spacing_mm))
    native = Grid(shape, affine @ np.diag([*(1 / spacing_mm), 1]))
    to_made, to_native = itk_transform(np.linalg.inv(raw.motions["t1ce"])), case.sequences["t1ce"].transform
    label = resample_segmentation(raw.prepared.label, made_grid(raw), native, to_made, BRATS2020)
    there = resample_segmentation(label, native, BRATS_GRID, to_native, BRATS2020)
    return resample_segmentation(there, BRATS_GRID, native, to_native.GetInverse(), BRATS2020), label


def segment(raw: RawPhantom, case: PreparedCase | None = None) -> np.ndarray:
    """Segment a prepared case, or the original phantom; return the labels on the grid of the original."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, "case")
        if case is None:
            folder.mkdir()
            for modality, values in raw.prepared.images.items():
                write_nifti(folder / f"case_{modality}.nii.gz", values, raw.prepared.affine)
        else:
            write_prepared(folder, "case", case)
        (path,) = brats3d.predict(folder, Path(temporary, "out"))
        label = np.array(read_volume(path).values)
    if case is None:
        return label
    from_native = case.sequences["t1ce"].transform.GetInverse()
    to_case = sitk.CompositeTransform([from_native, itk_transform(raw.motions["t1ce"])])  # applied from the last
    return resample_segmentation(label, BRATS_GRID, made_grid(raw), to_case, BRATS2020)


def dices(label: np.ndarray, ref: np.ndarray) -> list[float]:
    """Return the Dice of WT, TC and ET."""
    return [dice(*(np.isin(each, BRATS2020.regions[region]) for each in (label, ref))) for region in REGIONS_TO_READ]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def made_grid(raw: RawPhantom) -> Grid:
    return Grid(raw.brain.shape, raw.prepared.affine)


def itk_transform(motion: np.ndarray) -> Any:
    """Return a (4, 4) motion in RAS mm as a SimpleITK transform."""
    lps = RAS_TO_LPS @ motion @ RAS_TO_LPS
    return sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6, 7])
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    measured = {seed: measure(seed) for seed in options.seeds}
    table = rows(HEADER, [each.line for each in measured.values()])
    table += ["", f"Peak memory, with the phantoms and the segmentation: {peak_kib() / 2**20:.2f} GiB."]
    show("scans", "Preparation of raw phantoms", table, options.record, "cpu")
    cells: list[list[object]] = [
        [seed, way, *(f"{score:.3f}" for score in of_way)]
        for seed, each in measured.items()
        for way, of_way in each.scores.items()
    ]
    table = rows(["seed", "", *REGIONS_TO_READ], cells)
    table += ["", *filter(None, (each.failure for each in measured.values()))]
    show("scans", "Dice of raw phantoms", table, options.record, "cpu")


if __name__ == "__main__":
    main()
