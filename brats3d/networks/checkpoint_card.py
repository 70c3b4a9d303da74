"""The card beside each checkpoint, a JSON file of the same name that describes the weights and is checked first.

A card has ``modalities`` in order, ``regions`` and ``network_def``, and optionally ``patch_size``, ``epoch``,
``scores``, ``best_metric`` (the unrounded score that chose the best weights of a run), ``absent_sequences`` (true if
the weights were trained with randomly dropped sequences, so that they work with any subset of their sequences and
zeros in place of the others), ``network`` (from which the network can be built, see
:mod:`brats3d.networks.network_config`), ``postprocessing`` (values chosen for the weights on out-of-fold predictions:
``{"threshold": {region: number}, "region_rules": {rule: ml}}``) and ``quality`` (what predicts Dice and volumes of a
segmentation and calibrates probabilities, see :class:`brats3d.quality.QualityModel`).

An ensemble is a folder with such a card, ``ensemble.json``, which also lists its ``members``: checkpoints, as paths
relative to the folder (:mod:`brats3d.networks.ensemble`). The folder is accepted wherever a checkpoint is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from brats3d.errors import DataError, NotFoundError
from brats3d.files import read_json
from brats3d.labels import order_modalities
from brats3d.networks.network_config import is_network_config

ENSEMBLE_NAME = "ensemble.json"
"""The card of an ensemble, in its folder."""


def card_path(checkpoint: str | Path) -> Path:
    """Return the path of the card of a checkpoint, or of the folder of an ensemble."""
    path = Path(checkpoint)
    return path / ENSEMBLE_NAME if path.is_dir() else path.with_suffix(".json")


def read_card(checkpoint: str | Path) -> dict[str, Any]:
    """Read the card of a checkpoint or of an ensemble; the weights are not opened.

    Args:
        checkpoint: a file, or the folder of an ensemble.

    Raises:
        NotFoundError: if the checkpoint or its card is missing.
        DataError: if the card is damaged, lacks a key, or has an invalid value.
    """
    checkpoint, path = Path(checkpoint), card_path(checkpoint)
    if checkpoint.is_dir():
        if not path.is_file():
            advice = _advice_for(checkpoint)
            raise NotFoundError("checkpoint", f"the folder {checkpoint} has no {path.name}", advice=advice)
    elif not checkpoint.is_file():
        advice = "train a network first, or pass another file with --checkpoint"
        raise NotFoundError("checkpoint", f"there is no file {checkpoint}", advice=advice)
    elif not path.is_file():
        problem = f"{checkpoint} has no card {path.name} beside it, which lists the sequences that it was trained on"
        raise NotFoundError("checkpoint", problem, advice="copy both files together")
    try:
        card = read_json(path)
    except ValueError as error:
        raise DataError(path, f"damaged ({error})", advice=_ADVICE) from error
    if not isinstance(card, dict):
        raise DataError(path, expected="a mapping", found=card, advice=_ADVICE)
    _check(card, path, optional=_OPTIONAL - {"members"} if checkpoint.is_dir() else _OPTIONAL)
    return card


def last_checkpoint_note(folder: str | Path) -> str:
    """Return ``the last good checkpoint is of epoch 7`` for an error message; an empty text if there is none."""
    try:
        return f"the last good checkpoint is of epoch {read_card(Path(folder) / 'last.pt')['epoch']}"
    except (ValueError, OSError, KeyError):
        return ""


def supports_absent_sequences(checkpoint: str | Path | None) -> bool:
    """Return True if a checkpoint's weights work with cases that lack some sequences; False for random weights (None).

    Raises:
        NotFoundError, DataError: as :func:`read_card`.
    """
    return checkpoint is not None and read_card(checkpoint).get("absent_sequences", False)


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Return the network's class and plain attributes (channels, strides, norm, ...) as JSON values."""
    plain = {k: v for k, v in vars(network).items() if not k.startswith("_") and k != "training" and _is_plain(v)}
    name = f"{type(network).__module__}.{type(network).__qualname__}"
    return json.loads(json.dumps({"class": name, **plain}))


_ADVICE = "copy the card that was written with the weights"


def _advice_for(folder: Path) -> str:
    """Return advice for a folder that is not an ensemble."""
    best = folder / "checkpoints" / "best.pt"
    return f"pass {best}" if best.is_file() else "pass a checkpoint, or the folder of a finished cross-validation"


def _check(card: Mapping[str, Any], path: Path, optional: Collection[str]) -> None:
    for name, (is_valid, expected) in _KEYS.items():
        if name not in card and name in optional:
            continue
        if name not in card:
            raise DataError(path, f"{name!r} is missing", expected=expected, advice=_ADVICE)
        if not is_valid(card[name]):
            raise DataError(path, f"invalid {name!r}", expected=expected, found=card[name], advice=_ADVICE)
    modalities = card["modalities"]
    channels = card["network_def"].get("in_channels", len(modalities))
    if channels != len(modalities):
        raise DataError(
            path,
            f"the network has {channels!r:.40} input channels for the modalities {', '.join(modalities)}",
            expected="one channel for each modality",
            advice=_ADVICE,
        )


def _is_modalities(value: Any) -> bool:
    try:
        return isinstance(value, list) and list(order_modalities(value)) == value
    except (ValueError, TypeError):
        return False


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_count(n) and n > 0 for n in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_postprocessing(value: Any) -> bool:
    """Return True for the right form; :mod:`brats3d.postprocessing` knows the valid values."""
    parts = [value.get(name) for name in ("threshold", "region_rules")] if isinstance(value, dict) else [None]
    return all(isinstance(part, dict) and all(isinstance(n, int | float) for n in part.values()) for part in parts)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return isinstance(value, (bool, int, float, str))


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "modalities": (_is_modalities, 'a list of t1, t1ce, t2, flair in that order, such as ["t1", "flair"]'),
    "regions": (_is_names, 'a list such as ["TC", "WT", "ET"]'),
    "network_def": (lambda value: isinstance(value, dict), "a mapping of the network's arguments"),
    "network": (is_network_config, "a class of monai.networks.nets and its arguments, without expressions"),
    "patch_size": (_is_size, "three voxel counts, such as [128, 128, 128]"),
    "epoch": (_is_count, "a whole number"),
    "absent_sequences": (lambda value: isinstance(value, bool), "true or false"),
    "best_metric": (lambda value: isinstance(value, float) and math.isfinite(value), "a score"),
    "members": (
        lambda value: _is_names(value) and len(value) > 0,
        'a list of checkpoints, such as ["fold0/checkpoints/best.pt"]',
    ),
    "postprocessing": (_is_postprocessing, "a mapping of threshold and region_rules to their values"),
    "quality": (lambda value: isinstance(value, dict), "a mapping of the quality model's parts"),
}

_OPTIONAL = frozenset(
    {"network", "patch_size", "epoch", "absent_sequences", "best_metric", "members", "postprocessing", "quality"}
)
