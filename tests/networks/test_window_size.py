"""Sizes of windows and patches that the network can process, and a warning about windows unlike the patches."""

from __future__ import annotations

import json

import pytest
from monai.networks.nets import SwinUNETR, UNet
from torch import nn

from brats3d.errors import UsageError
from brats3d.networks.window_size import check_window, compare_windows, size_multiple, trained_patch_size


@pytest.mark.parametrize("size", [[32, 32, 32], (96, 128, 160)])
def test_multiples_of_16_from_32_are_valid(size):
    check_window("patch_size", size)


@pytest.mark.parametrize("size", [[16, 32, 32], [40, 48, 48], [32, 32], [32.0, 32, 32], "[32,32,32]", 32, None])
def test_other_sizes_are_refused_under_the_knobs_name(size):
    with pytest.raises(UsageError) as error:
        check_window("patch_size", size)
    assert (error.value.subject, error.value.found) == ("patch_size", size)


@pytest.mark.parametrize("window", ["foo", 128, None, [64, 64], "[64,64,64]"])
def test_a_window_is_a_brain_or_a_size(window):
    check_window("window", "brain", or_brain=True)
    with pytest.raises(UsageError) as error:
        check_window("window", window, or_brain=True)
    assert (error.value.subject, error.value.found) == ("window", window)
    assert error.value.expected.startswith("brain, or three multiples of 16")


@pytest.mark.parametrize(
    ("card", "window", "warned"),
    [
        ({}, (96, 96, 96), False),
        ({"patch_size": [96, 96, 96]}, (96, 96, 96), False),
        ({"patch_size": [64, 64, 64]}, (96, 96, 96), True),
        ({"patch_size": [64, 64, 64]}, "brain", False),
    ],
)
def test_windows_of_another_size_than_the_patches_log_a_warning(log, card, window, warned):
    compare_windows("best.pt", card, window)
    assert ('--window brain or --window "[64, 64, 64]"' in log.text) is warned


def test_the_size_of_the_training_patches_is_in_the_card(tmp_path):
    assert trained_patch_size(tmp_path / "a.pt") is None
    assert trained_patch_size(None) is None
    (tmp_path / "a.pt").touch()
    card = {"modalities": ["t1"], "regions": ["TC", "WT", "ET"], "network_def": {}}
    for more in ({}, {"patch_size": [96, 64, 96]}):
        (tmp_path / "a.json").write_text(json.dumps({**card, **more}))
        assert trained_patch_size(tmp_path / "a.pt") == more.get("patch_size")


def halving(times: int) -> UNet:
    return UNet(3, 2, 3, channels=[2] * (times + 1), strides=[2] * times, norm="INSTANCE")


@pytest.mark.parametrize(
    ("network", "multiple"),
    [(halving(2), 16), (halving(4), 16), (halving(5), 32), (halving(6), 64), (SwinUNETR(2, 3, feature_size=12), 32)],
    ids=["2 halvings", "4", "5", "6", "SwinUNETR"],
)
def test_the_multiple_follows_from_the_halvings_of_the_network(network, multiple):
    assert size_multiple(network, channels=2) == multiple


def test_a_network_that_never_runs_is_expected_to_need_16():
    assert size_multiple(nn.Linear(3, 3), channels=4) == 16


def test_a_window_must_suit_the_multiple():
    check_window("window", [64, 64, 96], multiple=32)
    for size in ([32, 64, 64], [80, 96, 96]):
        with pytest.raises(UsageError) as error:
            check_window("window", size, multiple=32)
        assert error.value.expected.startswith("three multiples of 32, each at least 64")
