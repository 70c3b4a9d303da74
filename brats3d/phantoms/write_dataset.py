"""Write data sets of phantoms in the layout of a published release."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from brats3d.convert import decathlon, kaggle_h5
from brats3d.errors import UsageError
from brats3d.files import (
    flush_file,
    remove_leftovers,
    scratch_folder,
    whole_folder,
    writable_folder,
    write_nifti,
    write_whole,
)
from brats3d.labels import MODALITIES
from brats3d.phantoms.head import get_size
from brats3d.phantoms.named_settings import DEFAULT_SETTING, get_setting
from brats3d.phantoms.phantom import Phantom, make_phantom
from brats3d.phantoms.raw_phantom import make_raw_phantom
from brats3d.phantoms.settings import Setting
from brats3d.phantoms.write_raw_scans import write_raw_scans


@dataclass(frozen=True)
class DatasetLayout:
    """The names, numbers and storage of the cases of a published release.

    Args:
        path: path of a case below the data set's folder, a format of ``patient``, ``timepoint`` and ``grade`` (HGG,
            LGG).
        suffixes: modality or ``seg`` -> what follows the case's name in the name of that file.
        labels: BraTS 2020's label -> the release's.
        first_timepoint: number of a patient's first time point, if the release numbers them. Every third case is then
            the second time point of the patient before.
        scans: path of the raw scans of a case, a format of ``patient``; empty if the layout has none.
        has_cavity: mark part of the core as resection cavity, which is label 4 in BraTS 2024.
        write: write a case, given its number and path; return a record of it for ``finish``.
        finish: write the files beside the cases, given the data set's folder and all records.
    """

    path: str
    suffixes: Mapping[str, str] = field(default_factory=lambda: _suffixes("_", *MODALITIES), hash=False)
    labels: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({1: 1, 2: 2, 4: 4}), hash=False)
    first_timepoint: int | None = None
    scans: str = ""
    has_cavity: bool = False
    write: Callable[[Phantom, int, Path, Mapping[str, str]], Any] = field(default_factory=lambda: _write_folder)
    finish: Callable[[Path, Sequence[Any]], None] | None = None

    def case_path(self, number: int, grade: str) -> Path:
        """Return the path of a case, numbered from 1, below the data set's folder."""
        second = self.first_timepoint is not None and number % 3 == 0
        timepoint = (self.first_timepoint or 0) + second
        return Path(self.path.format(patient=number - second, timepoint=timepoint, grade=grade))


def case_seed(seed: int, index: int) -> int:
    """Return the seed of a data set's case, numbered from 0; it does not depend on the number of cases."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]) >> 1


def write_phantoms(
    output_dir: str | os.PathLike[str],
    cases: int,
    seed: int = 0,
    size: str = "full",
    device: str | torch.device = "cpu",
    layout: str = "brats2020",
    setting: str | Setting = DEFAULT_SETTING,
    progress: bool = True,
) -> list[Path]:
    """Write a data set of synthetic cases. A case's folder, or file, appears whole or not at all.

    Args:
        output_dir: folder of the data set, created if missing.
        cases: number of cases. Case i is the same for any number, and in every layout but ``raw``.
        seed: of the data set, from 0.
        size, device: see :func:`make_phantom`.
        layout: a name in :data:`LAYOUTS`.
        setting: see :func:`make_phantom`.
        progress: show a progress bar.

    Returns:
        The path of each case: its folder, in ``raw`` that of its scans; its image in ``msd``; its first slice in
        ``h5``.

    Raises:
        UsageError: if an argument is wrong, or one of the cases exists already; nothing has been written then.
    """
    from tqdm import tqdm  # imported here because generating alone does not need it

    if cases < 1:
        raise UsageError("cases", expected="an integer from 1", found=cases)
    if seed < 0:
        raise UsageError("seed", expected="an integer from 0", found=seed)
    get_size(size)
    if layout not in LAYOUTS:
        raise UsageError("layout", expected=f"one of {', '.join(LAYOUTS)}", found=layout)
    setting = get_setting(setting)
    _check_device(device)
    form = LAYOUTS[layout]
    root = writable_folder(output_dir)
    numbers = range(1, cases + 1)
    possible = [root / form.case_path(number, grade) for number in numbers for grade in ("HGG", "LGG")]
    possible += [root / form.scans.format(patient=number) for number in numbers if form.scans]
    for path in possible:
        if path.exists():
            raise UsageError("output_dir", f"{path} exists already", advice="choose another folder, or remove it")
    for folder in {path.parent for path in possible}:
        remove_leftovers(folder)
    paths, records = [], []
    for number in tqdm(numbers, desc="phantoms", unit="case", disable=not progress):
        drawn = (case_seed(seed, number - 1), size, device, setting)
        raw = make_raw_phantom(*drawn) if form.scans else None
        phantom = raw.prepared if raw else make_phantom(*drawn)
        path = root / form.case_path(number, _grade(phantom.label))
        path.parent.mkdir(parents=True, exist_ok=True)
        phantom = replace(phantom, case_id=path.name, label=_relabel(phantom.label, form))
        scans = root / form.scans.format(patient=number)
        if raw:
            write_raw_scans(raw, scans)
        records.append(form.write(phantom, number, path, form.suffixes))
        paths.append(scans if raw else path)
    if form.finish:
        form.finish(root, records)
    return paths


def _check_device(device: str | torch.device) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:  # torch's messages, up to 20 lines
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
        if isinstance(device, str) and device.partition(":")[0] not in ("cpu", "cuda", "mps"):
            reason = "no such device"
        raise UsageError("device", reason, expected="cpu, or cuda if there is one", found=str(device)) from None


def _suffixes(separator: str, *modalities: str) -> Mapping[str, str]:
    names = dict(zip((*MODALITIES, "seg"), (*modalities, "seg"), strict=True))
    return MappingProxyType({name: f"{separator}{suffix}.nii.gz" for name, suffix in names.items()})


def _grade(label: np.ndarray) -> str:
    return "HGG" if (label == 4).any() else "LGG"


def _relabel(label: np.ndarray, form: DatasetLayout) -> np.ndarray:
    table = np.zeros(5, np.uint8)
    table[list(form.labels)] = list(form.labels.values())
    relabelled = table[label]
    if form.has_cavity and len(core := np.argwhere(label == 1)):
        top = core[core[:, 2] > np.median(core[:, 2])]
        relabelled[tuple(top.T)] = 4
    return relabelled


def _write_folder(phantom: Phantom, number: int, path: Path, suffixes: Mapping[str, str]) -> None:
    """Write one file per modality."""
    with whole_folder(path) as hidden:
        for name, array in {**phantom.images, "seg": phantom.label}.items():
            write_nifti(hidden / f"{path.name}{suffixes[name]}", array, phantom.affine)


def _write_task_case(phantom: Phantom, number: int, path: Path, suffixes: Mapping[str, str]) -> dict[str, str]:
    """Write the Decathlon's segmentation and 4-D image in RAS order; return the case's entry in dataset.json.

    The image comes last, because its presence means that the case is complete.
    """
    order = [decathlon.MODALITY_NAMES[name.lower()] for name in decathlon.DATASET_JSON["modality"].values()]
    image = np.stack([phantom.images[name] for name in order], -1).astype(np.float32)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # x and y; LPS -> RAS
    flip[:2, 3] = np.array(phantom.label.shape[:2]) - 1
    files = {"labelsTr": phantom.label, "imagesTr": image}
    with scratch_folder(path) as hidden:
        for folder, array in files.items():
            write_nifti(hidden / f"{folder}_{path.name}", array[::-1, ::-1], phantom.affine @ flip)
        for folder in files:
            target = path.parent.with_name(folder) / path.name
            target.parent.mkdir(exist_ok=True)
            (hidden / f"{folder}_{path.name}").replace(target)
    return {"image": f"./imagesTr/{path.name}", "label": f"./labelsTr/{path.name}"}


def _write_dataset_json(root: Path, cases: Sequence[dict[str, str]]) -> None:
    content = {
        **decathlon.DATASET_JSON,
        "numTraining": len(cases),
        "numTest": 0,
        "training": cases,
        "test": [],
    }
    text = json.dumps(content, indent=1)
    write_whole(root / _TASK / "dataset.json", lambda file: file.write(text.encode()))


def _write_volume(phantom: Phantom, number: int, path: Path, suffixes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Write Kaggle's HDF5 slices; return their rows of meta_data.csv."""
    # Intensities below the background, which is 0, cannot be stored in this form.
    images = {name: np.where(image < 0, 1, image).astype(image.dtype) for name, image in phantom.images.items()}
    with scratch_folder(path) as hidden:
        slices = kaggle_h5.write_slices(hidden, number, images, phantom.label)
        for file in slices:
            flush_file(file)
        for file in reversed(slices):  # the first slice comes last: it marks a complete volume
            file.replace(path.with_name(file.name))
    rows = []
    for s, file in enumerate(slices):
        counts = [int((phantom.label[..., s] == value).sum()) for value in kaggle_h5.MASKS]
        rows.append(
            {
                "slice_path": f"/content/data/{file.name}",
                "target": int(sum(counts) > 0),
                "volume": number,
                "slice": s,
                **{f"label{i}_pxl_cnt": count for i, count in enumerate(counts)},
                "background_ratio": 1 - sum(counts) / phantom.label[..., s].size,
            }
        )
    return rows


def _write_tables(root: Path, volumes: Sequence[list[dict[str, Any]]]) -> None:
    """Write Kaggle's three tables; that of survival is empty."""
    ids = [f"BraTS20_Training_{rows[0]['volume']:03d}" for rows in volumes]
    grades = ["HGG" if any(row["label2_pxl_cnt"] for row in rows) else "LGG" for rows in volumes]
    others = ("BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID", "BraTS_2019_subject_ID")
    mapping = [
        {"Grade": grade, **dict.fromkeys(others, "NA"), "BraTS_2020_subject_ID": case_id}
        for grade, case_id in zip(grades, ids, strict=True)
    ]
    slices = [row for rows in volumes for row in rows]
    survival = ["Brats20ID", "Age", "Survival_days", "Extent_of_Resection"]
    _write_csv(root / _SLICES / "meta_data.csv", list(slices[0]), slices)
    _write_csv(root / _SLICES / "name_mapping.csv", list(mapping[0]), mapping)
    _write_csv(root / _SLICES / "survival_info.csv", survival, [])


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


_TASK = "Task01_BrainTumour"

_SLICES = "BraTS2020_training_data/content/data"

_2023 = _suffixes("-", "t1n", "t1c", "t2w", "t2f")

_GLI = "BraTS-GLI-{patient:05d}-{timepoint:03d}"

_ET_IS_3 = MappingProxyType({1: 1, 2: 2, 4: 3})

LAYOUTS: Mapping[str, DatasetLayout] = MappingProxyType(
    {
        "brats2018": DatasetLayout("{grade}/Brats18_SYN_{patient:03d}_1"),
        "brats2020": DatasetLayout("BraTS20_Training_{patient:03d}"),
        "brats2021": DatasetLayout("BraTS2021_{patient:05d}"),
        "brats2023": DatasetLayout(_GLI, _2023, _ET_IS_3, first_timepoint=0),
        "brats2024": DatasetLayout(_GLI, _2023, _ET_IS_3, first_timepoint=100, has_cavity=True),
        "msd": DatasetLayout(
            f"{_TASK}/imagesTr/BRATS_{{patient:03d}}.nii.gz",
            labels=MappingProxyType({1: 2, 2: 1, 4: 3}),
            write=_write_task_case,
            finish=_write_dataset_json,
        ),
        "raw": DatasetLayout("prepared/raw_{patient:03d}", scans="scans/raw_{patient:03d}"),
        "h5": DatasetLayout(f"{_SLICES}/volume_{{patient}}_slice_0.h5", write=_write_volume, finish=_write_tables),
    }
)
"""The layouts in which phantoms can be written."""
