"""The card beside a checkpoint: what must stand there, and what is said where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats3d.networks.card import card_path, read_card, serves_absent_sequences

GOOD = {
    "modalities": ["t1", "t2", "flair"],
    "regions": ["TC", "WT", "ET"],
    "network_def": {"class": "UNet", "in_channels": 3},
}


@pytest.fixture
def write(tmp_path: Path):
    """Writes a card beside an empty checkpoint, and gives the checkpoint."""

    def card(content: object) -> Path:
        path = tmp_path / "model.pt"
        path.touch()
        card_path(path).write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return card


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as error:
        read_card(path)
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"checkpoint: {card_path(path)}")
    assert "copy the card that was written with the weights" in text
    return text


@pytest.mark.parametrize("more", [{}, {"patch_size": [128, 128, 96], "epoch": 0, "absent_sequences": True, "note": []}])
def test_a_good_card_comes_back_whatever_else_it_says(write, more):
    assert read_card(write({**GOOD, **more})) == {**GOOD, **more}


@pytest.mark.parametrize("name", list(GOOD))
def test_a_missing_key_is_named(write, name):
    assert f"lacks '{name}'" in refused(write({k: v for k, v in GOOD.items() if k != name}))


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
    ],
)
def test_a_value_of_another_kind_is_named_with_what_is_expected(write, name, value, expected):
    text = refused(write({**GOOD, name: value}))
    assert f"'{name}': expected " in text and expected in text and repr(value) in text


def test_as_many_modalities_as_input_channels(write):
    text = refused(write({**GOOD, "modalities": ["t1", "flair"]}))
    assert "names 2 modalities (t1, flair) and a network of 3 input channels" in text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00", "[" * 100_000], ids=["empty", "torn", "list", "null", "0", "deep"]
)
def test_what_is_no_json_mapping_is_refused(write, text):
    refused(write(text))


def test_what_is_no_text_is_refused(write):
    path = write("")
    card_path(path).write_bytes(b"\xff\xfe")
    refused(path)


def test_missing_files_are_told_apart(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pt; train one first"):
        read_card(tmp_path / "none.pt")
    path = write(GOOD)
    card_path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.json beside it"):
        read_card(path)


@pytest.mark.parametrize(
    ("more", "serves"), [({}, False), ({"absent_sequences": False}, False), ({"absent_sequences": True}, True)]
)
def test_weights_serve_absent_sequences_only_if_their_card_says_so(write, more, serves):
    assert serves_absent_sequences(write({**GOOD, **more})) is serves
    assert serves_absent_sequences(str(write({**GOOD, **more}))) is serves


def test_random_weights_serve_none():
    assert serves_absent_sequences(None) is False
