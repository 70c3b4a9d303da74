"""A cross-validation that is killed and stopped ends like one that is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

KNOBS = ["--patch_size", "[32,32,32]", "--network_def#channels", "[4,8,8,8,8]", "--amp", "false", "--device", "cpu"]
KNOBS += ["--epochs", "3", "--batch_size", "1", "--val_interval", "1", "--checkpoint_minutes", "0.0001"]


def command(data: Path, output: Path, *options: str) -> list[str]:
    knobs = KNOBS if "--devices" not in options else [knob for knob in KNOBS if knob not in ("--device", "cpu")]
    return [sys.executable, "-m", "brats3d", "crossval", str(data), "--output", str(output), *knobs, *options]


def interrupt(data: Path, output: Path, fold: int, signum: int) -> int:
    """Start, send a signal once a state of a fold is saved, and return the exit code."""
    process = subprocess.Popen(command(data, output), stdout=subprocess.DEVNULL)
    while process.poll() is None and not (output / f"fold{fold}" / "checkpoints" / "last.pt").is_file():
        time.sleep(0.01)
    process.send_signal(signum)
    return process.wait()


def assert_same(output: Path, whole: Path) -> None:
    for pattern in ("metrics.*", "ensemble.json", "fold*/metrics.json", "fold*/checkpoints/best.*"):
        names = [path.relative_to(whole) for path in whole.glob(pattern)]
        assert names
        for name in names:
            assert (output / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from brats3d.phantoms import write_phantoms

    folder = tmp_path_factory.mktemp("data") / "cases"
    write_phantoms(folder, cases=3, seed=3, size="small", progress=False)
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "crossval"
    subprocess.run(command(data, output), check=True)
    return output


def test_a_cross_validation_that_was_killed_and_stopped_has_the_same_results(
    data: Path, whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    output = tmp_path / "crossval"
    assert interrupt(data, output, 0, signal.SIGKILL) == -signal.SIGKILL
    assert interrupt(data, output, 1, signal.SIGTERM) == 143
    assert not (output / "metrics.json").exists()
    subprocess.run(command(data, output), check=True)
    assert_same(output, whole)
    assert (output / "report.html").is_file()
    code, out, _ = run("compare", output / "metrics.json", whole / "metrics.json")
    assert code == 0 and "3 cases" in out


def test_folds_side_by_side_have_the_same_results(data: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "crossval"
    subprocess.run(command(data, output, "--devices", "cpu,cpu"), check=True)
    assert_same(output, whole)
    assert "finished: best mean Dice" in (output / "fold2" / "log.txt").read_text()


def test_processes_side_by_side_save_and_stop_when_the_call_is_killed(data: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "crossval"
    process = subprocess.Popen(command(data, output, "--devices", "cpu,cpu", "--epochs", "500"))
    logs = [output / f"fold{fold}" / "log.txt" for fold in (0, 1)]
    while not all((log.parent / "checkpoints" / "last.pt").is_file() for log in logs):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while not all("stopped (SIGTERM) and saved" in log.read_text() for log in logs):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_ensemble_predicts(
    data: Path, whole: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run("predict", data, "--output", tmp_path / "out", "--checkpoint", whole, "--device", "cpu")
    assert code == 0, err
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3
    assert len(json.loads((whole / "ensemble.json").read_text())["members"]) == 3
