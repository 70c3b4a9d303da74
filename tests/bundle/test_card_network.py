"""The network of a checkpoint's card is used for its weights, unless the user names another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from brats3d.bundle import add_card_network, installed_bundle

CONFIGS = installed_bundle() / "configs"
MEDNEXT = {"_target_": "MedNeXt", "in_channels": 4, "out_channels": 3, "init_filters": 2}
DEFAULT = {**yaml.safe_load((CONFIGS / "train.yaml").read_text())["network_def"], "in_channels": 4}


@pytest.fixture
def write(tmp_path: Path):
    """Write a card, and an empty checkpoint where a run has its best weights; return the checkpoint."""

    def card(network: dict[str, Any] | None) -> Path:
        checkpoint = tmp_path / "checkpoints" / "best.pt"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
        content = {"modalities": ["t1", "t1ce", "t2", "flair"], "regions": ["TC", "WT", "ET"], "network_def": {}}
        checkpoint.with_suffix(".json").write_text(json.dumps({**content, **({"network": network} if network else {})}))
        return checkpoint

    return card


def test_predict_and_evaluate_use_the_network_of_the_card(write, tmp_path) -> None:
    checkpoint = write(MEDNEXT)
    expected = {**MEDNEXT, "in_channels": "$len(@modalities)"}  # weights for absent sequences accept fewer
    for workflow, overrides in (
        ("predict", {"checkpoint": str(checkpoint)}),
        ("evaluate", {"output_dir": str(tmp_path)}),
    ):
        assert add_card_network(workflow, overrides) == {**overrides, "network_def": expected}
    assert add_card_network("train", {"checkpoint": str(checkpoint)}) == {"checkpoint": str(checkpoint)}


@pytest.mark.parametrize("network", [None, DEFAULT])
def test_without_a_network_or_with_the_default_one_nothing_is_added(write, network) -> None:
    overrides = {"checkpoint": str(write(network))}
    assert add_card_network("predict", overrides) == overrides


@pytest.mark.parametrize("id_", ["network_def", "network_def#channels", "network_def::act", "+network_def"])
def test_a_network_of_the_user_is_kept(write, id_) -> None:
    overrides = {"checkpoint": str(write(MEDNEXT)), id_: 1}
    assert add_card_network("predict", overrides) == overrides


def test_a_network_of_an_overlay_is_kept(write) -> None:
    overrides = {"checkpoint": str(write(MEDNEXT))}
    assert add_card_network("predict", overrides, [CONFIGS / "networks" / "dynunet.yaml"]) == overrides


def test_an_overlay_may_set_one_argument_of_the_network(write, tmp_path) -> None:
    overrides, overlay = {"checkpoint": str(write(MEDNEXT))}, tmp_path / "plan.yaml"
    overlay.write_text("network_def#channels: [4, 8, 8, 8, 8]\n")
    assert add_card_network("predict", overrides, [overlay]) == overrides


def test_a_missing_checkpoint_is_left_to_the_workflow(tmp_path) -> None:
    for workflow, overrides in (("evaluate", {"output_dir": str(tmp_path)}), ("evaluate", {"checkpoint": None})):
        assert add_card_network(workflow, overrides) == overrides
    assert add_card_network("predict", {}) == {}  # the weights of the bundle have the default network
