"""Training with worker processes, with each start method, and augmentation on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("workers", "method", "cache"),
    [(1, "fork", 0.5), (3, "fork", 0), (1, "spawn", 0), (3, "spawn", 0.5), (3, "forkserver", 0)],
    ids=str,
)
def test_worker_processes_do_not_change_the_weights(
    workers: int,
    method: str,
    cache: float,
    trained: Path,
    phantoms: Path,
    workflow: Callable[..., ConfigWorkflow],
    tmp_path: Path,
) -> None:
    built = workflow(
        "train",
        dataset_dir=phantoms,
        output_dir=tmp_path,
        num_workers=workers,
        cache=cache,
        **{"train#dataloader#multiprocessing_context": method},
    )
    built.run()
    a, b = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (tmp_path, trained))
    assert all(torch.equal(a["network"][name], b["network"][name]) for name in b["network"])


def test_augmentation_on_the_device_does_not_change_the_weights(
    trained: Path, phantoms: Path, workflow: Callable[..., ConfigWorkflow], tmp_path: Path
) -> None:
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path, augment_on_device=True).run()
    a, b = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (tmp_path, trained))
    assert all(torch.equal(a["network"][name], b["network"][name]) for name in b["network"])
