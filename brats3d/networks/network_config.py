"""The card's key ``network``: the arguments from which the network of the weights can be built again.

It is the config of a class of ``monai.networks.nets`` with plain values, such as
``{"_target_": "UNet", "spatial_dims": 3, "in_channels": 4, ...}``. MONAI executes expressions in a config, and any
callable as a target. A card may come from anywhere, so that it may hold neither, nor a network that downloads weights.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

from monai.networks import nets
from torch import nn

_WORD = re.compile(r"[A-Za-z0-9_. -]*")
"""Text without a character that MONAI's config parser would evaluate."""


_DOWNLOADS = ("pretrained", "pretrained_url", "path_or_repo_id", "weights")
"""Arguments with which classes of ``monai.networks.nets`` download weights when they are built."""


def is_network_config(config: Any) -> bool:
    """Return True for the config of a class of ``monai.networks.nets`` whose arguments are plain JSON values.

    Networks that would download weights are refused.
    """
    if not isinstance(config, dict):
        return False
    name, arguments = config.get("_target_"), {key: value for key, value in config.items() if key != "_target_"}
    kind = getattr(nets, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module) and _is_plain(arguments)):
        return False
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    return not any({**defaults, **arguments}.get(name) for name in _DOWNLOADS)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        names = all(isinstance(key, str) and key.isidentifier() and not key.startswith("_") for key in value)
        return names and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
