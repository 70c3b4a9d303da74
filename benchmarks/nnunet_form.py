"""BraTS cases as an nnU-Net data set (see documentation/dataset_format.md of nnU-Net)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brats3d.files import write_nifti
from brats3d.labels import BRATS2020, BRATS2023, MODALITIES, REGIONS_TO_READ


def dataset_json(cases: int) -> dict[str, Any]:
    """Describe four channels and overlapping regions. nnU-Net needs consecutive labels, such as those of BraTS 2023."""
    return {
        "channel_names": {str(channel): name for channel, name in enumerate(MODALITIES)},
        "labels": {"background": 0, **{name: list(BRATS2023.regions[name]) for name in REGIONS_TO_READ}},
        "regions_class_order": [BRATS2023.own_values[name] for name in REGIONS_TO_READ],
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }


def link_images(images: Sequence[Path], case_id: str, folder: Path) -> list[str]:
    """Link a case's files, one for each channel, under the names that nnU-Net reads."""
    folder.mkdir(parents=True, exist_ok=True)
    links = [folder / f"{case_id}_{channel:04d}.nii.gz" for channel in range(len(images))]
    for link, image in zip(links, images, strict=True):
        os.link(image, link)
    return [str(link) for link in links]


def write_dataset(items: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write items of :func:`brats3d.cases.load_fold`, labels of BraTS 2020, as an nnU-Net data set."""
    translate = np.zeros(max(BRATS2020.values) + 1, np.uint8)
    for value, new in BRATS2020.translate_to(BRATS2023).items():
        translate[value] = new
    (folder / "labelsTr").mkdir(parents=True)
    for item in items:
        link_images([Path(image) for image in item["image"]], item["case_id"], folder / "imagesTr")
        label = nib.load(item["label"])
        values = translate[np.asarray(label.dataobj, dtype=np.uint8)]
        write_nifti(folder / "labelsTr" / f"{item['case_id']}.nii.gz", values, label.affine)
    (folder / "dataset.json").write_text(json.dumps(dataset_json(len(items))))
