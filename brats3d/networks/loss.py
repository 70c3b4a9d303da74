"""The training loss: MONAI's DiceLoss plus a binary cross-entropy for each region."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn

from brats3d.errors import UsageError


class DiceBCELoss(nn.Module):
    """DiceLoss over the regions plus ``bce_weight`` times the mean binary cross-entropy.

    Dice alone hardly penalises false positives and gives little gradient for a region that is absent from the patch.
    MONAI's ``DiceCELoss(sigmoid=True)`` is no substitute: it computes a softmax cross-entropy over the channels, which
    is wrong for overlapping regions.

    Args:
        bce_weight: weight of the cross-entropy; 0 uses MONAI's DiceLoss only.
        smooth: added to Dice's numerator and denominator (``smooth_nr``, ``smooth_dr``), so that a region absent from
            reference and prediction has a loss of 0.
        batch: compute Dice over the whole batch instead of each sample.

    Source: Milletari et al., V-Net, 3DV 2016; Isensee et al., "nnU-Net for Brain Tumor Segmentation", BrainLes 2020,
    which trains BraTS's regions with Dice and binary cross-entropy.

    Raises:
        UsageError: if ``bce_weight`` is negative.
    """

    def __init__(self, bce_weight: float = 1.0, smooth: float = 1.0, batch: bool = False) -> None:
        super().__init__()
        if bce_weight < 0:
            raise UsageError("bce_weight", expected="0 or more", found=bce_weight)
        self.dice = DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth, batch=batch)
        self.bce_weight = bce_weight

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            logits: shape (B, 3, H, W, D).
            target: {0, 1} of any dtype, shape (B, 3, H, W, D).
        """
        target = target.to(logits.dtype)
        loss = self.dice(logits, target)
        if self.bce_weight:
            loss = loss + self.bce_weight * nn.functional.binary_cross_entropy_with_logits(logits, target)
        return loss
