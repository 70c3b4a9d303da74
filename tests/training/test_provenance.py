"""The provenance of weights on their card."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import brats3d
from brats3d.networks import save_checkpoint
from brats3d.training import provenance as provenance
from brats3d.training.provenance import Provenance, device_name, source_version
from brats3d.training.timed_schedule import TimedSchedule

SETTINGS = {"seed": 3, "device": "cpu", "checkpoint": None, "all_present": 0.5, "without_t1ce": 0.15}


def made(schedule: TimedSchedule | None = None, **settings: Any) -> Provenance:
    schedule = schedule or TimedSchedule(10, 1.0, 0)
    return Provenance("pretrain.yaml", {**SETTINGS, **settings}, ["seed", "all_present"], schedule, "no patient data")


def test_the_entries_are_json_with_the_minutes_so_far():
    seconds = [0.0]
    schedule = TimedSchedule(10, 1.0, 0, now=lambda: seconds[0])
    entries = made(schedule)
    schedule.stopwatch.start()
    seconds[0] = 90
    commit, device = source_version(), device_name("cpu")
    assert json.loads(json.dumps(entries(7))) == {
        "config": "pretrain.yaml",
        "seed": 3,
        "minutes": 1.5,
        "device": device,
        "commit": commit,
        "trained_on": "no patient data",
        "absent_sequences": True,
        "stages": [
            f"7 steps, 1.5 minutes on {device}, pretrain.yaml, seed 3, all_present 0.5, commit {commit}",
        ],
    }


def test_all_sequences_always_present_is_recorded():
    assert made(all_present=0.8, without_t1ce=0.2)(1)["absent_sequences"] is False


@pytest.mark.parametrize(
    ("known", "stages", "trained_on"),
    [
        ({"stages": ["a", "b"], "trained_on": "no patient data"}, ["a", "b"], "no patient data"),
        ({"stages": ["a"], "trained_on": "11 patients"}, ["a"], "11 patients; no patient data"),
        ({"iteration": 5}, ["5 steps, {0}"], "the data of {0}; no patient data"),
        ({}, ["an unknown number of steps, {0}"], "the data of {0}; no patient data"),
    ],
)
def test_a_warm_start_keeps_the_history_of_its_weights(
    known: dict[str, Any], stages: list[str], trained_on: str, tmp_path: Path
):
    start = tmp_path / "start.pt"
    card = {"modalities": ["t1"], "regions": ["TC", "WT", "ET"], "network_def": {}, **known}
    save_checkpoint(start, {}, card)
    run = made(checkpoint=str(start))
    saved = run.state_dict()
    start.unlink()
    resumed = made(checkpoint=str(start))
    resumed.load_state_dict(saved)
    for entries in (run(7), resumed(8)):
        assert entries["stages"][:-1] == [stage.format(start) for stage in stages]
        assert entries["trained_on"] == trained_on.format(start)


def test_a_processor_is_named_with_its_threads():
    assert device_name("cpu").endswith(f", {torch.get_num_threads()} threads")
    assert not device_name("cpu").startswith(",")


def test_the_version_outside_a_source_tree_is_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(brats3d, "__file__", str(tmp_path / "site-packages" / "brats3d" / "__init__.py"))
    assert source_version() == f"brats3d {brats3d.__version__}"


def test_the_version_in_a_source_tree_is_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(brats3d, "__file__", str(tmp_path / "brats3d" / "__init__.py"))
    assert source_version() == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "a").write_text("2")
    assert source_version().endswith("-dirty")


def test_a_source_tree_without_working_git_has_the_package_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".git").write_text("gitdir: nowhere")
    monkeypatch.setattr(brats3d, "__file__", str(tmp_path / "brats3d" / "__init__.py"))
    assert source_version() == f"brats3d {brats3d.__version__}"


def test_without_a_processor_name_its_architecture_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(provenance.Path, "read_text", lambda *_, **more: (_ for _ in ()).throw(OSError()))
    assert device_name("cpu").split(",")[0]
