"""Weights of a checkpoint loaded into a network, refused where they do not fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from brats3d.files import first_line
from brats3d.labels import REGIONS, order_modalities
from brats3d.networks.checkpoint_file import read_checkpoint, save_checkpoint
from brats3d.networks.describe import describe_network
from brats3d.networks.fit_weights import fit_weights

logger = logging.getLogger("brats3d")


def load_weights(network: nn.Module, checkpoint: str | Path | None, modalities: Sequence[str]) -> dict[str, Any]:
    """Load a checkpoint's weights into the network, after its card has been compared with what is asked for.

    Weights that serve absent sequences also start a network of fewer sequences; see
    :func:`brats3d.networks.fit_weights`.

    Args:
        network: receives the weights, in its own precision and on its own device.
        checkpoint: a plain state dict (best.pt, model.pt) or a whole state (last.pt); None loads nothing.
        modalities: the sequences that the input channels will hold.

    Returns:
        The card; empty if nothing was loaded.

    Raises:
        FileNotFoundError: if the file or its card is missing.
        ValueError: if the sequences, the regions or the network differ, a file is damaged, or a weight is not finite.
    """
    if checkpoint is None:
        return {}
    content, card = read_checkpoint(checkpoint)
    known, wanted = card["modalities"], list(order_modalities(modalities))
    fewer = set(wanted) < set(known) and card.get("absent_sequences", False)
    network_def = describe_network(network)
    if fewer and "in_channels" in network_def:
        network_def["in_channels"] = len(known)
    expected = {"modalities": known if fewer else wanted, "regions": list(REGIONS), "network_def": network_def}
    refuse_mismatch(checkpoint, card, expected)
    try:
        network.load_state_dict(fit_weights(content.get("network", content), network, known, wanted))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"checkpoint: {checkpoint} does not fit the network ({first_line(error)})") from error
    if fewer:
        logger.info("%s reads %s; it is cut to %s", checkpoint, ", ".join(known), ", ".join(wanted))
    return card


def ship_weights(source: str | Path, target: str | Path, **more: Any) -> None:
    """Write a run's weights in half precision, as they travel with the bundle.

    Args:
        source: a ``best.pt``.
        target: such as ``bundle/models/model.pt``; its card is the source's.
        more: what else the card is to say.
    """
    content, card = read_checkpoint(source)
    halves = {name: value.half() for name, value in content.get("network", content).items()}
    save_checkpoint(target, halves, {**card, **more})


def refuse_mismatch(
    checkpoint: str | Path,
    card: Mapping[str, Any],
    wanted: Mapping[str, Any],
    advice: str = "pass the matching --checkpoint",
) -> None:
    for name, value in wanted.items():
        if card.get(name) != value:
            raise ValueError(_mismatch(checkpoint, name, card.get(name), value, advice))


def _mismatch(checkpoint: str | Path, name: str, found: Any, wanted: Any, advice: str) -> str:
    if name == "modalities":
        return (
            f"checkpoint: {checkpoint} was trained on {found}, this run gives it {wanted}; "
            f'pass --modalities "{found}" or another --checkpoint'
        )
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]
        found, wanted = {k: found.get(k) for k in keys}, {k: wanted.get(k) for k in keys}
    return f"checkpoint: {checkpoint} has {name} {found!s:.300}, this run has {wanted!s:.300}; {advice}"
