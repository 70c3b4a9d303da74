"""An exponential moving average of a network's weights, which scores better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel

from brats3d.errors import UsageError


def moving_average(network: nn.Module, decay: float = 0.999) -> AveragedModel:
    """Return an exponential moving average of the network, which counts its updates.

    Update n keeps ``min(decay, (1 + n) / (10 + n))`` of the average, so that the random start is soon forgotten. The
    first update is a copy.

    Args:
        network: on its device.
        decay: fraction of the average that late updates keep.

    Source: the warm-up is TensorFlow's, ``tf.train.ExponentialMovingAverage(num_updates=...)``.

    Raises:
        UsageError: if ``decay`` is not in [0, 1).
    """
    if not 0 <= decay < 1:
        raise UsageError("ema_decay", expected="at least 0 and below 1", found=decay)
    return AveragedModel(network, avg_fn=_update_of(decay))


class AverageWeights:
    """Trainer handler that updates the average after every step.

    Args:
        average: the result of :func:`moving_average`.
        network: the bare network that is trained.
    """

    def __init__(self, average: AveragedModel, network: nn.Module) -> None:
        self.average = average
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Update the average."""
        self.average.update_parameters(self.network)


def _update_of(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    def update(average: torch.Tensor, current: torch.Tensor, updates: torch.Tensor | int) -> torch.Tensor:
        kept = torch.as_tensor((1 + updates) / (10 + updates)).clamp(max=decay)
        return current + (average - current) * kept.to(average)

    return update
