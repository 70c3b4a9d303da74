"""Where prepared cases are kept, and who makes the batches, does not change what is learned."""

from __future__ import annotations

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
    """No room for a single case."""
    monkeypatch.setattr(datasets, "ROOM_BYTES", 10**15)


def test_from_the_disk_a_training_gives_the_weights_that_it_gives_from_memory(
    no_memory: None, trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    for run in ("cold", "warm"):
        workflow("train", dataset_dir=phantoms, output_dir=tmp_path / run, cache_dir=shared).run()
        assert_same(weights(tmp_path / run), weights(trained))
        assert (tmp_path / run / "metrics.json").read_text() == (trained / "metrics.json").read_text()
        assert not (tmp_path / run / "cache").exists()
    assert len(list(shared.rglob("*.case"))) == 4


def test_a_run_keeps_cases_under_its_own_folder_and_only_if_memory_does_not_suffice(
    no_memory: None, trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    made = workflow("train", dataset_dir=phantoms, output_dir=tmp_path, epochs=1)
    assert not list(tmp_path.iterdir())
    made.run()
    assert len(list((tmp_path / "cache").rglob("*.case"))) == 4
    assert not (trained / "cache").exists()


def test_the_plain_loader_gives_the_same_weights(
    trained: Path, phantoms: Path, workflow: Workflow, tmp_path: Path
) -> None:
    plain = {"train#dataloader#_target_": "DataLoader"}
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path, **plain).run()
    assert_same(weights(tmp_path), weights(trained))


def test_a_damaged_validation_case_is_named_before_the_first_step(
    phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    bad = Path(load_fold(data, "validation")[0]["image"][2])
    content = bad.read_bytes()
    bad.write_bytes(content[:-508] + content[-8:])  # which only shows when it is unpacked
    made = workflow("train", dataset_dir=data, output_dir=tmp_path / "run", val_interval=10, epochs=20)
    with pytest.raises(RuntimeError) as caught:
        made.run()
    assert str(bad) in str(caught.value.__cause__)
    assert made.trainer.state.iteration == 0


def test_an_epoch_says_how_long_it_waited(
    phantoms: Path, workflow: Workflow, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    log.set_level(logging.INFO)
    workflow("train", dataset_dir=phantoms, output_dir=tmp_path).run()
    shares = [int(share) for share in re.findall(r"waiting for data (\d+) %", log.text)]
    assert len(shares) == 2 and all(0 <= share <= 100 for share in shares)
