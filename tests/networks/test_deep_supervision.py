"""The loss over the resolutions that a network predicts in training."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet, MedNeXt, SegResNetDS
from torch import nn

from brats3d.networks.deep_supervision import deep_loss, split_resolutions
from brats3d.networks.loss import DiceBCELoss


def mean_error(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (logits - target).abs().mean()


def test_weights_halve_from_each_resolution_to_the_next_and_sum_to_1():
    target = torch.ones(1, 3, 8, 8, 8, dtype=torch.uint8)
    logits = [torch.full((1, 3, n, n, n), 1 + error) for n, error in ((8, 7.0), (4, 14.0), (2, 28.0))]
    # (1 * 7 + 1/2 * 14 + 1/4 * 28) / (1 + 1/2 + 1/4)
    assert deep_loss(mean_error, logits, target) == pytest.approx(12)


def test_the_target_is_resampled_by_nearest_neighbour():
    target = torch.zeros(1, 1, 4, 4, 4)
    target[:, :, :2] = 1
    seen = []
    deep_loss(lambda logits, small: seen.append(small) or logits.sum(), [torch.zeros_like(target)] * 2, target)
    deep_loss(lambda logits, small: seen.append(small) or logits.sum(), [target, torch.zeros(1, 1, 2, 2, 2)], target)
    assert torch.equal(seen[1], target)
    assert torch.equal(seen[3], torch.tensor([1.0, 0.0])[None, None, :, None, None].expand(1, 1, 2, 2, 2))


def test_a_single_resolution_is_the_loss_itself():
    logits, target = torch.randn(1, 3, 4, 4, 4), torch.ones(1, 3, 4, 4, 4, dtype=torch.uint8)
    loss = DiceBCELoss()
    assert torch.equal(
        deep_loss(loss, split_resolutions(logits.bfloat16().float()), target), loss(logits.bfloat16().float(), target)
    )


@pytest.mark.parametrize(
    ("network", "sides"),
    [
        (DynUNet(3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, [2] * 4, deep_supervision=True, deep_supr_num=2), [16] * 3),
        (MedNeXt(3, 2, 1, 3, kernel_size=3, deep_supervision=True, blocks_down=[1] * 2, blocks_up=[1] * 2), [16, 8, 4]),
        (SegResNetDS(3, 2, 1, 3, norm="INSTANCE", blocks_down=[1] * 3, dsdepth=2), [16, 8]),
        (nn.Conv3d(1, 3, 1), [16]),
    ],
    ids=["DynUNet", "MedNeXt", "SegResNetDS", "one resolution"],
)  # fmt: skip
def test_every_form_of_output_becomes_a_list_with_the_full_resolution_first(network, sides):
    image = torch.randn(2, 1, 16, 16, 16)
    outputs = split_resolutions(network.train()(image))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 3, n, n, n) for n in sides]
    deep_loss(DiceBCELoss(), outputs, torch.ones(2, 3, 16, 16, 16, dtype=torch.uint8)).backward()
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not unused
    assert split_resolutions(network.eval()(image))[0].shape == (2, 3, 16, 16, 16)


def test_logits_are_float32():
    assert [each.dtype for each in split_resolutions([torch.zeros(1, 3, 2, 2, 2, dtype=torch.bfloat16)] * 2)] == [
        torch.float32
    ] * 2
