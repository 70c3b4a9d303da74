"""The card beside each checkpoint, a JSON of the same name: what the weights read and give, checked before it is used.

``modalities`` in order, ``regions``, ``network_def``, and optionally ``patch_size``, ``epoch``, ``scores``,
``best_metric`` (by what the best weights of a run were chosen, unrounded) and ``absent_sequences``: whether the weights
were trained with sequences left out at random, so that they serve any subset of their sequences, zeros in the place of
the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from brats3d.files import read_json
from brats3d.labels import order_modalities


def card_path(checkpoint: str | Path) -> Path:
    """Where the card of a checkpoint lies."""
    return Path(checkpoint).with_suffix(".json")


def read_card(checkpoint: str | Path) -> dict[str, Any]:
    """The card of a checkpoint, whose own file is not opened.

    Raises:
        FileNotFoundError: if the checkpoint or its card is missing.
        ValueError: if the card is damaged, lacks a key, or holds what cannot stand there.
    """
    checkpoint, path = Path(checkpoint), card_path(checkpoint)
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"checkpoint: no file {checkpoint}; train one first, or name another with --checkpoint FILE"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint: {checkpoint} has no {path.name} beside it, which says which sequences the network was "
            "trained on; copy the two files together"
        )
    try:
        card = read_json(path)
    except ValueError as error:
        raise ValueError(f"checkpoint: {path} is damaged ({error}); {_ADVICE}") from error
    if not isinstance(card, dict):
        raise ValueError(f"checkpoint: {path}: expected a mapping, got {card!r:.60}; {_ADVICE}")
    _check(card, path)
    return card


def last_good(folder: str | Path) -> str:
    """``the last good checkpoint is of epoch 7``, said where the next one cannot be written; empty without one."""
    try:
        return f"the last good checkpoint is of epoch {read_card(Path(folder) / 'last.pt')['epoch']}"
    except (ValueError, OSError, KeyError):
        return ""


def serves_absent_sequences(checkpoint: str | Path | None) -> bool:
    """Whether a checkpoint's weights serve cases that lack some of their sequences; random weights (None) do not.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_card`.
    """
    return checkpoint is not None and read_card(checkpoint).get("absent_sequences", False)


_ADVICE = "copy the card that was written with the weights beside them"


def _check(card: Mapping[str, Any], path: Path) -> None:
    for name, (is_good, expected) in _KEYS.items():
        if name not in card and name in _OPTIONAL:
            continue
        if name not in card:
            raise ValueError(f"checkpoint: {path} lacks {name!r}; expected {expected}; {_ADVICE}")
        if not is_good(card[name]):
            raise ValueError(f"checkpoint: {path}: {name!r}: expected {expected}, got {card[name]!r:.80}; {_ADVICE}")
    channels = card["network_def"].get("in_channels", len(card["modalities"]))
    if channels != len(card["modalities"]):
        raise ValueError(
            f"checkpoint: {path} names {len(card['modalities'])} modalities ({', '.join(card['modalities'])}) and a "
            f"network of {channels!r:.40} input channels; expected as many; {_ADVICE}"
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


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "modalities": (_is_modalities, 'a list of t1, t1ce, t2, flair in that order, such as ["t1", "flair"]'),
    "regions": (_is_names, 'a list such as ["TC", "WT", "ET"]'),
    "network_def": (lambda value: isinstance(value, dict), "a mapping of the network's arguments"),
    "patch_size": (_is_size, "three voxel counts, such as [128, 128, 128]"),
    "epoch": (_is_count, "a whole number"),
    "absent_sequences": (lambda value: isinstance(value, bool), "true or false"),
    "best_metric": (lambda value: isinstance(value, float) and math.isfinite(value), "a score"),
}

_OPTIONAL = ("patch_size", "epoch", "absent_sequences", "best_metric")
