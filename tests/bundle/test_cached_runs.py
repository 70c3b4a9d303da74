"""The cache on disk is never stale and does not affect the trained weights."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from brats3d.cases.load import load_fold
from brats3d.data import dataset as datasets

Workflow = Callable[..., ConfigWorkflow]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["network"]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a single case."""
    monkeypatch.setattr(datasets, "RESERVED_BYTES", 10**15)


def test_training_from_the_disk_gives_the_weights_of_training_from_memory(
    no_memory: None, trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    for run in ("cold", "warm"):
        workflow("train", dataset_dir=phantoms, output_dir=tmp_path / run, cache_dir=shared).run()
        assert_same(weights(tmp_path / run), weights(trained))
        assert not (tmp_path / run / "cache").exists()
    cold, warm = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("cold", "warm"))
    assert cold == warm
    assert len(list(shared.rglob("*.case"))) == 4


def test_a_run_stores_cases_in_its_own_folder_only_if_they_do_not_fit_in_memory(
    no_memory: None, trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    built = workflow("train", dataset_dir=phantoms, output_dir=tmp_path, epochs=1)
    assert not list(tmp_path.iterdir())
    built.run()
    assert len(list((tmp_path / "cache").rglob("*.case"))) == 4
    assert not (trained / "cache").exists()


@pytest.mark.parametrize(
    "override",
    [
        {"train#deterministic_transforms#3#nonzero": False},
        {"patch_size": [48, 32, 32]},
        {"train#preprocessing": {"_target_": "Compose", "transforms": "$@train#deterministic_transforms"}},
        {"train#dataset#transform": "$@train#deterministic_transforms"},
    ],
    ids=lambda override: next(iter(override)),
)
def test_overridden_transforms_have_cached_cases_of_their_own(
    override: dict[str, object], phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    def folder(**overrides: object) -> Path:
        built = workflow("train", dataset_dir=phantoms, output_dir=tmp_path, **overrides)
        return built.trainer.data_loader.dataset._disk.folder

    assert folder(learning_rate=0.5) == folder() != folder(**override)


def test_the_plain_loader_gives_the_same_weights(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    plain = {"train#dataloader#_target_": "DataLoader"}
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path, **plain).run()
    assert_same(weights(tmp_path), weights(trained))


def test_a_damaged_validation_case_is_reported_before_the_first_step(
    phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    bad = Path(load_fold(data, "validation")[0]["image"][2])
    content = bad.read_bytes()
    bad.write_bytes(content[:-508] + content[-8:])  # only reading it to the end shows it
    built = workflow("train", dataset_dir=data, output_dir=tmp_path / "run", val_interval=10, epochs=20)
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert str(bad) in str(caught.value.__cause__)
    assert built.trainer.state.iteration == 0


def test_the_log_of_an_epoch_has_the_time_spent_waiting_for_data(
    phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    log.set_level(logging.INFO)
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path).run()
    percents = [int(percent) for percent in re.findall(r"waiting for data (\d+) %", log.text)]
    assert len(percents) == 2 and all(0 <= percent <= 100 for percent in percents)
