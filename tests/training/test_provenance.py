"""The provenance of weights on their card."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

import brats3d
from brats3d.training import provenance as provenance
from brats3d.training.provenance import Provenance, device_name, source_version
from brats3d.training.timed_schedule import TimedSchedule


def test_the_entries_are_json_with_the_minutes_so_far():
    seconds = [0.0]
    schedule = TimedSchedule(10, 1.0, 0, now=lambda: seconds[0])
    provenance = Provenance("pretrain.yaml", 3, "cpu", schedule, "no patient data", absent_sequences=True)
    schedule.stopwatch.start()
    seconds[0] = 90
    assert json.loads(json.dumps(provenance())) == {
        "config": "pretrain.yaml",
        "seed": 3,
        "minutes": 1.5,
        "device": device_name("cpu"),
        "commit": source_version(),
        "trained_on": "no patient data",
        "absent_sequences": True,
    }


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
