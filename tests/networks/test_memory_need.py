"""How much memory a network needs, counted without any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from brats3d.files import memory
from brats3d.files.memory import free_gpu_memory, free_memory, gib, total_memory, use_huge_pages
from brats3d.networks.loss import DiceBCELoss
from brats3d.networks.memory_need import HEAP_FACTOR, Counting, Need, step_need, window_need

VOXELS = 8**3
FLOAT = 4


def unet() -> UNet:
    return UNet(3, 4, 3, (4, 8, 8), (2, 2), num_res_units=2, norm="INSTANCE", act="LEAKYRELU")


def squared(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (logits * logits).sum()


def test_a_window_of_one_convolution_is_its_image_and_its_logits():
    need = window_need(nn.Conv3d(1, 3, 1), (2, 1, 8, 8, 8))
    assert need.output_shape == (2, 3, 8, 8, 8)
    assert need.total_bytes == need.small_bytes == 2 * (1 + 3) * VOXELS * FLOAT


def test_a_step_also_has_the_target_the_losss_tensors_and_the_gradients():
    need = step_need(nn.Conv3d(1, 3, 1, bias=False), squared, (1, 1, 8, 8, 8))
    # Backward of the product: image, logits, their gradient and the two terms it is summed from; target of one byte a
    # voxel; the loss and its gradient. The weights' own gradient, 12 bytes, comes when the terms are gone.
    floats = VOXELS * (1 + 3 + 3 + 3 + 3)
    assert abs(need.total_bytes - (FLOAT * floats + 3 * VOXELS)) < 3 * VOXELS * FLOAT + 16


def test_what_is_counted_without_values_is_what_the_same_step_on_tensors_takes():
    network, loss, shape = unet(), DiceBCELoss(), (2, 4, 32, 32, 32)
    with Counting() as real:
        logits = network(torch.zeros(shape))
        loss(logits, torch.zeros(logits.shape, dtype=torch.uint8)).backward()
    assert step_need(network, loss, shape).total_bytes == pytest.approx(real.peak, rel=0.05)


def test_it_grows_with_voxels_batch_and_precision():
    def need(batch, size, dtype=torch.float32):
        return step_need(unet(), DiceBCELoss(), (batch, 4, size, size, size), dtype).total_bytes

    assert need(2, 32) == pytest.approx(2 * need(1, 32), rel=0.05)
    assert need(1, 64) == pytest.approx(8 * need(1, 32), rel=0.05)
    assert 0.5 * need(1, 64) < need(1, 64, torch.bfloat16) < 0.8 * need(1, 64)  # the loss is in float32


def test_recomputed_activations_are_not_counted_twice():
    class Recomputing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.GELU()) for _ in range(8)])
            self.again = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False) if self.again else block(x)
            return x

    network = Recomputing()
    plain = step_need(network, squared, (1, 4, 16, 16, 16)).total_bytes
    network.again = True
    assert step_need(network, squared, (1, 4, 16, 16, 16)).total_bytes < 0.8 * plain


def test_network_random_numbers_and_gradients_stay_as_they_are():
    network = nn.Sequential(nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3), nn.Dropout(0.5)).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    step_need(network, squared, (2, 1, 8, 8, 8))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not network.training and all(p.grad is None for p in network.parameters())


def test_a_loss_that_looks_at_values_is_left_out():
    def looking(logits, target):
        if logits.max().item() > 1:
            raise ValueError("too large")
        return squared(logits, target)

    assert step_need(nn.Conv3d(1, 3, 1), looking, (1, 1, 8, 8, 8)).total_bytes > (1 + 3) * VOXELS * FLOAT


def test_small_blocks_leave_gaps_on_a_cpu_and_large_ones_do_not():
    large, small = Need(10**9, 0, ()), Need(10**9, 10**9, ())
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert small.on(cpu) - large.on(cpu) == (HEAP_FACTOR - 1) * 10**9
    assert small.on(gpu) == large.on(gpu) == 1.15e9


def test_a_containers_limit_bounds_what_is_free_and_what_there_is(monkeypatch, tmp_path):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=500, total=1000))
    monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(total=200))
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert (free_memory(), total_memory()) == (500, 1200)
    for name, content in {"memory.max": 300, "memory.current": 250, "memory.stat": "inactive_file 50"}.items():
        (tmp_path / name).write_text(f"{content}\n")
    assert (free_memory(), total_memory()) == (100, 300)


def test_what_the_allocator_holds_unused_is_free_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert free_gpu_memory(torch.device("cuda", 0)) == 150
    assert free_gpu_memory(torch.device("cpu")) is None


def test_gib_has_one_decimal():
    assert gib(3.96 * 2**30) == "4.0"


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="the kernel gives no huge pages"
)
def test_large_tensors_need_few_page_faults_after_huge_pages_are_asked_for():
    script = (
        "import resource, torch, monai.bundle; from brats3d.files import use_huge_pages; {}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; kept = torch.ones(4, 2**24)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    with_, without = (
        int(subprocess.check_output([sys.executable, "-c", script.format(call)], text=True, env=environment))
        for call in ("use_huge_pages()", "pass")
    )
    assert without > 60_000 or "[always]" in HUGE_PAGES.read_text()
    assert with_ < 10_000


def test_what_the_user_has_said_of_huge_pages_stays(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
