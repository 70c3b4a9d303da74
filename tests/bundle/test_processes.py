"""Runs of several processes: a training that is killed or stopped, and a folder that is segmented."""

from __future__ import annotations

import os
import shutil
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
from brats3d.networks.checkpoint_card import read_card
from brats3d.report.curves import read_curves

pytestmark = pytest.mark.slow

CONFIGS = installed_bundle() / "configs"
OPTIONS = {
    "patch_size": "[32,32,32]",
    "window": "[48,48,48]",
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
    """Start the documented command with two processes on this machine's CPU."""
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
    """Wait until the saved state has reached a step."""
    started, last = time.monotonic(), output / "checkpoints" / "last.pt"
    while not last.is_file() or read_card(last)["iteration"] < step:
        assert time.monotonic() - started < 240, output.with_suffix(".log").read_text()[-2000:]
        time.sleep(0.05)


def rank(process: subprocess.Popen, number: int) -> psutil.Process:
    (process_of_rank,) = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("LOCAL_RANK") == str(number)
    ]
    return process_of_rank


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
def test_after_one_process_is_killed_the_other_ends_and_the_run_resumes(
    killed: int, phantoms: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with training(phantoms, output) as process:
        wait_for_step(output, 5)
        rank(process, killed).kill()
        started = time.monotonic()
        assert process.wait(timeout=LIMIT_SECONDS) != 0
        print(f"ended {time.monotonic() - started:.1f} s after process {killed} was killed")
    log = output.with_suffix(".log").read_text()
    assert "run the same command again to resume from the last checkpoint" in log
    finish(phantoms, output)
    assert_same(output, whole)


def test_processes_stop_at_the_same_step(phantoms: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with training(phantoms, output) as process:
        wait_for_step(output, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_SECONDS) != 0
    assert "stopped (SIGTERM) and saved after" in output.with_suffix(".log").read_text()
    finish(phantoms, output)
    assert_same(output, whole)


def test_two_processes_have_the_gradients_of_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    """Dice is computed for each sample, so the sums over the processes' samples are those over the batch."""
    gradients = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.pt"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += [str(Path(__file__).with_name("gradients.py")), str(output)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
        gradients.append(torch.load(output, weights_only=True))
    one, two = gradients
    assert one.keys() == two.keys() and len(one) > 30
    largest = max(gradient.abs().max() for gradient in one.values())
    difference = max((one[name] - two[name]).abs().max() for name in one)
    print(f"largest gradient {largest:.3g}, largest difference {difference:.3g}")
    assert largest > 0 and difference <= 2e-5 * largest  # float32 rounding: 1.0e-5 on one CPU


# --- a folder of cases


def segment(cases: Path, output: Path, processes: int, *options: str) -> tuple[int, str]:
    """Exit code and what was printed; one process is the plain command."""
    names = ["inference.yaml", *(["multi_gpu_inference.yaml"] if processes > 1 else [])]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "monai.bundle", "run"]
    command += ["--config_file", str([str(CONFIGS / name) for name in names]), "--window", "[32,32,32]"]
    command += ["--amp", "False", "--dataset_dir", str(cases), "--output_dir", str(output), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    return done.returncode, done.stdout + done.stderr


def labels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def test_two_processes_segment_as_one_does_and_a_bad_case_stops_neither(phantoms: Path, tmp_path: Path) -> None:
    code, printed = segment(phantoms, tmp_path / "one", 1)
    assert code == 0, printed
    cases = tmp_path / "cases"
    shutil.copytree(phantoms, cases)
    bad = sorted(path for path in cases.iterdir() if path.is_dir())[
        0
    ]  # the first process's, which is done with it soon
    next(bad.glob("*flair*")).write_bytes(b"")
    code, printed = segment(cases, tmp_path / "two", 2)
    assert code != 0 and "1 of 2 cases failed (1 segmented, 0 skipped)" in printed, printed
    whole = labels(tmp_path / "one")
    assert len(whole) == 4
    del whole[f"{bad.name}.nii.gz"]
    assert labels(tmp_path / "two") == whole
    assert (tmp_path / "two" / "failures-1-of-2.json").is_file()


def test_two_processes_divide_the_shard_of_a_task(phantoms: Path, tmp_path: Path) -> None:
    segmented: dict[str, bytes] = {}
    for number in (1, 2):
        code, printed = segment(phantoms, tmp_path / "out", 2, "--shard", f"{number}/2")
        assert code == 0, printed
        assert len(labels(tmp_path / "out")) == 2 * number
        segmented |= labels(tmp_path / "out")
    records = sorted((tmp_path / "out").glob("predictions*.jsonl"))
    assert [path.name for path in records] == [f"predictions-{number}-of-4.jsonl" for number in (1, 2, 3, 4)]
    assert all(path.read_text().count("made_from") == 1 for path in records)
    assert segment(phantoms, tmp_path / "one", 1)[0] == 0
    assert labels(tmp_path / "one") == segmented


def test_more_processes_than_cases_are_refused(phantoms: Path, tmp_path: Path) -> None:
    case = sorted(path for path in phantoms.iterdir() if path.is_dir())[0]
    code, printed = segment(case, tmp_path / "out", 2)
    assert code != 0 and "nproc_per_node: expected at most 1" in printed, printed
    assert not list(tmp_path.glob("out/*"))
