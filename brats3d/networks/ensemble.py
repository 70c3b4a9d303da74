"""Ensembles: a folder with a card, ``ensemble.json``, that lists checkpoints whose probabilities are averaged.

The card has the keys that its members' cards share, and ``members``: their paths, relative to the folder. The folder is
accepted wherever a checkpoint is, as in ``predict --checkpoint runs/crossval``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.errors import NotFoundError, UsageError
from brats3d.files import write_json
from brats3d.networks.checkpoint_card import card_path, read_card

SHARED = ("modalities", "regions", "network_def", "network", "patch_size")
"""Keys of a card in which the members of an ensemble must agree."""


def checkpoint_members(checkpoint: str | Path) -> list[Path]:
    """Return the checkpoints behind a path: those of an ensemble if it is a folder, else the file itself.

    Raises:
        NotFoundError: if the folder has no ``ensemble.json``, or a member is missing.
        DataError: if ``ensemble.json`` is damaged.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return [folder]
    members = [folder / name for name in read_card(folder)["members"]]
    for member in members:
        if not member.is_file():
            advice = "copy the folder with its checkpoints, or train the missing one"
            raise NotFoundError("checkpoint", f"{card_path(folder)} lists {member}, which is missing", advice=advice)
    return members


def single_checkpoint(checkpoint: str | Path | None) -> str | Path | None:
    """Return a checkpoint unchanged, and refuse an ensemble.

    Raises:
        UsageError: if the path is the folder of an ensemble.
    """
    if checkpoint is not None and Path(checkpoint).is_dir():
        members = checkpoint_members(checkpoint)
        advice = f"pass one of its members, such as {members[0]}"
        raise UsageError("checkpoint", f"{checkpoint} is an ensemble of {len(members)} networks", advice=advice)
    return checkpoint


def write_ensemble(folder: str | Path, members: Sequence[str | Path], learned: Mapping[str, Any] | None = None) -> Path:
    """Write the card of an ensemble, whole or not at all. An existing card is replaced.

    The ensemble supports absent sequences if all of its members do.

    Args:
        folder: an existing folder, in which or beside which the members are.
        members: checkpoints with their cards.
        learned: what was learned for the ensemble: ``postprocessing`` and ``quality`` of its card.

    Returns:
        The card.

    Raises:
        NotFoundError, DataError: as :func:`brats3d.networks.read_card`, for each member.
        UsageError: if there is no member, or if two have other sequences, regions, networks or patch sizes.
    """
    if not members:
        raise UsageError("members", expected="at least one checkpoint", found=[])
    first, *others = cards = [read_card(member) for member in members]
    for member, card in zip(members[1:], others, strict=True):
        _refuse_difference(members[0], first, member, card)
    content = {key: first[key] for key in SHARED if key in first}
    if all(card.get("absent_sequences", False) for card in cards):
        content["absent_sequences"] = True
    content["members"] = [Path(os.path.relpath(member, folder)).as_posix() for member in members]
    path = card_path(folder)
    write_json(path, {**content, **(learned or {})})
    return path


def _refuse_difference(
    first: str | Path, card: Mapping[str, Any], second: str | Path, other: Mapping[str, Any]
) -> None:
    for key in SHARED:
        a, b = card.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            keys = [k for k in {**a, **b} if a.get(k) != b.get(k)]
            a, b = {k: a.get(k) for k in keys}, {k: b.get(k) for k in keys}
        if a != b:
            problem = f"{first} has {key} {a!s:.300}, {second} has {b!s:.300}"
            raise UsageError("members", problem, advice="average only networks of the same settings")
