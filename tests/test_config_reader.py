"""Knobs are read from the YAML; their values are collected from a config that is being resolved."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from brats3d.bundle import config_files
from brats3d.config_reader import config_text, knob_values, read_knobs

TRAIN = """# A recipe.

# --- data ---
folder: null  # with the cases
size: [1, 2]  # of a patch
# --- how ---
rate: "$0.1 * 2"  # of learning
fast: true  # or not

plain: 3
part:
  nested: 1  # is no knob
  rate: "@rate"
"""
OVERLAY = """unused: [folder, fast]  # a note
rate: 5  # of learning, in the overlay
extra: 1  # only here
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a config and an overlay."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text(TRAIN)
    (tmp_path / "configs" / "overlay.yaml").write_text(OVERLAY)
    return tmp_path


def parser(bundle: Path, **config: object) -> ConfigParser:
    built = ConfigParser({"bundle_root": str(bundle), **config})
    built.read_config(bundle / "configs" / "train.yaml")
    built.update({"bundle_root": str(bundle), **config})
    return built


def test_knobs_have_names_defaults_comments_and_groups(bundle: Path) -> None:
    knobs = read_knobs([bundle / "configs" / "train.yaml"])
    assert [(k.name, k.default, k.comment, k.group) for k in knobs] == [
        ("folder", "null", "with the cases", "data"),
        ("size", "[1, 2]", "of a patch", "data"),
        ("rate", '"$0.1 * 2"', "of learning", "how"),
        ("fast", "true", "or not", "how"),
    ]


def test_an_overlay_replaces_adds_and_removes_knobs(bundle: Path) -> None:
    knobs = read_knobs(bundle / "configs" / name for name in ("train.yaml", "overlay.yaml"))
    assert {k.name: (k.default, k.group) for k in knobs} == {
        "size": ("[1, 2]", "data"),
        "rate": ("5", "how"),
        "extra": ("1", ""),
    }


def test_values_are_those_of_the_config_that_is_resolved(bundle: Path) -> None:
    built = parser(bundle, fast=False)
    built["settings"] = {"_target_": "brats3d.config_reader.knob_values", "files": ["train.yaml"]}
    assert built.get_parsed_content("settings") == {"folder": None, "size": [1, 2], "rate": 0.2, "fast": False}


def test_a_bundle_without_a_config_file_uses_that_of_the_installed_bundle(bundle: Path, tmp_path: Path) -> None:
    built = parser(bundle)
    built.update({"bundle_root": str(tmp_path / "elsewhere"), **dict.fromkeys(_installed_knobs(), 1)})
    built["settings"] = {"_target_": "brats3d.config_reader.knob_values", "files": ["train.yaml"]}
    assert built.get_parsed_content("settings") == dict.fromkeys(_installed_knobs(), 1)


def _installed_knobs() -> list[str]:
    return [knob.name for knob in read_knobs(config_files("train"))]


def test_the_text_of_parts_includes_overrides_and_references(bundle: Path) -> None:
    def text(**config: object) -> str:
        built = parser(bundle, **config)
        built["text"] = {"_target_": "brats3d.config_reader.config_text", "ids": ["part"]}
        return built.get_parsed_content("text")

    assert text() == text()
    assert text(fast=False) == text()
    assert text(rate=3) != text()
    assert text(part={"nested": 2}) != text()


def test_a_config_text_includes_values(bundle: Path) -> None:
    def text(value: object) -> str:
        built = parser(bundle)
        built["text"] = {"_target_": "brats3d.config_reader.config_text", "ids": ["part"], "values": [value, "@rate"]}
        return built.get_parsed_content("text")

    assert text(1) == text(1) != text(2)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        ({"_target_": "Linear", "rate": "@rate"}, {"_target_": "Linear", "rate": 0.2}),
        ("$dict(rate=1)", {}),
        ("@part", {}),
    ],
)
def test_a_plain_config_has_values_in_place_of_references_and_an_expression_has_none(
    bundle: Path, config: object, plain: dict[str, object]
) -> None:
    built = parser(
        bundle, network=config, network_config={"_target_": "brats3d.config_reader.plain_config", "id_": "network"}
    )
    assert built.get_parsed_content("network_config") == plain


@pytest.mark.parametrize("call", [lambda: knob_values(["train.yaml"]), lambda: config_text(["part"])])
def test_outside_a_config_knobs_cannot_be_collected(call) -> None:
    with pytest.raises(RuntimeError, match="no config is being resolved"):
        call()
