"""The moving average of a network's weights, which scores better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel


def average_of(network: nn.Module, decay: float = 0.999) -> AveragedModel:
    """An exponential moving average of the network, which knows how often it was updated.

    After n updates it keeps ``min(decay, (1 + n) / (10 + n))`` of itself, so that the random start is soon forgotten;
    the first update is a copy.

    Args:
        network: on its device.
        decay: share that is kept at each update, later on.

    Source: the warm-up is TensorFlow's, ``tf.train.ExponentialMovingAverage(num_updates=...)``.

    Raises:
        ValueError: if ``decay`` is not in [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"ema_decay: expected at least 0 and below 1, got {decay}")
    return AveragedModel(network, avg_fn=_kept(decay))


class AverageWeights:
    """Handler of the trainer: updates the average after every step.

    Args:
        average: of :func:`average_of`.
        network: the bare network that is trained.
    """

    def __init__(self, average: AveragedModel, network: nn.Module) -> None:
        self.average = average
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Update."""
        self.average.update_parameters(self.network)


def _kept(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    def average(averaged: torch.Tensor, current: torch.Tensor, updates: torch.Tensor | int) -> torch.Tensor:
        kept = torch.as_tensor((1 + updates) / (10 + updates)).clamp(max=decay)
        return current + (averaged - current) * kept.to(averaged)

    return average
