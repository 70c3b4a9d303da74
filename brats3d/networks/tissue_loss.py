"""An auxiliary loss for training: the features of a network must also tell healthy tissues apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.nets import UNet
from torch import nn

from brats3d.errors import UsageError


class TissueLoss(nn.Module):
    """A loss of regions plus ``weight`` times the cross-entropy of healthy tissues.

    The tissues are predicted by a 1 x 1 x 1 convolution of the decoder's last feature map, at half the resolution. It
    belongs to the loss, so that the network and its weights are the same with and without it. More channels in the
    network's last layer would not do: MONAI's last residual unit convolves all output channels with each other.

    Use :meth:`infer` as the trainer's inferer: it also predicts the tissues, within the trainer's autocast.

    Args:
        loss: function of logits and target, both (B, 3, H, W, D).
        network: the network that is trained.
        weight: 0 computes only ``loss``.
        classes: number of healthy tissues.

    Source: Billot et al., "SynthSeg", Medical Image Analysis 86, 2023, learns all tissues of synthetic scans.

    Raises:
        UsageError: if ``weight`` is negative, or above 0 for another network than MONAI's UNet.
    """

    def __init__(
        self,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        network: nn.Module,
        weight: float,
        classes: int = 3,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise UsageError("tissue_weight", expected="0 or more", found=weight)
        self.loss = loss
        self.weight = weight
        self._predicted = torch.empty(0)
        if weight:
            if not isinstance(network, UNet):
                raise UsageError("tissue_weight", expected="0 for other networks than UNet", found=weight)
            last = next(part for part in _last_layer(network).modules() if isinstance(part, nn.ConvTranspose3d))
            self.head = nn.Conv3d(last.in_channels, classes, 1).to(last.weight.device)

    def infer(self, image: torch.Tensor, network: nn.Module) -> torch.Tensor:
        """Return the logits of the network, and keep those of the tissues for the loss."""
        if not self.weight:
            return network(image)
        hook = _last_layer(network).register_forward_pre_hook(self._predict)
        try:
            return network(image)
        finally:
            hook.remove()

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            logits: shape (B, 3, H, W, D).
            target: shape (B, 4, H, W, D): three regions of {0, 1}, and the tissue, from 1, or 0 in a tumour and outside
                the brain. Without the fourth channel, only ``loss`` is computed.
        """
        loss = self.loss(logits, target[:, :3])
        if not self.weight or target.shape[1] == 3:
            return loss
        tissue = nn.functional.interpolate(target[:, 3:].float(), self._predicted.shape[2:])[:, 0].long() - 1
        entropy = nn.functional.cross_entropy(self._predicted.float(), tissue, ignore_index=-1, reduction="sum")
        return loss + self.weight * entropy / (tissue >= 0).sum().clamp(min=1)

    def _predict(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._predicted = self.head(*inputs)


def _last_layer(network: nn.Module) -> nn.Module:
    return network.get_submodule("model.2")
