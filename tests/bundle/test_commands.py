"""The documented commands in processes of their own: from another folder, on two processes, from an installed wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.bundle import installed_bundle

pytestmark = pytest.mark.slow

CONFIGS = installed_bundle() / "configs"
CHECKOUT = Path(__file__).resolve().parents[2]
TINY = [
    "--patch_size", "[32,32,32]", "--window", "[48,48,48]", "--network_def#channels", "[4,8,8,8,8]",
    "--epochs", "1", "--device", "cpu",
]  # fmt: skip


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command to its end and return its output; fail with the output if the command fails."""
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_plain_monai_commands_from_any_folder(phantoms: Path, tmp_path: Path) -> None:
    bundle_run = (sys.executable, "-m", "monai.bundle", "run")
    both = f"['{CONFIGS / 'train.yaml'}','{CONFIGS / 'evaluate.yaml'}']"
    printed = run(
        *bundle_run, "training", "--config_file", CONFIGS / "train.yaml", "--dataset_dir", phantoms, *TINY, cwd=tmp_path
    )
    assert "finished: best mean Dice" in printed
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}
    assert "where present" in run(*bundle_run, "--config_file", both, "--dataset_dir", phantoms, *TINY, cwd=tmp_path)
    run(
        *bundle_run, "--config_file", CONFIGS / "inference.yaml", "--dataset_dir", phantoms, "--output_dir", "out",
        "--checkpoint", "runs/fold0/checkpoints/best.pt", *TINY[2:6], cwd=tmp_path,
    )  # fmt: skip
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "out"}


def test_the_id_run_trains_too(phantoms: Path, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "monai.bundle", "run", "--config_file", CONFIGS / "train.yaml")
    assert "finished: best" in run(*command, "--dataset_dir", phantoms, *TINY, cwd=tmp_path)


def test_two_processes_train_an_epoch(phantoms: Path, tmp_path: Path) -> None:
    both = f"['{CONFIGS / 'train.yaml'}','{CONFIGS / 'multi_gpu_train.yaml'}']"
    options = TINY[:-2]  # the device is the process's own
    printed = run(
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle",
        "run", "training", "--config_file", both, "--dataset_dir", phantoms, *options, cwd=tmp_path,
        CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert printed.count("epoch 1/1") == 1, "the first process alone reports"
    scores = json.loads((tmp_path / "runs" / "fold0" / "metrics.json").read_text())
    assert len(scores["rows"]) == 3, "one validation case, though both processes scored it"
    card = json.loads((tmp_path / "runs" / "fold0" / "checkpoints" / "best.json").read_text())
    assert card["iteration"] == 1  # 3 cases, 2 processes, batches of 2


def test_shipped_weights_segment_a_full_size_case(tmp_path: Path) -> None:
    run(sys.executable, "-m", "brats3d", "phantom", "data", "--cases", 1, "--seed", 5, cwd=tmp_path)
    run(sys.executable, "-m", "brats3d", "predict", "data", "--output", "out", "--preview", cwd=tmp_path)
    seg = nib.load(tmp_path / "out" / "BraTS20_Training_001.nii.gz")
    ref = nib.load(tmp_path / "data" / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz")
    assert seg.shape == (240, 240, 155)
    np.testing.assert_array_equal(seg.affine, ref.affine)
    labels = np.asanyarray(seg.dataobj)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2, 4}
    assert (labels > 0).any()


def test_an_installed_wheel_contains_the_bundle(phantoms: Path, tmp_path: Path) -> None:
    source = shutil.copytree(
        CHECKOUT,
        tmp_path / "source",
        ignore=shutil.ignore_patterns(".venv*", ".git", "demo", "runs", "*_cache", "dist"),
    )
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    shutil.rmtree(source)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(sys.executable, "-m", "brats3d", "where", cwd=elsewhere, PYTHONPATH=str(site)).strip()
    assert Path(where) == site / "brats3d" / "_bundle"
    for name in (
        "configs/train.yaml",
        "configs/metadata.json",
        "models/model.pt",
        "models/model.json",
        "docs/README.md",
    ):
        assert (Path(where) / name).is_file(), name
    printed = run(
        sys.executable,
        "-m",
        "brats3d",
        "train",
        phantoms,
        "--output",
        "run",
        *TINY,
        cwd=elsewhere,
        PYTHONPATH=str(site),
    )
    assert f"{where}/configs/train.yaml" in printed
    assert "finished: best mean Dice" in printed
