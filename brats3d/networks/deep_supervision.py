"""Deep supervision: in training, some networks predict at lower resolutions, too, and the loss is a mean over these.

Source: Isensee et al., nnU-Net, Nature Methods 18, 2021, whose weights halve from each resolution to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.losses import DeepSupervisionLoss


def split_resolutions(output: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the logits that a network predicts in training, the full resolution first, in float32.

    Args:
        output: logits (B, C, H, W, D); or, with deep supervision, a sequence of such logits (MONAI's SegResNetDS and
            MedNeXt), or all of them resampled to the full resolution in one tensor (B, N, C, H, W, D) (DynUNet).
    """
    if isinstance(output, torch.Tensor):
        output = output.unbind(1) if output.ndim == 6 else [output]
    return [logits.float() for logits in output]


def deep_loss(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], logits: Sequence[torch.Tensor], target: torch.Tensor
) -> torch.Tensor:
    """Return the mean of a loss over resolutions, a scalar, with the weights 1, 1/2, 1/4, ...

    Args:
        loss: function of logits and target of one resolution.
        logits: the logits of each resolution, as returned by :func:`split_resolutions`.
        target: shape (B, C, H, W, D); it is resampled to each resolution by nearest neighbour.
    """
    if len(logits) == 1:
        return loss(logits[0], target)
    levels = DeepSupervisionLoss(loss)
    return levels(list(logits), target.to(logits[0].dtype)) / sum(levels.get_weights(len(logits)))
