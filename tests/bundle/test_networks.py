"""The networks of ``configs/networks``: each trains, and its weights segment. Here they have a few channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.networks.utils import convert_to_torchscript
from torch import nn

import brats3d
from brats3d.bundle import installed_bundle
from brats3d.networks import read_card, size_multiple

FOLDER = installed_bundle() / "configs" / "networks"
SMALL: dict[str, dict[str, Any]] = {
    "dynunet": {"filters": [4, 4, 4, 4, 8, 8]},
    "mednext": {"init_filters": 2, "blocks_down": [1] * 4, "blocks_bottleneck": 1, "blocks_up": [1] * 4},
    "resenc": {"init_filters": 2, "blocks_down": [1] * 5},
    "segresnet": {"init_filters": 4, "norm": "INSTANCE", "blocks_down": [1] * 4},
    "swinunetr": {"feature_size": 12, "depths": [1] * 4, "window_size": 2},
}
"""Arguments of each network that make it small."""

PATCH = {"dynunet": 64, "swinunetr": 64}
"""Sides of the smallest patches; 32 for other networks."""

TRACED = ("dynunet", "mednext", "swinunetr")
"""Networks that TorchScript cannot compile, but trace."""

small = pytest.mark.parametrize("name", sorted(SMALL))


@pytest.fixture
def build(workflow: Callable[..., ConfigWorkflow]) -> Callable[..., ConfigWorkflow]:
    """``build("train", "dynunet", dataset_dir=..., ...)``: an initialised workflow with a small network."""

    def make(command: str, name: str, **overrides: Any) -> ConfigWorkflow:
        ids = {f"network_def#{argument}": value for argument, value in SMALL[name].items()}
        if command != "predict":
            ids |= {"patch_size": [PATCH.get(name, 32)] * 3, "epochs": 1, "batch_size": 1}
        return workflow(command, FOLDER / f"{name}.yaml", **ids, **overrides)

    return make


def small_network(name: str) -> nn.Module:
    config = ConfigParser.load_config_files([str(FOLDER.parent / "train.yaml"), str(FOLDER / f"{name}.yaml")])
    config["network_def"] |= SMALL[name]
    return ConfigParser(config).get_parsed_content("network_def")


def test_every_overlay_is_tested_and_changes_only_the_network() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(SMALL)
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert set(yaml.safe_load(text)) == {"network_def"}
        assert f"#   brats3d train DIR --config networks/{file.name}\n" in text


@small
def test_the_sizes_that_a_network_can_process_are_found(name: str) -> None:
    assert size_multiple(small_network(name), channels=4) == PATCH.get(name, 32) // 2


@pytest.mark.parametrize("command", ["train", "predict"])
@small
def test_properties_have_the_ids_that_other_tools_expect(command, name, build, phantoms, tmp_path) -> None:
    assert build(command, name, dataset_dir=phantoms, output_dir=tmp_path / "out").check_properties() == []


@pytest.mark.slow
@small
def test_a_network_trains_and_its_weights_segment_without_the_overlay(name, build, phantoms, tmp_path) -> None:
    run, out, losses = tmp_path / "run", tmp_path / "out", []
    training = build("train", name, dataset_dir=phantoms, output_dir=run)
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"]))
    )
    training.run()
    assert len(losses) == 3 and torch.tensor(losses).isfinite().all()
    assert read_card(run / "checkpoints" / "best.pt")["network"] == {
        **yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["network_def"], "in_channels": 4, **SMALL[name]
    }  # fmt: skip
    build("evaluate", name, dataset_dir=phantoms, output_dir=run).run()
    (scored,) = (run / "segmentations").glob("*.nii.gz")
    case = phantoms / scored.name.removesuffix(".nii.gz")
    brats3d.predict(case, out, run / "checkpoints" / "best.pt", device="cpu", amp=False)
    assert (out / scored.name).read_bytes() == scored.read_bytes()


@pytest.mark.slow
@small
def test_torchscript_returns_the_same_bits_as_pytorch(name: str) -> None:
    network, image = small_network(name).eval(), torch.randn(1, 4, 64, 64, 64)
    script = convert_to_torchscript(network, inputs=image if name in TRACED else None, use_trace=name in TRACED)
    for window in (image, torch.randn(1, 4, 96, 64, 64)):
        with torch.no_grad():
            assert torch.equal(script(window), network(window))
