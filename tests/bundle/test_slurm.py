"""The job files of docs/slurm, with stand-ins for SLURM's commands."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "docs" / "slurm"
SRUN = """#!/usr/bin/env bash
# one task for each node, all on this machine; the first option is the number of cores
[[ $1 == --cpus-per-task=* ]] || exit 9
shift
status=0 tasks=()
for ((node = 0; node < ${SLURM_NNODES:-1}; node++)); do "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || status=$?; done
exit "$status"
"""
SCONTROL = """#!/usr/bin/env bash
printf '%s\\n' localhost elsewhere
"""


@pytest.fixture
def submit(tmp_path: Path):
    """``submit("train.sbatch", arguments, SLURM_JOB_ID=...)``: run a job file; return its exit code and output."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(name: str, *arguments: object, **slurm: str) -> tuple[int, str]:
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **slurm}
        command = ["bash", str(JOBS / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=400)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("file", sorted(JOBS.iterdir()), ids=lambda file: file.name)
def test_job_files_are_valid_bash_with_options_before_the_commands(file: Path) -> None:
    subprocess.run(["bash", "-n", str(file)], check=True)
    text = file.read_text()
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")
    assert len(re.findall(r"^#SBATCH --[a-z-]+=\S+$", text, re.MULTILINE)) == text.count("#SBATCH ")


@pytest.mark.slow
def test_two_nodes_train_and_a_later_job_reports_the_finished_run(phantoms: Path, tmp_path: Path, submit) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    slurm = {
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_CPUS_PER_TASK": "3",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "RDZV_PORT": str(port),
    }
    slurm |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2"}
    options = ["--patch_size", "[32,32,32]", "--window", "[48,48,48]", "--network_def#channels", "[4,8,8,8,8]"]
    options += ["--epochs", "1", "--batch_size", "1", "--output_dir", tmp_path / "run"]
    code, output = submit("train.sbatch", phantoms, *options, SLURM_JOB_ID="7", **slurm)
    assert code == 0 and "finished: best mean Dice" in output, output
    assert (
        json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())["iteration"] == 2
    )  # 3 cases, by twos
    code, output = submit("train.sbatch", phantoms, *options, SLURM_JOB_ID="8", **slurm)
    assert code == 0 and "is finished: epoch 1" in output, output


@pytest.mark.slow
def test_a_job_array_segments_each_case_once(phantoms: Path, tmp_path: Path, submit) -> None:
    written = []
    for task in "12":
        slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MAX": "2", "SLURM_CPUS_PER_TASK": "1"}
        code, output = submit("predict.sbatch", phantoms, tmp_path / "out", "--window", "[32,32,32]", **slurm)
        assert code == 0, output
        written.append(set(re.findall(r"(\S+)\.nii\.gz  WT", output)))
    assert written[0].isdisjoint(written[1]) and len(written[0] | written[1]) == 4
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4


@pytest.mark.slow
def test_processes_know_their_rank_on_the_node_under_slurm(tmp_path: Path) -> None:
    script = tmp_path / "place.py"
    script.write_text(
        "import ignite.distributed as idist; from brats3d.training import distributed_device\n"
        "distributed_device(backend='gloo', timeout_hours=1)\n"
        "print(f'place {idist.get_local_rank()} of {idist.get_nproc_per_node()}', flush=True)\n"
    )
    slurm = {"SLURM_JOB_ID": "7", "SLURM_LOCALID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **slurm}
    output = subprocess.check_output(command, text=True, env=environment, timeout=120)
    assert sorted(re.findall(r"place \d of \d", output)) == ["place 0 of 2", "place 1 of 2"]
