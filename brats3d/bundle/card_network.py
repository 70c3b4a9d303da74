"""The network that a checkpoint's card describes, so that its weights need no overlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from brats3d.bundle.workflow_files import config_files
from brats3d.errors import NotFoundError


def add_card_network(
    workflow: str, overrides: Mapping[str, Any], overlays: Iterable[str | Path] = ()
) -> dict[str, Any]:
    """Return the overrides of ``predict`` or ``evaluate``, with the ``network_def`` from the checkpoint's card.

    They are returned unchanged if they or an overlay set the network, if the card has none or that of the config, and
    for a training.

    Args:
        workflow: one of ``WORKFLOWS``.
        overrides: id -> value.
        overlays: config files that follow those of the workflow.

    Raises:
        DataError: if the card is damaged. A missing checkpoint is reported when its weights are loaded.
    """
    if workflow not in ("predict", "evaluate"):
        return dict(overrides)
    from monai.bundle import ConfigParser

    from brats3d.networks import read_card

    overlays = [str(file) for file in overlays]
    added = [id_ for file in overlays for id_ in ConfigParser.load_config_file(file)]
    if any(_names_network(id_) for id_ in (*overrides, *added)):
        return dict(overrides)
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in config_files(workflow, overlays)]))
    parser.update(dict(overrides))
    checkpoint, network = parser.get_parsed_content("checkpoint"), None
    if checkpoint is not None:
        with suppress(NotFoundError):
            network = read_card(checkpoint).get("network")
    if network is None:
        return dict(overrides)
    if "in_channels" in network:  # weights for absent sequences may be used with fewer
        network["in_channels"] = "$len(@modalities)"
    return dict(overrides) if network == parser["network_def"] else {**overrides, "network_def": network}


def _names_network(id_: str) -> bool:
    return id_.removeprefix("+").replace("::", "#").split("#")[0] == "network_def"
