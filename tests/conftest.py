"""Tiny BraTS data sets, in which a brain is a box and a tumour is nested boxes; and a toy training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import AsDiscreted
from tensorboard.summary.writer import event_file_writer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from brats3d import cli
from brats3d.data.sampler import EpochCaseSampler, PlaceSampler
from brats3d.evaluation.validation_metric import ValidationScores, is_better
from brats3d.inference.eval_step import EvalStep
from brats3d.labels import MODALITIES
from brats3d.networks.loss import DiceBCELoss
from brats3d.training.checkpoints import KeepCheckpoints
from brats3d.training.run_state import RunState
from brats3d.training.tensorboard import TrackRun
from brats3d.training.train_step import TrainStep
from brats3d.training.validation import Validate

SHAPE = (16, 16, 12)
CASE_IDS = {"brats2020": "BraTS20_Training_{:03d}", "brats2021": "BraTS2021_{:05d}"}
BRIGHTNESS = {
    "t1": (300, -60, -40, -20),
    "t1ce": (320, -80, -30, 300),
    "t2": (280, 120, 150, 80),
    "flair": (290, 60, 200, 90),
}
"""Intensity of the brain, and what labels 1, 2 and 4 add to it."""


@pytest.fixture(scope="session", autouse=True)
def event_files_in_order():
    """Make event files sort in the order in which they were written.

    TensorBoard sorts them by name: second, host, process, and a number that sorts as text. Unlike users, tests resume
    a run in the same second in which they stopped it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(10**6))
        yield


def brats_affine(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return the affine of BraTS: 1 mm, x and y mirrored, the origin in the far corner of y."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    return affine


def _write_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, brats_affine(values.shape) if affine is None else affine), path)
    return path


def tiny_label(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return a label of edema around enhancement around necrosis: uint8 {0, 1, 2, 4}."""
    label = np.zeros(shape, np.uint8)
    for value, fraction in ((2, 0.25), (4, 0.15), (1, 0.07)):
        label[tuple(slice(int(n * (0.5 - fraction)), int(np.ceil(n * (0.5 + fraction)))) for n in shape)] = value
    return label


def tiny_image(modality: str, seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return an image of a bright brain with the tumour of :func:`tiny_label`: int16, 0 outside the brain."""
    brain, *added = BRIGHTNESS[modality]
    label = tiny_label(shape)
    noise = np.random.default_rng([seed, MODALITIES.index(modality)]).normal(0, 15, shape)
    image = np.zeros(shape, np.int16)
    inside = tuple(slice(n // 8, n - n // 8) for n in shape)
    image[inside] = (brain + noise + sum(a * (label == v) for a, v in zip(added, (1, 2, 4), strict=True)))[inside]
    return image


def _write_case(
    folder: Path,
    suffix: str = ".nii.gz",
    modalities: Sequence[str] = MODALITIES,
    label: bool = True,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
) -> Path:
    for modality in modalities:
        _write_nifti(folder / f"{folder.name}_{modality}{suffix}", tiny_image(modality, seed, shape))
    if label:
        _write_nifti(folder / f"{folder.name}_seg{suffix}", tiny_label(shape))
    return folder


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    """``write_nifti(path, values, affine=None)`` writes an array, by default with the affine of BraTS."""
    return _write_nifti


@pytest.fixture
def write_case() -> Callable[..., Path]:
    """``write_case(folder, suffix=".nii.gz", modalities=MODALITIES, label=True, seed=0, shape=SHAPE)`` writes it."""
    return _write_case


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """``make_dataset(cases=3, layout="brats2020", root=None, **options of write_case)`` writes cases 1, 2, …"""

    def make(cases: int = 3, layout: str = "brats2020", root: Path | None = None, **options) -> Path:
        root = tmp_path / "data" if root is None else root
        for i in range(1, cases + 1):
            _write_case(root / CASE_IDS[layout].format(i), seed=i, **options)
        return root

    return make


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``brats3d`` in this process and return (exit code, standard output, standard error)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """``caplog`` for brats3d's logger, even if another test has configured that logger."""
    logger = logging.getLogger("brats3d")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "disabled", False)
    caplog.set_level(logging.INFO, logger="brats3d")
    return caplog


class ToyCases(Dataset):
    """A dataset of noise, with thresholds of it as regions. A sample depends on (epoch, index)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(100 * epoch + index))
        return {
            "image": image,
            "label": torch.cat([image > 0.5, image > 0, image > 1]).float(),
            "case_id": f"case_{index}",
        }


class ScriptedScore:
    """A key metric with a given value for each epoch, instead of ValidationScores."""

    def __init__(self, scores: Mapping[int, float]) -> None:
        self.scores = scores

    def attach(self, engine: Engine, name: str) -> None:
        engine.add_event_handler(
            Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({name: self.scores[e.state.epoch]})
        )


def _toy_run(
    epochs: int = 3,
    cases: int = 4,
    batch_size: int = 2,
    interval: int = 1,
    scores: Mapping[int, float] | None = None,
    compare: Callable[[float, float], bool] = is_better,
    output: Path | None = None,
    checkpoints: bool = True,
    tensorboard: bool = False,
) -> SimpleNamespace:
    torch.manual_seed(0)
    network = nn.Conv3d(1, 3, 3, padding=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    data = ToyCases(cases)
    sampler = EpochCaseSampler(data, seed=3)
    loader = DataLoader(data, batch_size=batch_size, sampler=sampler)
    lr_scheduler = WarmupCosineSchedule(optimizer, 2, epochs * len(loader), warmup_multiplier=0.1)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(ToyCases(3), batch_size=2),
        network=network,
        iteration_update=EvalStep(amp=False),
        postprocessing=AsDiscreted(keys="pred", threshold=0.0),
        key_val_metric={"val_mean_dice": ValidationScores(full_every=0) if scores is None else ScriptedScore(scores)},
        metric_cmp_fn=compare,
    )
    state = RunState(
        output_dir=output or Path("unused"),
        settings={"epochs": epochs, "modalities": ["t1"], "patch_size": [8, 8, 8]},
        network=network,
        best_network=network,
        optimizer=optimizer,
        lr_scheduler=lr_scheduler,
        evaluator=evaluator,
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=DiceBCELoss(),
        iteration_update=TrainStep(amp=False),
        decollate=False,
        train_handlers=[
            PlaceSampler(sampler, batch_size),
            Validate(evaluator, interval),
            *([TrackRun(state)] if output and tensorboard else []),
            LrScheduleHandler(lr_scheduler, print_lr=False, epoch_level=False),
            *([KeepCheckpoints(state)] if output and checkpoints else []),
        ],
    )
    return SimpleNamespace(
        network=network, optimizer=optimizer, trainer=trainer, evaluator=evaluator, state=state, sampler=sampler
    )


@pytest.fixture
def toy_run() -> Callable[..., SimpleNamespace]:
    """``toy_run(epochs=3, output=None, …)`` builds a training of one convolution with the handlers of train.yaml."""
    return _toy_run
