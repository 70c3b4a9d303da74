"""Knobs are checked before anything is built; numbers and words that arrive as text are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser

from brats3d.bundle import config_files
from brats3d.config_reader import Knob, read_knobs
from brats3d.errors import UsageError
from brats3d.knob_checks import RANGES, check_knobs, check_value


def knob(name: str = "rate", default: str = "0.5") -> Knob:
    return Knob(name, default, "", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("5e-04", 5e-4), ("+1.e-3", 1e-3), (".5e0", 0.5), ("1e3", 1000), ("-2e-1", -0.2)],
)
def test_a_number_with_an_exponent_is_read(text, number):
    assert check_value(knob(), text) == number


@pytest.mark.parametrize("value", ["0,001", "1/1000", "fast", "", True, [0.1], {"a": 1}, "nan", "inf", float("nan")])
def test_a_knob_whose_default_is_a_number_must_be_one(value):
    with pytest.raises(UsageError) as caught:
        check_value(knob(), value)
    assert caught.value.subject == "rate"
    assert caught.value.expected == "a number, such as 0.5"


def test_a_threshold_may_be_one_number_for_each_region():
    threshold = knob("threshold", "$chosen")
    assert check_value(threshold, {"WT": "0.4", "ET": 0.5}) == {"WT": 0.4, "ET": 0.5}
    with pytest.raises(UsageError):
        check_value(threshold, {"WT": 4})


@pytest.mark.parametrize("value", [100, 100.0, "100", "1e2"])
def test_a_count_is_an_integer(value):
    count = check_value(knob("epochs", "300"), value)
    assert count == 100 and isinstance(count, int)


@pytest.mark.parametrize(
    ("name", "default", "value", "expected"),
    [
        ("epochs", "300", 0, "an integer from 1, such as 300"),
        ("epochs", "300", -1, "an integer from 1, such as 300"),
        ("epochs", "300", 1.5, "an integer from 1, such as 300"),
        ("num_workers", "0", "two", "an integer from 0, such as 0"),
        ("threshold", "0.5", 50, "a number above 0 and below 1, such as 0.5"),
        ("learning_rate", "0.001", "-1e-3", "a number from 0, such as 0.001"),
        ("warmup", "0.05", 1.5, "a number from 0 to 1, such as 0.05"),
        ("max_norm", "null", 0, "a number above 0"),
        ("batch_size", "$1 if cpu else 2", 0, "an integer from 1"),
    ],
)
def test_a_knob_outside_its_range_is_refused(name, default, value, expected):
    with pytest.raises(UsageError) as caught:
        check_value(knob(name, default), value)
    assert (caught.value.subject, caught.value.expected) == (name, expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overlap", 1),
        ("overlap", [0.5, 1, 0.5]),
        ("threshold", 0),
        ("threshold", 1),
        ("minutes", 0),
        ("minutes", "five"),
        ("checkpoint_minutes", -1),
        ("cache", -0.5),
        ("seed", 0.5),
        ("epoch_length", 0),
        ("val_cases", 1.5),
        ("epochs", None),
        ("batch_size", None),
        ("num_workers", None),
        ("patches_per_case", 2.5),
    ],
)
def test_a_knob_that_cannot_be_trained_with_is_refused(name, value):
    for workflow in ("train", "pretrain"):
        for each in read_knobs(config_files(workflow)):
            if each.name == name:
                with pytest.raises(UsageError) as caught:
                    check_value(each, value)
                assert caught.value.subject == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minutes", None),
        ("minutes", 0.5),
        ("max_norm", None),
        ("checkpoint_minutes", None),
        ("full_every", 0),
        ("warmup", 0),
    ],
)
def test_limits_that_are_valid_are_kept(name, value):
    (each,) = [each for each in read_knobs(config_files("train")) if each.name == name]
    assert check_value(each, value) == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_a_bool_may_be_text(text, value):
    assert check_value(knob(default="true"), text) is value


@pytest.mark.parametrize("value", ["yes please", 1, 0, None, "null", "'false'"])
def test_a_knob_whose_default_is_a_bool_must_be_one(value):
    with pytest.raises(UsageError) as caught:
        check_value(knob(default="true"), value)
    assert caught.value.expected == "true or false"


@pytest.mark.parametrize("default", ["null", "0.5", "[1, 2]", "some/folder"])
@pytest.mark.parametrize("text", ["null", "None"])
def test_null_may_be_text(default, text):
    assert check_value(knob(default=default), text) is None


def test_the_overlap_may_be_a_list() -> None:
    assert check_value(knob("overlap", "0.25"), [0, "5e-1", 0.25]) == [0, 0.5, 0.25]
    for wrong in ([0.5, 0.5], [0.5, 0.5, 2]):
        with pytest.raises(UsageError):
            check_value(knob("overlap", "0.25"), wrong)


@pytest.mark.parametrize("value", ["$1 / 2", "@other", "%other"])
@pytest.mark.parametrize("default", ["true", "0.5"])
def test_an_expression_or_a_reference_is_computed_later(default, value):
    assert check_value(knob(default=default), value) == value


def test_the_defaults_of_all_configs_are_valid() -> None:
    for name in ("train", "pretrain", "evaluate", "predict"):
        for each in read_knobs(config_files(name)):
            default = yaml.safe_load(each.default)
            value = check_value(each, default)
            assert value == default and type(value) is type(default)


def test_every_range_belongs_to_a_knob() -> None:
    names = {each.name for name in ("train", "pretrain", "predict") for each in read_knobs(config_files(name))}
    assert set(RANGES) <= names


@pytest.fixture
def resolve(tmp_path: Path) -> Any:
    """``resolve(text)``: an overlay on a small config, after its knobs have been checked."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text(
        "rate: 0.1  # of learning\nfast: true  # or not\nepochs: 300  # of training\n"
        "cache_dir: null  # a folder\nmany: [0.1, 0.2]  # numbers\n"
        "part: {_target_: builtins.dict, rate: '@rate', decay: 0.1}\n"
        "start: {_target_: brats3d.knob_checks.check_knobs, files: [train.yaml]}\n"
        "settings: {_target_: brats3d.config_reader.knob_values, files: [train.yaml]}\n"
    )

    def make(overlay: str) -> ConfigParser:
        (tmp_path / "mine.yaml").write_bytes(overlay.encode())
        parser = ConfigParser()
        parser.read_config([tmp_path / "configs" / "train.yaml", tmp_path / "mine.yaml"])
        parser["bundle_root"] = str(tmp_path)
        parser.get_parsed_content("start")
        return parser

    return make


def test_numbers_are_read_at_any_depth_of_an_overlay(resolve) -> None:
    parser = resolve("rate: 1e-3\r\nepochs: 1e2\r\nmany: [1e-3, 0.5]\r\npart#decay: 1e-5\r\nfast: 'false'\r\n")
    assert parser.get_parsed_content("part") == {"rate": 1e-3, "decay": 1e-5}
    settings = {"rate": 1e-3, "fast": False, "epochs": 100, "cache_dir": None, "many": [1e-3, 0.5]}
    assert parser.get_parsed_content("settings") == settings
    assert parser.get("rate") == 1e-3, "as config_text reads it"


def test_a_folder_whose_name_looks_like_a_number_keeps_it(resolve) -> None:
    assert resolve("cache_dir: 1e3").get_parsed_content("cache_dir") == "1e3"


def test_all_wrong_knobs_are_named_at_once(resolve) -> None:
    with pytest.raises(RuntimeError) as caught:
        resolve("rate: 0,001\nfast: maybe\nepochs: 0")
    error = caught.value.__cause__
    assert isinstance(error, UsageError)
    assert [problem.partition(":")[0] for problem in error.problems] == ["rate", "fast", "epochs"]


def test_outside_a_config_there_are_no_knobs() -> None:
    with pytest.raises(RuntimeError, match="no config"):
        check_knobs(["train.yaml"])
