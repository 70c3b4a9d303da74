"""Where the bundle is, and what overrides it takes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from brats3d import bundle


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch):
    """Pretend that the process was started with these arguments."""
    return lambda *given: monkeypatch.setattr(sys, "argv", ["monai.bundle", *map(str, given)])


def test_bundle_root_is_above_the_first_config_file_of_the_command_line(tmp_path: Path, arguments) -> None:
    copied = shutil.copytree(bundle.installed_bundle(), tmp_path / "other")
    for value in (
        copied / "configs" / "train.yaml",
        [str(copied / "configs" / "train.yaml"), str(copied / "configs" / "evaluate.yaml")],
        f"{copied / 'configs' / 'train.yaml'},{copied / 'configs' / 'evaluate.yaml'}",
    ):
        arguments("run", "--config_file", value)
        assert bundle.find_bundle_root() == str(copied)
    arguments("run", f"--config_file={copied / 'configs' / 'train.yaml'}")
    assert bundle.find_bundle_root() == str(copied)


def test_bundle_root_is_the_installed_bundle_without_a_config_file(arguments) -> None:
    arguments("something", "--else", 3)
    assert bundle.find_bundle_root() == str(bundle.installed_bundle())


@pytest.mark.parametrize(
    "override",
    [
        "epochs",
        "train#trainer#max_epochs",
        "train::trainer::max_epochs",
        "optimizer#betas",
        "network_def#dropout",
        "+settings",
    ],
)
def test_known_ids_pass(override: str) -> None:
    assert bundle.check_overrides({override: 1}, bundle.config_files("train")) == []


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("epochz", "epochs"), ("train#trainer_", "train#trainer"), ("learningrate", "learning_rate")],
)
def test_unknown_ids_are_named_with_the_nearest_known_one(override: str, nearest: str) -> None:
    assert bundle.check_overrides({override: 1}, bundle.config_files("train")) == [
        f"unknown id --{override}; did you mean --{nearest}?"
    ]


@pytest.mark.parametrize("path", ["runs#1", "a::b", ["ok", "b#c"], "%x", "$x", "@x"])
def test_paths_that_monai_reads_as_syntax_are_refused(path: str | list[str]) -> None:
    (problem,) = bundle.check_overrides({"output_dir": path}, bundle.config_files("train"))
    assert problem.startswith("output_dir: the path")
    assert "MONAI" in problem


def test_plain_monai_command_takes_expressions_where_paths_stand(arguments) -> None:
    config = bundle.config_files("train")[0]
    arguments("run", "--config_file", config, "--output_dir", "$'runs/' + str(@fold)", "--checkpoint", "@output_dir")
    bundle.check_command_line()


def test_plain_monai_command_warns_of_unknown_ids(arguments, log: pytest.LogCaptureFixture) -> None:
    arguments("run", "training", "--config_file", bundle.config_files("train")[0], "--epochz", 9, "--meta_file", "x")
    bundle.check_command_line()
    assert {r.getMessage() for r in log.records} == {"unknown id --epochz; did you mean --epochs?: it has no effect"}


def test_plain_monai_command_refuses_a_path_with_a_hash(arguments) -> None:
    arguments("run", "--config_file", bundle.config_files("train")[0], "--dataset_dir", "data#1")
    with pytest.raises(ValueError, match="dataset_dir: the path 'data#1'"):
        bundle.check_command_line()


def test_command_line_is_what_a_shell_takes() -> None:
    import shlex

    line = bundle.command_line("evaluate", {"dataset_dir": "a b", "patch_size": [1, 2, 3]})
    words = shlex.split(line)
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "--config_file"]
    assert words[-4:] == ["--dataset_dir", "a b", "--patch_size", "[1, 2, 3]"]
    assert bundle.command_line("train", {}).split()[3:5] == ["run", "training"]


def test_unknown_workflow_is_named() -> None:
    with pytest.raises(ValueError, match="expected one of pretrain, train, evaluate, predict, got 'trian'"):
        bundle.config_files("trian")
