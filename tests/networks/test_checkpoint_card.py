"""The card beside a checkpoint: required keys, valid values, and the description of a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.networks.nets import UNet

from brats3d.errors import DataError, NotFoundError
from brats3d.networks.checkpoint_card import card_path, describe_network, read_card, supports_absent_sequences

GOOD = {
    "modalities": ["t1", "t2", "flair"],
    "regions": ["TC", "WT", "ET"],
    "network_def": {"class": "UNet", "in_channels": 3},
}


@pytest.fixture
def write(tmp_path: Path):
    """Write a card beside an empty checkpoint, and return the checkpoint."""

    def card(content: object) -> Path:
        path = tmp_path / "model.pt"
        path.touch()
        card_path(path).write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return card


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as error:
        read_card(path)
    assert error.value.subject == str(card_path(path)) and "\n" not in str(error.value)
    assert "copy the card" in error.value.advice
    return error.value


@pytest.mark.parametrize("more", [{}, {"patch_size": [128, 128, 96], "epoch": 0, "absent_sequences": True, "note": []}])
def test_a_valid_card_is_read_with_its_optional_and_unknown_keys(write, more):
    assert read_card(write({**GOOD, **more})) == {**GOOD, **more}


@pytest.mark.parametrize("name", list(GOOD))
def test_a_missing_key_is_named(write, name):
    assert refusal(write({k: v for k, v in GOOD.items() if k != name})).problem == f"'{name}' is missing"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("modalities", "t1", "a list of t1, t1ce, t2, flair in that order"),
        ("modalities", ["flair", "t1", "t2"], "in that order"),
        ("modalities", ["t1", "t2", "t2f"], "a list of t1, t1ce, t2, flair"),
        ("modalities", ["t1", "t1", "t2"], "a list of"),
        ("modalities", [], "a list of"),
        ("modalities", [1, None, {}], "a list of"),
        ("modalities", 3, "a list of"),
        ("regions", "TC", "a list such as"),
        ("network_def", ["UNet"], "a mapping"),
        ("patch_size", 128, "three voxel counts"),
        ("patch_size", [128, 128, 0], "three voxel counts"),
        ("patch_size", [128, 128, 96.5], "three voxel counts"),
        ("epoch", "seven", "a whole number"),
        ("absent_sequences", "yes", "true or false"),
        ("absent_sequences", 1, "true or false"),
        ("quality", [], "a mapping"),
    ],
)
def test_an_invalid_value_is_refused_with_the_valid_ones(write, name, value, expected):
    error = refusal(write({**GOOD, name: value}))
    assert (error.problem, error.found) == (f"invalid '{name}'", value)
    assert expected in error.expected


def test_a_different_number_of_modalities_and_input_channels_is_refused(write):
    assert (
        "3 input channels for the modalities t1, flair"
        in refusal(write({**GOOD, "modalities": ["t1", "flair"]})).problem
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00", "[" * 100_000], ids=["empty", "torn", "list", "null", "0", "deep"]
)
def test_a_file_that_is_not_a_json_mapping_is_refused(write, text):
    refusal(write(text))


def test_a_file_that_is_not_text_is_refused(write):
    path = write("")
    card_path(path).write_bytes(b"\xff\xfe")
    refusal(path)


def test_a_missing_checkpoint_and_a_missing_card_are_distinguished(write, tmp_path):
    with pytest.raises(NotFoundError) as error:
        read_card(tmp_path / "none.pt")
    assert error.value.subject == "checkpoint" and "none.pt" in error.value.problem
    path = write(GOOD)
    card_path(path).unlink()
    with pytest.raises(NotFoundError) as error:
        read_card(path)
    assert error.value.subject == "checkpoint" and "model.json" in error.value.problem


@pytest.mark.parametrize(
    ("more", "supported"), [({}, False), ({"absent_sequences": False}, False), ({"absent_sequences": True}, True)]
)
def test_the_card_states_whether_the_weights_support_absent_sequences(write, more, supported):
    assert supports_absent_sequences(write({**GOOD, **more})) is supported
    assert supports_absent_sequences(str(write({**GOOD, **more}))) is supported


def test_random_weights_do_not_support_absent_sequences():
    assert supports_absent_sequences(None) is False


def unet(in_channels: int = 4, channels=(4, 8), **options) -> UNet:
    return UNet(3, in_channels, 3, channels=channels, strides=(2,) * (len(channels) - 1), **options)


@pytest.mark.parametrize(
    ("options", "equal"),
    [({}, True), ({"in_channels": 3}, False), ({"channels": (4, 16)}, False), ({"norm": "BATCH"}, False)],
    ids=str,
)
def test_networks_are_distinguished_by_their_description(options, equal):
    description = describe_network(unet(**options))
    assert (description == describe_network(unet())) is equal
    assert json.loads(json.dumps(description)) == description
    assert description["class"].endswith("UNet")


def test_a_networks_description_is_the_same_in_training_and_in_evaluation():
    network = unet()
    assert describe_network(network.train()) == describe_network(network.eval())
