"""benchmarks/nnunet_form.py writes cases as an nnU-Net data set."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "nnunet_form.py"
SPEC = importlib.util.spec_from_file_location("nnunet_form", SCRIPT)
assert SPEC and SPEC.loader
nnunet_form = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nnunet_form)


def test_regions_are_ordered_from_the_outermost_to_the_innermost() -> None:
    written = nnunet_form.dataset_json(5)
    assert written["labels"] == {"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
    assert written["regions_class_order"] == [2, 1, 3]
    assert written["channel_names"] == {"0": "t1", "1": "t1ce", "2": "t2", "3": "flair"}


def test_labels_are_consecutive_and_images_numbered_by_channel(tmp_path: Path) -> None:
    values = np.array([0, 1, 2, 4], np.uint8).reshape(4, 1, 1)
    files = [tmp_path / f"{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair", "seg")]
    for file in files:
        nib.save(nib.Nifti1Image(values, np.eye(4)), file)
    item = {"case_id": "A", "image": files[:4], "label": files[4]}
    nnunet_form.write_dataset([item], tmp_path / "out")
    label = np.asarray(nib.load(tmp_path / "out" / "labelsTr" / "A.nii.gz").dataobj)
    assert label.ravel().tolist() == [0, 1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "out" / "imagesTr").iterdir()) == [
        f"A_000{channel}.nii.gz" for channel in range(4)
    ]
