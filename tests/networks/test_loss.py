"""The training loss."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from brats3d.errors import UsageError
from brats3d.networks.loss import DiceBCELoss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets, (2, 3, 4, 4, 4)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    return logits, (torch.rand(logits.shape, generator=generator) > 0.6).float()


def test_the_loss_of_two_voxels_worked_out_by_hand():
    # probabilities 1/2 and 3/4, target 1 and 0: Dice (2 * 1/2 + 1) / (5/4 + 1 + 1) = 8/13; BCE (log 2 + log 4) / 2
    logits = torch.tensor([0.0, 3.0]).where(torch.tensor([True, False]), torch.log(torch.tensor(3.0)))
    target = torch.tensor([1.0, 0.0])
    loss = DiceBCELoss(bce_weight=2.0)(logits.view(1, 1, 2, 1, 1), target.view(1, 1, 2, 1, 1))
    assert loss.item() == pytest.approx(1 - 8 / 13 + 2 * 1.5 * torch.log(torch.tensor(2.0)).item(), abs=1e-6)


@pytest.mark.parametrize("over_batch", [False, True])
def test_with_weight_0_it_is_monais_dice_loss(batch, over_batch):
    expected = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1, batch=over_batch)(*batch)
    assert torch.equal(DiceBCELoss(bce_weight=0, batch=over_batch)(*batch), expected)


@pytest.mark.parametrize("weight", [0.5, 1, 3.0])
def test_the_weight_scales_only_the_cross_entropy(batch, weight):
    dice = DiceBCELoss(bce_weight=0)(*batch)
    cross_entropy = torch.nn.BCEWithLogitsLoss()(*batch)
    assert torch.isclose(DiceBCELoss(bce_weight=weight)(*batch), dice + weight * cross_entropy)


def test_monais_dice_ce_uses_a_softmax_over_overlapping_regions_and_this_loss_does_not(batch):
    logits, target = batch
    theirs = DiceCELoss(sigmoid=True, smooth_nr=1, smooth_dr=1)(logits, target)
    dice = DiceBCELoss(bce_weight=0)(logits, target)
    assert torch.isclose(theirs - dice, torch.nn.functional.cross_entropy(logits, target))
    probs = logits.sigmoid()
    per_region = -(target * probs.log() + (1 - target) * (1 - probs).log()).mean()
    assert torch.isclose(DiceBCELoss(bce_weight=1)(logits, target) - dice, per_region)
    assert not torch.isclose(theirs - dice, per_region, rtol=0.1)


def test_a_region_absent_from_the_patch_has_a_gradient(batch):
    logits, target = batch
    target[:, 2] = 0

    def gradient(loss: torch.nn.Module) -> torch.Tensor:
        leaf = logits.clone().requires_grad_()
        loss(leaf, target).backward()
        return leaf.grad[:, 2]

    assert (gradient(DiceLoss(sigmoid=True, smooth_nr=0)) == 0).all()  # the model zoo's setting
    assert (gradient(DiceBCELoss()) > 0).all()  # pushes every false positive down


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16])
def test_targets_can_have_any_dtype(batch, dtype):
    logits, target = batch
    assert torch.equal(DiceBCELoss()(logits, target.to(dtype)), DiceBCELoss()(logits, target))


def test_a_perfect_prediction_has_a_loss_near_0_even_with_an_absent_region():
    target = torch.zeros(1, 3, 4, 4, 4)
    target[:, :2, :2] = 1
    assert DiceBCELoss()((target - 0.5) * 100, target).item() == pytest.approx(0, abs=1e-5)


def test_a_negative_weight_is_refused():
    with pytest.raises(UsageError) as error:
        DiceBCELoss(bce_weight=-1)
    assert (error.value.subject, error.value.found) == ("bce_weight", -1)
