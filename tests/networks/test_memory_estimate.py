"""The memory that a network needs, counted without using any."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from brats3d.networks.loss import DiceBCELoss
from brats3d.networks.memory_estimate import HEAP_FACTOR, MemoryNeed, TensorCounter, step_need, window_need

VOXELS = 8**3
FLOAT = 4


def unet() -> UNet:
    return UNet(3, 4, 3, (4, 8, 8), (2, 2), num_res_units=2, norm="INSTANCE", act="LEAKYRELU")


def squared(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (logits * logits).sum()


def test_a_window_of_one_convolution_needs_its_image_and_its_logits():
    need = window_need(nn.Conv3d(1, 3, 1), (2, 1, 8, 8, 8))
    assert need.output_shape == (2, 3, 8, 8, 8)
    assert need.total_bytes == need.small_bytes == 2 * (1 + 3) * VOXELS * FLOAT


def test_a_step_also_needs_the_target_the_tensors_of_the_loss_and_the_gradients():
    need = step_need(nn.Conv3d(1, 3, 1, bias=False), squared, (1, 1, 8, 8, 8))
    # Backward of the product: image, logits, their gradient and the two terms it is summed from; target of one byte a
    # voxel; the loss and its gradient. The weights' own gradient, 12 bytes, comes when the terms are gone.
    floats = VOXELS * (1 + 3 + 3 + 3 + 3)
    assert abs(need.total_bytes - (FLOAT * floats + 3 * VOXELS)) < 3 * VOXELS * FLOAT + 16


def test_the_count_without_values_agrees_with_the_same_step_on_real_tensors():
    network, loss, shape = unet(), DiceBCELoss(), (2, 4, 32, 32, 32)
    with TensorCounter() as real:
        logits = network(torch.zeros(shape))
        loss(logits, torch.zeros(logits.shape, dtype=torch.uint8)).backward()
    assert step_need(network, loss, shape).total_bytes == pytest.approx(real.peak, rel=0.05)


def test_the_need_grows_with_voxels_batch_and_precision():
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


def test_the_network_the_random_state_and_the_gradients_are_unchanged():
    network = nn.Sequential(nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3), nn.Dropout(0.5)).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    step_need(network, squared, (2, 1, 8, 8, 8))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not network.training and all(p.grad is None for p in network.parameters())


def test_small_blocks_need_more_on_a_cpu():
    large, small = MemoryNeed(10**9, 0, ()), MemoryNeed(10**9, 10**9, ())
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert small.on(cpu) - large.on(cpu) == (HEAP_FACTOR - 1) * 10**9
    assert small.on(gpu) == large.on(gpu) == 1.15e9


def test_lower_resolutions_of_deep_supervision_are_counted():
    class Deep(nn.Conv3d):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            logits = super().forward(x)
            return [logits, nn.functional.avg_pool3d(logits, 2)]

    plain, deep = (step_need(kind(1, 3, 1), DiceBCELoss(), (1, 1, 16, 16, 16)) for kind in (nn.Conv3d, Deep))
    assert plain.total_bytes < deep.total_bytes < 1.5 * plain.total_bytes
    assert deep.output_shape == plain.output_shape == (1, 3, 16, 16, 16)
