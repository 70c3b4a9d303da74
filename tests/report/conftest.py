"""A data set of phantoms, a run that was trained and evaluated on it, and its report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from brats3d.cases.search import find_cases
from brats3d.data.label_transforms import labels_to_regions
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.score_files import write_scores
from brats3d.files.nifti_write import write_segmentation
from brats3d.labels import BRATS2020, MODALITIES, REGIONS, get_convention
from brats3d.phantoms import write_phantoms
from brats3d.report.case_volumes import CaseVolumes
from brats3d.report.make import make_report


def predict(label: np.ndarray, number: int) -> np.ndarray:
    """A perfect prediction, one shifted by a voxel, one shifted by two without ET, and an empty one."""
    pred = np.roll(label, number, axis=0)
    if number == 2:
        pred = np.where(pred == 4, 1, pred)
    return np.zeros_like(pred) if number == 3 else pred


def regions_of(label: np.ndarray) -> torch.Tensor:
    return labels_to_regions(torch.from_numpy(np.ascontiguousarray(label))[None], BRATS2020)


def build_run(root: Path, cases: int = 4, layout: str = "brats2020") -> Path:
    """Write a data set of phantoms and the folder of a run on it."""
    write_phantoms(root / "data", cases, seed=1, size="small", setting="plain", layout=layout, progress=False)
    run, rows = root / "run", []
    for number, case in enumerate(find_cases(root / "data", require_label=True)):
        stored = np.asarray(nib.load(case.label).dataobj)
        translation = get_convention(case.convention).translate_to(BRATS2020)
        label = np.vectorize(translation.get, otypes=[np.uint8])(stored)
        pred = predict(label, number)
        write_segmentation(run / "segmentations" / f"{case.case_id}.nii.gz", pred, case.images["flair"])
        rows += score_case(regions_of(pred), regions_of(label), case.case_id, (1, 1, 1))
    write_scores(run / "metrics.json", rows, mean_dice=0.5, epoch=7)
    write_settings(run, dataset_dir=str(root / "data"))
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for step in range(1, 6):
            writer.add_scalar("train_loss", 1 / step, step)
            for tag in ("val_mean_dice", "val_dice_wt", "val_dice_tc", "val_dice_et"):
                writer.add_scalar(tag, step / 6, step)
    card = {"modalities": list(MODALITIES), "network_def": {"class": "monai.networks.nets.unet.UNet"}, "epoch": 7}
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.json").write_text(json.dumps(card))
    return run


def write_settings(run: Path, **settings: object) -> None:
    default = {"datalist": None, "fold": 0, "modalities": list(MODALITIES), "label_convention": None, "epochs": 50}
    (run / "settings.json").write_text(json.dumps({**default, **settings}))


@pytest.fixture(name="build_run")
def build_run_fixture() -> Callable[..., Path]:
    return build_run


@pytest.fixture(name="write_settings")
def write_settings_fixture() -> Callable[..., None]:
    return write_settings


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report; tests must not change it."""
    run = build_run(tmp_path_factory.mktemp("built"))
    make_report(run, progress=False)
    return run


@pytest.fixture
def run_dir(built: Path, tmp_path: Path) -> Path:
    """A copy of the run, without its report, that a test may change; it refers to the shared data set."""
    return shutil.copytree(built, tmp_path / "run", ignore=shutil.ignore_patterns("report", "report.html"))


@pytest.fixture
def data_dir(built: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may change."""
    return shutil.copytree(built.parent / "data", tmp_path / "moved")


@pytest.fixture
def volumes() -> CaseVolumes:
    """A case of 10 x 12 x 6 voxels whose reference is a box, with a prediction of WT alone."""
    image = np.ones((2, 10, 12, 6), np.float32) * np.arange(1, 11)[:, None, None]
    ref, pred = np.zeros((2, 3, 10, 12, 6), np.uint8)
    ref[:, 6:9, 2:5, 3:5] = 1
    pred[REGIONS.index("WT"), 5:9, 2:5, 3:5] = 1
    ref_ml = dict.fromkeys(REGIONS, 0.018)
    return CaseVolumes("case", ("t1ce", "flair"), image, ref, pred, (1, 1, 1), (20, 30, 40), ref_ml)
