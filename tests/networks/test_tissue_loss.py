"""The auxiliary loss over healthy tissues."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from brats3d.errors import UsageError
from brats3d.networks.loss import DiceBCELoss
from brats3d.networks.tissue_loss import TissueLoss


@pytest.fixture(params=[0, 2])
def network(request: pytest.FixtureRequest) -> UNet:
    return UNet(3, 2, 3, (4, 8, 8), (2, 2), num_res_units=request.param, norm="INSTANCE").eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def target_of(tissue: torch.Tensor) -> torch.Tensor:
    """No region, and the same tissues (16, 16, 16) in both samples."""
    return torch.cat([torch.zeros(2, 3, 16, 16, 16), tissue.expand(2, 1, 16, 16, 16)], 1).to(torch.uint8)


def test_the_logits_and_the_weights_are_those_of_the_network_alone(network, image):
    names, loss = set(network.state_dict()), TissueLoss(DiceBCELoss(), network, weight=1)
    with torch.no_grad():
        assert torch.equal(loss.infer(image, network), network(image))
    assert set(network.state_dict()) == names
    assert set(loss.state_dict()) == {"head.weight", "head.bias"}


def test_the_entropy_of_a_constant_prediction_is_worked_out_by_hand(network, image):
    # softmax (1/2, 1/4, 1/4); every second voxel counts: a half of tissue 1 and a half of tissue 3
    loss = TissueLoss(DiceBCELoss(), network, weight=0.3)
    torch.nn.init.zeros_(loss.head.weight)
    loss.head.bias.data = torch.tensor([0.5, 0.25, 0.25]).log()
    tissue = torch.full((16, 16, 16), 2)
    tissue[::2, ::2, ::2] = 1
    tissue[::2, ::2, 8:][..., ::2] = 3
    logits, target = loss.infer(image, network), target_of(tissue)
    expected = DiceBCELoss()(logits, target[:, :3]) + 0.3 * (math.log(2) + math.log(4)) / 2
    assert loss(logits, target).item() == pytest.approx(expected.item(), abs=1e-6)


def test_voxels_without_a_tissue_do_not_count(network, image):
    loss = TissueLoss(DiceBCELoss(), network, weight=1)
    logits, tissue = loss.infer(image, network), torch.full((16, 16, 16), 2)
    nothing = loss(logits, target_of(torch.zeros(16, 16, 16)))
    assert torch.equal(nothing, DiceBCELoss()(logits, target_of(tissue)[:, :3]))
    tissue[8:] = 0
    loss(logits, target_of(tissue)).backward()
    assert loss.head.weight.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())


def test_without_weight_or_tissues_it_is_the_other_loss(network, image):
    target = target_of(torch.ones(16, 16, 16))
    for weight, channels in ((0, 4), (1, 3)):
        loss = TissueLoss(DiceBCELoss(), network, weight)
        logits = loss.infer(image, network)
        assert torch.equal(loss(logits, target[:, :channels]), DiceBCELoss()(logits, target[:, :3]))


def test_the_gradient_reaches_the_network_but_not_its_last_layer(network, image):
    loss = TissueLoss(lambda logits, target: logits.sum() * 0, network, weight=1)
    loss(loss.infer(image, network), target_of(torch.ones(16, 16, 16))).backward()
    assert not any(p.grad.any() for p in network.model[-1].parameters())
    assert next(network.model[0].parameters()).grad.any()


def test_a_copy_of_the_network_changes_no_prediction(network, image):
    loss = TissueLoss(DiceBCELoss(), network, weight=1)
    loss.infer(image, network)
    predicted = loss._predicted
    copy.deepcopy(network)(image[:1])
    network(image[:1])
    assert loss._predicted is predicted


def test_a_network_of_two_levels_has_other_features(image):
    network = UNet(3, 2, 3, (4, 8), (4,), num_res_units=2)
    loss = TissueLoss(DiceBCELoss(), network, weight=1)
    assert loss(loss.infer(image, network), target_of(torch.ones(16, 16, 16))).isfinite()


def test_other_networks_are_trained_without_tissues(image):
    network = nn.Conv3d(2, 3, 1)
    loss = TissueLoss(DiceBCELoss(), network, weight=0)
    assert torch.equal(loss.infer(image, network), network(image)) and not loss.state_dict()
    with pytest.raises(UsageError) as caught:
        TissueLoss(DiceBCELoss(), network, weight=1)
    assert caught.value.subject == "tissue_weight"


def test_a_negative_weight_is_refused(network):
    with pytest.raises(UsageError) as caught:
        TissueLoss(DiceBCELoss(), network, weight=-0.1)
    assert caught.value.subject == "tissue_weight"
