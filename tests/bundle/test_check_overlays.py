"""Overlays are checked: damaged files, and ids without an effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats3d.bundle import check_overlays, config_files, installed_bundle
from brats3d.errors import DataError, UsageError

CONFIGS = installed_bundle() / "configs"


def check(path: Path, content: str | bytes, workflow: str = "train") -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    check_overlays(config_files(workflow), [path])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("epochs: [1, 2\nfoo: 3}", "not valid YAML: expected ',' or ']', but got ':' in line 2"),
        ("a: 1\n\tb: 2", "not valid YAML"),
        ("epochs: \x07", "not valid YAML"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        ("- epochs", "expected ids and values, such as 'epochs: 100', got ['epochs']"),
        ("", "got None"),
        ("3: 4", "got {3: 4}"),
    ],
)
def test_damaged_overlays_are_one_line(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(DataError) as error:
        check(tmp_path / "my.yaml", content)
    assert problem in str(error.value) and "\n" not in str(error.value)
    assert error.value.subject == str(tmp_path / "my.yaml")


def test_an_unknown_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        check(tmp_path / "my.yaml", "epochz: 3\nbatch_size: 1")
    assert str(error.value) == f"config: {tmp_path / 'my.yaml'} has the unknown id epochz; did you mean epochs?"


def test_ids_that_a_config_has_or_refers_to_are_accepted(tmp_path: Path) -> None:
    check(
        tmp_path / "a.yaml",
        "epochs: 3\noptimizer#betas: [0.9, 0.99]\n+imports: []\nwidth: 4\npatch_size: $[@width] * 3",
    )
    check(tmp_path / "b.yaml", "network_def::channels: [4, 8, 16, 32, 64]")


@pytest.mark.parametrize("name", ["multi_gpu_train.yaml", *(f.relative_to(CONFIGS) for f in CONFIGS.glob("*/*.yaml"))])
def test_overlays_of_the_bundle_are_accepted(name: str | Path) -> None:
    check_overlays(config_files("train"), [CONFIGS / name])


@pytest.mark.parametrize("name", ["multi_gpu_inference.yaml", "inference_trt.yaml", "networks/dynunet.yaml"])
def test_overlays_for_predict_are_accepted(name: str) -> None:
    check_overlays(config_files("predict"), [CONFIGS / name])


def test_a_config_for_trainings_is_recognised_by_predict(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        check(tmp_path / "plan.yaml", "epochs: 3\nbatch_size: 1\nnetwork_def#channels: [4, 8]", "predict")
    text = "is for trainings; epochs, batch_size would have no effect here; leave the file out"
    assert str(error.value) == f"config: {tmp_path / 'plan.yaml'} {text}"
