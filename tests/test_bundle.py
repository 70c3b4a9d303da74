"""The folder of the bundle, and the overrides of its configs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from brats3d import bundle
from brats3d.errors import UsageError


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch):
    """Set the arguments of the command line."""
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
    "id_",
    [
        "epochs",
        "train#trainer#max_epochs",
        "train::trainer::max_epochs",
        "optimizer#betas",
        "network_def#dropout",
        "+settings",
    ],
)
def test_ids_of_the_configs_and_arguments_of_their_components_are_known(id_: str) -> None:
    assert bundle.unknown_ids([id_], bundle.config_files("train")) == []


def test_ids_of_the_settings_for_mlflow_are_known_with_tracking(arguments, log) -> None:
    configs = bundle.installed_bundle() / "configs"
    assert bundle.unknown_ids(["tracking_uri"], bundle.config_files("train"))
    given = ("run", "--config_file", configs / "train.yaml", "--experiment_name", "glioma", "--tracking")
    arguments(*given, configs / "mlflow.yaml")
    bundle.check_command_line()
    assert not log.records
    arguments(*given, "mlflow")  # those of MONAI, which fail after the first step
    with pytest.raises(UsageError) as error:
        bundle.check_command_line()
    assert error.value.subject == "tracking" and str(configs / "mlflow.yaml") in error.value.advice


@pytest.mark.parametrize(
    ("id_", "nearest"),
    [("epochz", "epochs"), ("train#trainer_", "train#trainer"), ("learningrate", "learning_rate")],
)
def test_an_unknown_id_is_an_error_that_suggests_the_nearest_known_one(id_: str, nearest: str) -> None:
    (error,) = bundle.unknown_ids([id_], bundle.config_files("train"))
    assert error.subject == f"--{id_}"
    assert error.advice == f"did you mean --{nearest}?"


@pytest.mark.parametrize("path", ["runs#1", "a::b", ["ok", "b#c"], "%x", "$x", "@x"])
def test_a_path_that_monai_would_read_as_syntax_is_an_error(path: str | list[str]) -> None:
    (error,) = bundle.misread_paths({"output_dir": path})
    assert error.subject == "output_dir"
    assert "MONAI" in str(error)


def test_expressions_and_references_are_accepted_as_paths_in_monais_command(arguments) -> None:
    config = bundle.config_files("train")[0]
    arguments("run", "--config_file", config, "--output_dir", "$'runs/' + str(@fold)", "--checkpoint", "@output_dir")
    bundle.check_command_line()


def test_unknown_ids_in_monais_command_are_warned_about(arguments, log: pytest.LogCaptureFixture) -> None:
    arguments("run", "training", "--config_file", bundle.config_files("train")[0], "--epochz", 9, "--meta_file", "x")
    bundle.check_command_line()
    (record,) = log.records
    assert record.levelname == "WARNING"
    assert "--epochz" in record.getMessage() and "--epochs" in record.getMessage()


def test_a_path_with_a_hash_in_monais_command_is_refused(arguments) -> None:
    arguments("run", "--config_file", bundle.config_files("train")[0], "--dataset_dir", "data#1")
    with pytest.raises(UsageError) as caught:
        bundle.check_command_line()
    assert caught.value.subject == "dataset_dir"


def test_the_command_line_is_quoted_for_a_shell() -> None:
    line = bundle.command_line("evaluate", {"dataset_dir": "a b", "patch_size": [1, 2, 3]})
    words = shlex.split(line)
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "--config_file"]
    assert words[-4:] == ["--dataset_dir", "a b", "--patch_size", "[1, 2, 3]"]
    assert bundle.command_line("train", {}).split()[3:5] == ["run", "training"]


@pytest.mark.parametrize("text", ["$@a['b']", "['$HOME', \"`x`\"]", r"it's \ and \$x", "it's!", "$x"])
def test_words_mean_the_same_to_a_shell(text: str) -> None:
    word = bundle.command_line("train", {"seed": text}).partition("--seed ")[2]
    assert subprocess.run(["sh", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout.decode() == text
    assert "'\"'\"'" not in word or "!" in text


def test_an_unknown_workflow_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        bundle.config_files("trian")
    assert (caught.value.subject, caught.value.found) == ("workflow", "trian")


def test_a_run_starts_by_checking_sizes_and_seeding_every_generator(arguments, monkeypatch) -> None:
    import torch

    arguments("something")
    drawn = []
    for seed in (3, 3, 4):
        bundle.prepare_run("cpu", window=[32, 32, 32], patch_size=[32, 32, 32], seed=seed)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1] != drawn[2]
    for name in ("window", "patch_size"):
        with pytest.raises(ValueError, match=name):
            bundle.prepare_run("cpu", **{"window": [32, 32, 32], name: [40, 40, 40]})


def test_knobs_that_an_overlay_lists_as_unused_are_unknown() -> None:
    errors = bundle.unknown_ids(["fold", "learning_rate", "pool"], bundle.config_files("pretrain"))
    assert [error.subject for error in errors] == ["--fold"]


def test_monais_command_repeats_the_cause_of_an_error_last(arguments, monkeypatch, capsys) -> None:
    monkeypatch.setattr("brats3d.bundle.initialize.check_knobs", lambda files: None)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    arguments("run")
    bundle.check_config(["train.yaml"])
    assert sys.excepthook is sys.__excepthook__, "only MONAI's command is changed"
    arguments("run", "--config_file", bundle.config_files("train")[0])
    bundle.check_config(["train.yaml"])
    try:
        raise RuntimeError("Failed to instantiate component") from UsageError(
            "epochs", expected="an integer", found="x"
        )
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1] == "brats3d: error: epochs: expected an integer, got 'x'"
