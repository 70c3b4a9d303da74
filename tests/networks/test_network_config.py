"""The network in a checkpoint's card: only plain arguments of MONAI's networks, which execute nothing."""

from __future__ import annotations

import pytest

from brats3d.networks.network_config import is_network_config

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 4,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "norm": ["INSTANCE", {"affine": True}],
    "dropout": 0.0,
    "act": "LEAKYRELU",
    "bias": None,
}


def test_plain_arguments_of_a_network_of_monai_are_valid():
    assert is_network_config(UNET)


@pytest.mark.parametrize(
    "target",
    ["subprocess.run", "monai.networks.nets.UNet", "os", "torch.nn.Conv3d", "$UNet", "MedNeXtS", "unet", "__doc__", 3],
)
def test_other_targets_are_refused(target):
    assert not is_network_config({**UNET, "_target_": target})


@pytest.mark.parametrize(
    "value",
    [
        "$__import__('os').system('true')",
        "@device",
        "%train.yaml::device",
        "a@b",
        "lambda: 1",
        ["$1"],
        {"affine": "$1"},
        {"_target_": "torch.nn.Conv3d"},
        {"_mode_": "debug"},
        {"a b": 1},
        {1: 2},
        float("nan"),
        float("inf"),
        (1, 2),
        print,
    ],
    ids=repr,
)
def test_values_that_monai_would_evaluate_and_others_than_json_are_refused(value):
    assert not is_network_config({**UNET, "norm": value})


@pytest.mark.parametrize("name", ["_mode_", "_disabled_", "_requires_", "a#b", "+a", "$a", "channels::0"])
def test_names_with_a_meaning_for_monai_are_refused(name):
    assert not is_network_config({**UNET, name: True})


@pytest.mark.parametrize("config", [None, "UNet", [UNET], {}, {"_target_": ["UNet"]}])
def test_anything_but_a_config_is_refused(config):
    assert not is_network_config(config)


@pytest.mark.parametrize(
    ("arguments", "is_valid"),
    [
        ({"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 3, "out_channels": 3}, True),
        (
            {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 3, "out_channels": 3, "pretrained": True},
            False,
        ),
        ({"_target_": "EfficientNetBN", "model_name": "efficientnet-b0"}, False),  # pretrained by default
        ({"_target_": "EfficientNetBN", "model_name": "efficientnet-b0", "pretrained": False}, True),
        ({"_target_": "TorchVisionFCModel", "model_name": "resnet18", "weights": "DEFAULT"}, False),
    ],
)
def test_networks_that_download_weights_are_refused(arguments: dict[str, object], is_valid: bool):
    assert is_network_config(arguments) == is_valid
