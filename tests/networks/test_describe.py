"""What a run's parts were made with, in words."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose, Lambdad, RandAffined, RandFlipd, RandGaussianNoised, RandScaleIntensityd
from torch import nn

from brats3d.networks.describe import MAX_DEPTH, describe_part
from brats3d.networks.loss import DiceBCELoss


def test_what_was_given_is_shown():
    text = describe_part(RandFlipd(["image", "label"], prob=0.25, spatial_axis=1))
    assert text.startswith("RandFlipd(") and "prob=0.25" in text and "Flip(spatial_axis=1)" in text
    assert describe_part(DiceBCELoss(0.5)).startswith("DiceBCELoss(bce_weight=0.5, dice=DiceLoss(batch=False,")
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), betas=(0.8, 0.9))
    assert "betas=[0.8, 0.9]" in describe_part(optimizer)


@pytest.mark.parametrize(
    "other",
    [
        RandGaussianNoised("image", prob=0.2, std=0.05),
        RandGaussianNoised("image", prob=0.15, std=0.06),
        RandGaussianNoised("label", prob=0.15, std=0.05),
        RandScaleIntensityd("image", 0.05, prob=0.15),
    ],
)
def test_other_parts_read_otherwise(other):
    assert describe_part(other) != describe_part(RandGaussianNoised("image", prob=0.15, std=0.05))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandGaussianNoised("image", prob=1.0),
        lambda: RandScaleIntensityd("image", 0.1, prob=1.0),
        lambda: RandAffined("image", prob=1.0, rotate_range=0.3, scale_range=0.1),
        lambda: Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=0.5)]),
    ],
)
def test_use_changes_nothing(make):
    used = make()
    used.set_random_state(3)
    for _ in range(3):
        used({"image": torch.rand(1, 8, 8, 8)})
    assert describe_part(used) == describe_part(make())


def test_what_has_no_text_of_its_own_is_named_without_an_address():
    text = describe_part(Lambdad("image", torch.sigmoid))
    assert "sigmoid" in text and "0x" not in text


def test_parts_that_hold_themselves_have_an_end():
    part = Compose([])
    part.transforms = [part]
    assert describe_part(part).count("Compose") == MAX_DEPTH + 1
