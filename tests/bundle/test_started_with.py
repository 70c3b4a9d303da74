"""A run records how it was started, and the report repeats it with one command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from brats3d.bundle import installed_bundle, repeat_command, run_workflow
from brats3d.bundle.started_with import command_line_start, read_start

CONFIGS = installed_bundle() / "configs"
CHANNELS = {"network_def#channels": [4, 8, 8, 8, 8]}


def started_with(*overlays: Path, **overrides: object) -> dict[str, object]:
    return {"started_with": {"overlays": list(map(str, overlays)), "overrides": overrides}}


def test_a_run_records_its_config_files_and_the_ids_that_are_no_knobs(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    overlay = tmp_path / "my.yaml"
    overlay.write_text("epochs: 2\npatch_size: [32, 32, 32]\namp: false\n")
    knobs = {"dataset_dir": str(make_dataset()), "output_dir": str(tmp_path / "run"), "minutes": 1e-9}
    run_workflow("train", {**knobs, **CHANNELS, "device": "cpu"}, [overlay])
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert read_start(settings) == ([str(overlay)], CHANNELS)
    command = shlex.split(repeat_command("train", settings))
    assert command[:5] == ["brats3d", "train", knobs["dataset_dir"], "--output", knobs["output_dir"]]
    assert command[5:] == [f"--config={overlay}", "--minutes", "1e-09", "--network_def#channels", "[4, 8, 8, 8, 8]"]


def test_the_monai_command_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(CONFIGS / name) for name in ("train.yaml", "networks/dynunet.yaml")]
    options = ["--epochs", "3", "--bundle_root", "b", "--optimizer#eps", "1e-6"]
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "training", "--config_file", str(files), *options])
    assert read_start({"started_with": json.loads(command_line_start())}) == (files[1:], {"optimizer#eps": "1e-6"})


def test_the_command_names_a_config_of_the_bundle_briefly() -> None:
    settings = {"dataset_dir": "d", "output_dir": "o", **started_with(CONFIGS / "networks" / "dynunet.yaml")}
    assert repeat_command("crossval", settings) == "brats3d crossval d --output o --config=networks/dynunet.yaml"
    command = shlex.split(repeat_command("train", settings | {"dataset_dir": ["a", "b"]}))
    assert str(CONFIGS / "networks" / "dynunet.yaml") in command[command.index("--config_file") + 1]


def test_knobs_are_omitted_at_the_values_of_the_config_file_and_not_at_those_of_the_bundle(tmp_path: Path) -> None:
    overlay = tmp_path / "my.yaml"
    overlay.write_text("epochs: 2\nseed: 3\n")
    settings = {"dataset_dir": "d", "output_dir": "o", "epochs": 300, "seed": 3, **started_with(overlay)}
    assert repeat_command("train", settings) == f"brats3d train d --output o --config={overlay} --epochs 300"
    overlay.unlink()
    assert repeat_command("train", settings) == f"brats3d train d --output o --config={overlay} --seed 3"


@pytest.mark.parametrize("damaged", [None, [], {"overlays": 3, "overrides": {}}])
def test_other_settings_have_no_start(damaged: object) -> None:
    assert read_start({"started_with": damaged}) == ([], {})
