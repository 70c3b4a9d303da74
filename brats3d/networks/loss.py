"""The training loss: MONAI's DiceLoss, and beside it a binary cross-entropy a region."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn


class DiceBCELoss(nn.Module):
    """DiceLoss over the regions plus ``bce_weight`` times the mean binary cross-entropy.

    Dice alone leaves false positives nearly free and gives little gradient for a region that is absent from the patch.
    MONAI's ``DiceCELoss(sigmoid=True)`` is no substitute: over several channels it takes a softmax cross-entropy, which
    is wrong for regions that overlap.

    Args:
        bce_weight: weight of the cross-entropy; 0 is MONAI's DiceLoss alone.
        smooth: added to Dice's numerator and denominator (``smooth_nr``, ``smooth_dr``), so that a region absent from
            reference and prediction costs nothing.
        batch: take Dice over the whole batch rather than a sample at a time.

    Source: Milletari et al., V-Net, 3DV 2016; Isensee et al., "nnU-Net for Brain Tumor Segmentation", BrainLes 2020,
    who train BraTS's regions with Dice and binary cross-entropy.

    Raises:
        ValueError: if ``bce_weight`` is negative.
    """

    def __init__(self, bce_weight: float = 1.0, smooth: float = 1.0, batch: bool = False) -> None:
        super().__init__()
        if bce_weight < 0:
            raise ValueError(f"bce_weight: expected 0 or more, got {bce_weight}")
        self.dice = DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth, batch=batch)
        self.bce_weight = bce_weight

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            logits: shape (B, 3, H, W, D).
            target: {0, 1} of any dtype, shape (B, 3, H, W, D).
        """
        target = target.to(logits.dtype)
        loss = self.dice(logits, target)
        if self.bce_weight:
            loss = loss + self.bce_weight * nn.functional.binary_cross_entropy_with_logits(logits, target)
        return loss
