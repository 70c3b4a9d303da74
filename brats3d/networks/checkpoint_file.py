"""Save checkpoints atomically, check them for damage, and load them without running code.

Each ``NAME.pt`` has a card beside it, ``NAME.json`` (:mod:`brats3d.networks.checkpoint_card`).
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from brats3d.errors import DataError
from brats3d.files import explain_full_disk, first_line, regular_file_size, write_whole
from brats3d.networks.checkpoint_card import card_path, last_checkpoint_note, read_card
from brats3d.networks.ensemble import checkpoint_members

MAX_CHECKPOINT_BYTES = 4 * 2**30
"""Size limit of a file. The shipped weights take 10 MB, the full state of a training run 60 MB."""


def weights_digest(checkpoint: str | Path) -> str:
    """Return the SHA-256 of a checkpoint's file, in hexadecimal; of an ensemble, that of its members' digests.

    Raises:
        NotFoundError, DataError: as :func:`brats3d.networks.checkpoint_members`.
    """
    digests = []
    for member in checkpoint_members(checkpoint):
        with member.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(digests).encode()).hexdigest() if Path(checkpoint).is_dir() else digests[0]


def save_checkpoint(path: str | Path, content: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` and ``card`` beside it, each whole or not at all.

    A new checkpoint's card is written first, since weights without a card cannot be used. An existing card is replaced
    last, so that it never describes newer weights than those in the file.

    Args:
        path: ends in ``.pt``.
        content: a state dict, or a mapping of names to tensors, state dicts, numbers and strings.
        card: content of the ``.json`` file of the same name.

    Raises:
        DiskFullError: if there is not enough room; existing files are unchanged.
    """
    path, text = Path(path), json.dumps(card, indent=2, allow_nan=False)

    def write_card() -> None:
        write_whole(card_path(path), lambda file: file.write(text.encode()))

    replaced = card_path(path).is_file()
    with explain_full_disk(path, last_checkpoint_note(path.parent)):
        if not replaced:
            write_card()
        write_whole(path, lambda file: torch.save(content, file))
        if replaced:
            write_card()


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content and the card of a checkpoint.

    Raises:
        NotFoundError: if the file or its card is missing.
        DataError: as :func:`read_content`, or if the card is damaged.
    """
    card = read_card(path)
    return read_content(path), card


def read_content(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint without its card: tensors, numbers and strings (``weights_only=True``).

    Raises:
        DataError: if the file is missing or damaged, is larger than :data:`MAX_CHECKPOINT_BYTES`, or contains anything
            else.
    """
    try:
        _check_archive(Path(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises depends on the damage
        raise DataError(path, f"damaged, or contains more than weights ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise DataError(path, expected="tensors by name", found=type(content).__name__)
    return content


def _check_archive(path: Path) -> None:
    """Check what torch does not: the checksums that it writes but never reads, and objects larger than the file.

    Raises:
        ValueError: with the problem, without the file's name.
    """
    if (size := regular_file_size(path)) > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"{size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > size:  # compressed, or several names for one content
            raise ValueError("its content is larger than the file")
        pickles = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
        if any(b"bytearray" in pickle for pickle in pickles):  # the one allowed object of any size: bytearray(10**12)
            raise ValueError("it refers to bytearray")
        if bad := archive.testzip():
            raise ValueError(f"the checksum of {bad} is wrong")


def _reason(error: Exception) -> str:
    """Return the first line of an error; if torch refuses an object, only its name."""
    if "weights_only" not in str(error):
        return first_line(error)
    code = re.search(r"GLOBAL (\S+)", str(error))
    return f"it refers to {code[1]}" if code else "not written by torch"
