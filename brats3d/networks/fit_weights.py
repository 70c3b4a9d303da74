"""Tensors of a checkpoint, made to fit a network: compared by name, cut to fewer sequences, refused if not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


def fit_weights(
    weights: Any, network: nn.Module, known: Sequence[str], wanted: Sequence[str]
) -> dict[str, torch.Tensor]:
    """The weights as the network takes them.

    Where ``wanted`` is a part of ``known``, the parameters that read the image lose the channels of the others. A
    sequence that is zero everywhere adds nothing to a convolution, so the network answers as it would to such zeros.

    Args:
        weights: name -> tensor, as loaded.
        network: for its names and shapes; it is not changed.
        known: the sequences that the weights read, in the order of their channels.
        wanted: the sequences that the network is to read, in order.

    Raises:
        ValueError: naming the first parameter that is missing, superfluous, of another shape, or not finite.
    """
    own = network.state_dict()
    if not isinstance(weights, Mapping):
        raise ValueError(f"expected tensors by name, got {type(weights).__name__}")
    if odd := [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]:
        raise ValueError(f"expected tensors by name, got {odd[0]} as {type(weights[odd[0]]).__name__}")
    if missing := [name for name in own if name not in weights]:
        raise ValueError(f"lacks {missing[0]}{_more(missing)}")
    if unknown := [name for name in weights if name not in own]:
        raise ValueError(f"the network has no {unknown[0]}{_more(unknown)}")
    fitted = {name: _cut(weights[name], value.shape, known, wanted) for name, value in own.items()}
    for name, value in own.items():
        if fitted[name].shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(weights[name].shape)}, the network's {tuple(value.shape)}")
        if n_bad := fitted[name].numel() - int(torch.isfinite(fitted[name]).sum()):
            raise ValueError(f"{name} holds {n_bad:,} values that are NaN or infinite")
    return fitted


def _cut(value: torch.Tensor, shape: torch.Size, known: Sequence[str], wanted: Sequence[str]) -> torch.Tensor:
    """Only the wanted channels of a parameter that has one for each known sequence where the network has fewer."""
    if value.ndim < 2 or len(shape) < 2 or value.shape[1] != len(known) or shape[1] != len(wanted):
        return value
    return value[:, [list(known).index(name) for name in wanted]] if set(wanted) <= set(known) else value


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
