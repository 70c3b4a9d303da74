"""Arguments of ``brats3d crossval``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import brats3d.crossval
from brats3d.crossval import CrossValidation


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of ``cross_validate``, which does nothing."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        brats3d.crossval, "cross_validate", lambda crossval, **call: seen.update(call, crossval=crossval)
    )
    return seen


def test_knobs_go_to_every_fold_and_options_of_the_call_do_not(run, called: dict[str, Any]) -> None:
    code, _, err = run("crossval", "data", "--output", "out", "--fold", 2, "--minutes", 5, "--epochs", 3)
    assert (code, err) == (0, "")
    assert called["crossval"] == CrossValidation(Path("out"), {"dataset_dir": "data", "epochs": 3})
    assert (called["fold"], called["minutes"], called["combine"]) == (2, 5, True)


def test_without_options_all_folds_run_in_this_process(run, called: dict[str, Any]) -> None:
    assert run("crossval", "data")[0] == 0
    assert called["crossval"].output_dir == Path("runs/crossval")
    assert called["fold"] is None and called["minutes"] is None and "side_by_side" not in called


def test_each_device_gets_the_same_command(run, called: dict[str, Any]) -> None:
    assert run("crossval", "data", "--devices", "cpu,cpu", "--epochs", 3, "--config", "evaluate.yaml")[0] == 0
    started = called["side_by_side"]
    assert started.devices == ["cpu", "cpu"]
    assert started.command[:7] == [sys.executable, "-m", "brats3d", "crossval", "data", "--epochs", "3"]
    assert started.command[7:9] == ["--output", "runs/crossval"] and started.command[9].startswith("--config=")
    assert called["crossval"].knobs["device"] == "cpu"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--devices", "cpu,cpu", "--device", "cpu"], "devices: both --device and --devices are given"),
        (["--fold", "1.5"], "'1.5' is not a valid integer"),
        (["--epoch", "3"], "--epoch: unknown id; did you mean --epochs?"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    run, called: dict[str, Any], options: list[str], text: str
) -> None:
    code, _, err = run("crossval", "data", *options)
    assert code == 2 and text in err and called == {}


def test_the_help_lists_the_knobs_of_train_except_fold_which_is_an_option(run) -> None:
    options, _, knobs = run("crossval", "--help")[1].partition("Knobs: data")
    assert "--fold K" in options and "--fold" not in knobs
    train = run("train", "--help")[1].partition("Knobs: data")[2]
    assert knobs.splitlines() == [line for line in train.splitlines() if not line.startswith("  --fold ")]
