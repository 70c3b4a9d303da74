"""Free and total memory, on the CPU and on a GPU, and huge pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from brats3d.files import memory
from brats3d.files.memory import (
    free_gpu_memory,
    free_memory,
    free_shared_memory,
    gib,
    total_memory,
    use_huge_pages,
)

V2 = {"memory.max": 300, "memory.current": 250, "memory.stat": "anon 9\ninactive_file 50"}
V1 = {
    "memory.limit_in_bytes": 300,
    "memory.usage_in_bytes": 250,
    "memory.stat": "inactive_file 7\ntotal_inactive_file 50",
}


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """``groups(lines, {folder: files})``: control groups of this process, on a machine of 1000 bytes, 500 free."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=500, total=1000))
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(total=200))
    monkeypatch.setattr("psutil.Process.rlimit", lambda self, kind: (-1, -1))
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUP_OF_PROCESS", tmp_path / "of_process")

    def make(lines: str, folders: dict[str, dict[str, object]]) -> None:
        (tmp_path / "of_process").write_text(lines)
        for folder, files in folders.items():
            (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (tmp_path / "cgroup" / folder / name).write_text(f"{content}\n")

    return make


@pytest.mark.parametrize(
    ("lines", "folders"),
    {
        "v2, container": ("0::/\n", {"": V2}),
        "v2, job": ("0::/slurm/job_1/step_0\n", {"slurm/job_1/step_0": V2}),
        "v2, limit above the job": ("0::/slurm/job_1/step_0\n", {"slurm/job_1": V2, "slurm/job_1/step_0": {}}),
        "v2, path of the host": ("0::/docker/0123\n", {"": V2}),
        "v2, no path": ("", {"": V2}),
        "v1, container": ("4:memory:/\n0::/\n", {"memory": V1}),
        "v1, job": ("9:cpu,memory:/slurm/job_1\n", {"memory/slurm/job_1": V1}),
        "v1, limit above the job": ("4:memory:/slurm/job_1\n", {"memory/slurm": V1, "memory/slurm/job_1": {}}),
        "v1, path of the host": ("4:memory:/docker/0123\n1:name=systemd:/\n", {"memory": V1}),
        "the lowest of several": ("0::/a/b\n", {"a": {"memory.max": 900}, "a/b": V2}),
        "the lowest is above": ("0::/a/b\n", {"a": V2, "a/b": {"memory.max": 900, "memory.current": 10}}),
        "a name with a colon": ("0::/a:b\n", {"a:b": V2}),
    }.values(),
)
def test_the_limit_of_a_container_or_job_bounds_free_and_total_memory(groups, lines, folders):
    groups(lines, folders)
    assert (free_memory(), total_memory()) == (100, 300)


@pytest.mark.parametrize(
    ("lines", "folders"),
    [
        ("", {}),
        ("0::/a\n", {"": {"memory.max": "max", "memory.current": 250}}),
        ("4:memory:/\n", {"memory": {"memory.limit_in_bytes": 9223372036854771712, "memory.usage_in_bytes": 250}}),
        ("0::/a\n", {"b": V2}),  # of another process
    ],
)
def test_without_a_limit_the_machine_counts(groups, lines, folders):
    groups(lines, folders)
    assert (free_memory(), total_memory()) == (500, 1200)


def test_a_group_that_uses_more_than_its_limit_has_no_free_memory(groups):
    groups("0::/\n", {"": {"memory.max": 300, "memory.current": 310}})
    assert free_memory() == 0


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="only Linux has this limit")
def test_a_limit_of_the_address_space_bounds_free_and_total_memory(groups, monkeypatch):
    monkeypatch.setattr("psutil.Process.rlimit", lambda self, kind: (400, 400))
    monkeypatch.setattr("psutil.Process.memory_info", lambda self: SimpleNamespace(vms=150))
    assert (free_memory(), total_memory()) == (250, 400)


def test_shared_memory_that_cannot_be_written_is_not_free(monkeypatch, tmp_path):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory, "SHARED", tmp_path)
    assert free_shared_memory() > 0
    monkeypatch.setattr(memory, "SHARED", tmp_path / "missing")
    assert free_shared_memory() == 0
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert free_shared_memory() is None


def test_memory_cached_by_pytorch_counts_as_free_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert free_gpu_memory(torch.device("cuda", 0)) == 150
    assert free_gpu_memory(torch.device("cpu")) is None


def test_gib_has_one_decimal():
    assert gib(3.96 * 2**30) == "4.0"


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="the kernel has no huge pages"
)
@pytest.mark.slow
def test_huge_pages_reduce_page_faults_of_large_tensors():
    script = (
        "import resource, torch; {}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; kept = torch.ones(4, 2**24)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script.format(call)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for call in ("from brats3d.files import use_huge_pages; use_huge_pages()", "pass")
    ]
    with_huge_pages, without = (int(process.communicate()[0]) for process in processes)
    assert without > 60_000 or "[always]" in HUGE_PAGES.read_text()
    assert with_huge_pages < 10_000


def test_the_users_own_setting_of_huge_pages_is_kept(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
