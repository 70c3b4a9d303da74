"""Load the weights of a checkpoint into a network, and refuse weights that do not fit.

A model that was trained on other sequences can have the right shapes and still predict garbage, so the checkpoint's
card is compared before its weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from brats3d.errors import DataError, UsageError
from brats3d.files import first_line
from brats3d.labels import REGIONS, order_modalities
from brats3d.networks.checkpoint_card import describe_network, read_card
from brats3d.networks.checkpoint_file import read_checkpoint, weights_digest
from brats3d.networks.ensemble import checkpoint_members

logger = logging.getLogger("brats3d")


def load_weights(network: nn.Module, checkpoint: str | Path | None, modalities: Sequence[str]) -> dict[str, Any]:
    """Load a checkpoint's weights into the network. Of an ensemble, all members are checked, and the first is loaded.

    Weights that were trained for absent sequences can also be loaded into a network of fewer sequences: the parameters
    that read the image then lose the channels of the others.

    Args:
        network: receives the weights, in its own precision and on its own device.
        checkpoint: a plain state dict (best.pt, model.pt), the state of a run (last.pt), or the folder of an ensemble;
            None loads nothing.
        modalities: the sequences of the network's input channels.

    Returns:
        The card; empty if nothing was loaded.

    Raises:
        NotFoundError: if the checkpoint or its card is missing.
        UsageError: if the sequences, the regions or the network differ from the card.
        DataError: if a file is damaged, or the weights do not fit the network or are not finite.
    """
    if checkpoint is None:
        return {}
    members = checkpoint_members(checkpoint)
    for member in reversed(members):
        card = load_member(network, member, modalities)
    if Path(checkpoint).is_dir():
        card = read_card(checkpoint)
        logger.info("weights: %s, an ensemble of %d networks", checkpoint, len(members))
    for member in members:
        logger.info("weights: %s, sha256 %s", member, weights_digest(member)[:12])
    known, wanted = card["modalities"], order_modalities(modalities)
    if list(wanted) != known:
        logger.info("%s: weights for %s, reduced to %s", checkpoint, ", ".join(known), ", ".join(wanted))
    return card


def load_member(network: nn.Module, checkpoint: str | Path, modalities: Sequence[str]) -> dict[str, Any]:
    """Load the weights of one file as :func:`load_weights` does, without logging it.

    No weights stay in memory beside those of the network.
    """
    content, card = read_checkpoint(checkpoint)
    known, wanted = card["modalities"], list(order_modalities(modalities))
    fewer = set(wanted) < set(known) and card.get("absent_sequences", False)
    network_def = describe_network(network)
    if fewer and "in_channels" in network_def:
        network_def["in_channels"] = len(known)
    expected = {"modalities": known if fewer else wanted, "regions": list(REGIONS), "network_def": network_def}
    refuse_mismatch(checkpoint, card, expected, _ADVICE)
    try:
        network.load_state_dict(fit_weights(content.get("network", content), network, known, wanted))
    except (RuntimeError, ValueError) as error:
        raise DataError(checkpoint, f"the weights do not fit the network ({first_line(error)})") from error
    return card


def fit_weights(
    weights: Any, network: nn.Module, known: Sequence[str], wanted: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return the weights in the shapes of the network.

    If ``wanted`` is a subset of ``known``, the parameters that read the image lose the channels of the other sequences.
    A sequence that is zero everywhere adds nothing to a convolution, so the result is the same as with such zeros.

    Args:
        weights: name -> tensor.
        network: has the expected names and shapes; it is not changed.
        known: the sequences of the weights, in the order of their channels.
        wanted: the sequences of the network, in order.

    Raises:
        ValueError: names the first parameter that is missing, unknown, of another shape, or not finite.
    """
    expected = network.state_dict()
    if not isinstance(weights, Mapping):
        raise ValueError(f"expected tensors by name, got {type(weights).__name__}")
    if others := [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]:
        raise ValueError(f"expected tensors by name, got {others[0]} as {type(weights[others[0]]).__name__}")
    if missing := [name for name in expected if name not in weights]:
        raise ValueError(f"{missing[0]}{_and_more(missing)} missing")
    if unknown := [name for name in weights if name not in expected]:
        raise ValueError(f"{unknown[0]}{_and_more(unknown)} unknown to the network")
    fitted = {name: _select(weights[name], value.shape, known, wanted) for name, value in expected.items()}
    for name, value in expected.items():
        if fitted[name].shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(value.shape)}")
        if n_bad := fitted[name].numel() - int(torch.isfinite(fitted[name]).sum()):
            raise ValueError(f"{name} has {n_bad:,} values that are NaN or infinite")
    return fitted


def refuse_mismatch(
    checkpoint: str | Path,
    card: Mapping[str, Any],
    expected: Mapping[str, Any],
    advice: str = "pass the matching --checkpoint",
) -> None:
    """Compare a checkpoint's card with the values that this run needs.

    Args:
        checkpoint: for the error message.
        card: the checkpoint's card.
        expected: key -> the value that this run needs.
        advice: for the error message.

    Raises:
        UsageError: for the first value that differs; of mappings, only the keys that differ are shown.
    """
    for name, wanted in expected.items():
        known = card.get(name)
        if known == wanted:
            continue
        if name == "modalities":
            advice = f'pass --modalities "{known}" or another --checkpoint'
        if isinstance(known, dict) and isinstance(wanted, dict):
            keys = [k for k in {**known, **wanted} if known.get(k) != wanted.get(k)]
            keys = ["class"] if "class" in keys else keys  # another class has other arguments, too
            known, wanted = {k: known.get(k) for k in keys}, {k: wanted.get(k) for k in keys}
        problem = f"{checkpoint} has {name} {known!s:.300}, this run has {wanted!s:.300}"
        raise UsageError("checkpoint", problem, advice=advice)


_ADVICE = (
    "pass the matching --checkpoint, or the overlay of its network, such as networks/dynunet.yaml, with --config "
    "(brats3d) or --config_file (python -m monai.bundle run)"
)


def _select(value: torch.Tensor, shape: torch.Size, known: Sequence[str], wanted: Sequence[str]) -> torch.Tensor:
    """Select the wanted channels of a parameter that has one for each known sequence, if the network has fewer."""
    reads_image = value.ndim >= 2 and len(shape) >= 2 and value.shape[1] == len(known) and shape[1] == len(wanted)
    if not reads_image or not set(wanted) <= set(known):
        return value
    return value[:, [list(known).index(name) for name in wanted]]


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more are" if len(names) > 1 else " is"
