"""A training of two processes, one of which is killed, or both told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from brats3d.bundle import installed_bundle
from brats3d.cards import read_card
from brats3d.pictures import read_curves

pytestmark = pytest.mark.slow

CONFIGS = installed_bundle() / "configs"
OPTIONS = {
    "patch_size": "[32,32,32]",
    "roi_size": "[48,48,48]",
    "network_def#channels": "[4,8,8,8,8]",
    "amp": "False",
    "epochs": "8",
    "batch_size": "1",
    "val_interval": "4",
    "checkpoint_minutes": "0.001",
}
LIMIT_SECONDS = 30


@contextmanager
def training(phantoms: Path, output: Path) -> Iterator[subprocess.Popen]:
    """The command of README, with two processes on this machine's CPU."""
    files = str([str(CONFIGS / name) for name in ("train.yaml", "multi_gpu_train.yaml")])
    options = {**OPTIONS, "dataset_dir": str(phantoms), "output_dir": str(output)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command += ["monai.bundle", "run", "training", "--config_file", files]
    command += [word for name, value in options.items() for word in (f"--{name}", value)]
    log = output.with_suffix(".log").open("ab")
    process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()
        log.close()


def finish(phantoms: Path, output: Path) -> None:
    with training(phantoms, output) as process:
        assert process.wait(timeout=300) == 0, output.with_suffix(".log").read_text()[-2000:]


def wait_for_step(output: Path, step: int) -> None:
    """Until the saved state has come so far."""
    started, last = time.monotonic(), output / "checkpoints" / "last.pt"
    while not last.is_file() or read_card(last)["iteration"] < step:
        assert time.monotonic() - started < 240, output.with_suffix(".log").read_text()[-2000:]
        time.sleep(0.05)


def rank(process: subprocess.Popen, number: int) -> psutil.Process:
    (found,) = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("LOCAL_RANK") == str(number)
    ]
    return found


def network(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["network"]


@pytest.fixture(scope="module")
def whole(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("processes") / "whole"
    finish(phantoms, output)
    return output


def assert_same(run: Path, whole: Path) -> None:
    a, b = network(run), network(whole)
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert read_curves(run) == read_curves(whole)


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_is_killed_the_other_ends_and_a_restart_goes_on(
    killed: int, phantoms: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with training(phantoms, output) as process:
        wait_for_step(output, 5)
        rank(process, killed).kill()
        started = time.monotonic()
        assert process.wait(timeout=LIMIT_SECONDS) != 0
        print(f"ended {time.monotonic() - started:.1f} s after process {killed} was killed")
    said = output.with_suffix(".log").read_text()
    assert "the same command goes on from the state saved last" in said
    finish(phantoms, output)
    assert_same(output, whole)


def test_told_to_stop_all_processes_agree_on_a_step(phantoms: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with training(phantoms, output) as process:
        wait_for_step(output, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_SECONDS) != 0
    assert "stopped (SIGTERM) and saved after" in output.with_suffix(".log").read_text()
    finish(phantoms, output)
    assert_same(output, whole)


def test_two_processes_have_the_gradients_of_one_with_all_the_batch(tmp_path: Path) -> None:
    """Dice is of each sample, so that what each process sums over its share is what one sums over the batch."""
    found = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.pt"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += [str(Path(__file__).with_name("gradients.py")), str(output)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
        found.append(torch.load(output, weights_only=True))
    one, two = found
    assert one.keys() == two.keys() and len(one) > 30
    largest = max(gradient.abs().max() for gradient in one.values())
    difference = max((one[name] - two[name]).abs().max() for name in one)
    print(f"largest gradient {largest:.3g}, largest difference {difference:.3g}")
    assert largest > 0 and difference <= 1e-5 * largest
