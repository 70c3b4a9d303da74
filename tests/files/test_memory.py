"""Free and total memory, on the CPU and on a GPU, and huge pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from brats3d.files import memory
from brats3d.files.memory import free_gpu_memory, free_memory, gib, total_memory, use_huge_pages


def test_a_containers_limit_bounds_free_and_total_memory(monkeypatch, tmp_path):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=500, total=1000))
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(total=200))
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert (free_memory(), total_memory()) == (500, 1200)
    for name, content in {"memory.max": 300, "memory.current": 250, "memory.stat": "inactive_file 50"}.items():
        (tmp_path / name).write_text(f"{content}\n")
    assert (free_memory(), total_memory()) == (100, 300)


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
