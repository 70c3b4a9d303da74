"""A full disk ends a run with one line and the last good checkpoint; with more space, the same command resumes it."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brats3d.networks.checkpoint_file import read_checkpoint

SMALL = ["--patch_size", "[32,32,32]", "--window", "[48,48,48]", "--device", "cpu", "--batch_size", "1"]
SMALL += ["--amp", "False"]  # the same numbers on every CPU
NETWORK = ["--network_def#channels", "[16,32,64,64,64]"]  # last.pt has 16 MB, best.pt 5
RUN = ["--epochs", "4", "--val_interval", "1", "--cache_dir", "None", *SMALL, *NETWORK]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``disk(megabytes)``: mount a small disk, or change its size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(megabytes: int) -> Path:
        again = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}size={megabytes}m", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a disk of a few MB cannot be mounted here: {done.stderr.strip()}")
        return place

    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("only root can mount a disk of a few MB")
    try:
        yield mount
    finally:
        if place.is_mount():
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """Fill a disk to the last byte."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (100_000, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC


@pytest.mark.slow
def test_a_run_without_space_for_the_next_checkpoint_ends_and_resumes(
    disk: Callable[[int], Path], phantoms: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    place = disk(30)  # room for one version of both files, not for two
    code, _, err = run("train", phantoms, "--output", place / "run", *RUN)
    assert code == 1
    line = err.splitlines()[-1].rpartition("brats3d: error: ")[2]
    assert line.startswith(f"{place}/run/checkpoints/")
    assert ": No space left on device, " in line
    assert line.endswith("; the last good checkpoint is of epoch 1; free some space and run the same command again")
    content, card = read_checkpoint(place / "run" / "checkpoints" / "last.pt")
    assert content["epoch"] == card["epoch"] == 1
    assert not list(place.rglob("*.tmp"))

    disk(80)
    code, _, err = run("train", phantoms, "--output", place / "run", *RUN)
    assert code == 0, err
    assert read_checkpoint(place / "run" / "checkpoints" / "last.pt")[0]["epoch"] == 4


@pytest.mark.slow
def test_a_run_whose_disk_another_program_fills_ends_and_resumes(
    disk: Callable[[int], Path], phantoms: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    place = disk(80)
    last = place / "run" / "checkpoints" / "last.json"

    def fill_after_the_first_epoch() -> None:
        while not last.exists():
            time.sleep(0.01)
        fill(place)

    other = threading.Thread(target=fill_after_the_first_epoch, daemon=True)
    other.start()
    code, _, err = run("train", phantoms, "--output", place / "run", *RUN)
    other.join(60)
    assert code == 1
    line = err.splitlines()[-1].rpartition("brats3d: error: ")[2]
    assert line.startswith(f"{place}/run/")
    assert "No space left on device" in line
    epoch = read_checkpoint(place / "run" / "checkpoints" / "last.pt")[0]["epoch"]
    assert epoch < 4
    assert f"the last good checkpoint is of epoch {epoch};" in line

    (place / "ballast").unlink()
    code, _, err = run("train", phantoms, "--output", place / "run", *RUN)
    assert code == 0, err
    assert read_checkpoint(place / "run" / "checkpoints" / "last.pt")[0]["epoch"] == 4
