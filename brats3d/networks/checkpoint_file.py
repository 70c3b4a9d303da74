"""Checkpoints on disk: written whole, loaded without running code.

Beside every ``NAME.pt`` stands a ``NAME.json`` card (:mod:`brats3d.networks.card`). A model trained on other sequences
has the right shape and gives garbage; the card is what tells.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from brats3d.files import MAX_TEXT_BYTES, explain_full_disk, first_line, ordinary_size, require_space, write_whole
from brats3d.networks.card import card_path, last_good, read_card

MAX_CHECKPOINT_BYTES = 4 * 2**30
"""Of one file. The shipped weights have 10 MB, the whole state of their training 60."""


def save_checkpoint(path: str | Path, content: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` and ``card`` beside it, each whole or not at all.

    Where none stands there yet, the card comes first: weights without one are of no use. Else it comes last: between
    the two a card may say less of its weights than is true, never more.

    Args:
        path: ends in ``.pt``.
        content: a state dict, or a mapping of names to tensors, state dicts, numbers and strings.
        card: goes to the ``.json`` of the same name.

    Raises:
        DiskFullError: if there is no room for them; what stood there stays.
    """
    path, text = Path(path), json.dumps(card, indent=2, allow_nan=False)
    left = last_good(path.parent)
    require_space(path, _stored_bytes(content) + len(text), left)

    def write_card() -> None:
        write_whole(card_path(path), lambda file: file.write(text.encode()))

    known = card_path(path).is_file()
    with explain_full_disk(path, left):
        if not known:
            write_card()
        write_whole(path, lambda file: torch.save(content, file))
        if known:
            write_card()


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content and the card of a checkpoint. Loads tensors, numbers and strings only (``weights_only=True``).

    Raises:
        FileNotFoundError: if the file or its card is missing.
        ValueError: if either is damaged or holds anything else.
    """
    card = read_card(path)
    return read_content(path), card


def read_content(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, as :func:`read_checkpoint` gives it, without its card.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or holds anything but tensors, numbers and strings.
    """
    try:
        _check_archive(Path(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_extents(content)
    except Exception as error:  # what a damaged pickle raises depends on the damage
        raise ValueError(f"checkpoint: {path} is damaged or holds more than weights ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint: {path}: expected tensors by name, got {type(content).__name__}")
    return content


def _stored_bytes(content: Any) -> int:
    """What torch.save writes, to a few percent: the tensors, and a header for each."""
    if isinstance(content, torch.Tensor):
        return content.nbytes + 512
    values = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return 64 + sum(map(_stored_bytes, values))


_NAMED = re.compile(
    r"collections OrderedDict|torch Size|torch [A-Z]\w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)"
)
"""What weights and the state of a run are made of. Of what else torch lets pass, some takes memory without end:
``bytearray(10**12)``."""


def _check_archive(path: Path) -> None:
    """Look at what torch would believe: sizes, what the pickle names, and the checksums that it writes and never reads.

    Raises:
        ValueError: saying what is wrong, without the file's name.
    """
    if (size := ordinary_size(path)) > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"has {size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
    if not zipfile.is_zipfile(path):
        raise ValueError("torch did not write it")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
                raise ValueError(f"{part.filename!r:.80} in it is compressed to {part.compress_size:,} bytes")
        if sum(part.file_size for part in parts) > size:
            raise ValueError("what is in it is larger than the file")
        for part in parts:
            if part.filename.endswith("data.pkl"):
                _check_pickle(archive, part)
        if bad := archive.testzip():
            raise ValueError(f"the checksum of {bad} is wrong")


def _check_pickle(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    if part.file_size > MAX_TEXT_BYTES:
        raise ValueError(
            f"{part.filename!r:.80} in it has {part.file_size:,} bytes; at most {MAX_TEXT_BYTES:,} are read"
        )
    for code, argument, _ in pickletools.genops(archive.read(part)):
        if code.name == "GLOBAL" and not _NAMED.fullmatch(str(argument)):
            name = re.sub(r"^(builtins|__builtin__) ", "", str(argument)).replace(" ", ".")
            raise ValueError(f"it names {name:.80}")


def _check_extents(content: Any) -> None:
    """Refuse tensors larger than what is stored of them: steps of 0 make a terabyte of one number."""
    left, seen = [content], set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            if each.numel() * each.element_size() > each.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(each.shape)} is larger than its values")
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each


def _reason(error: Exception) -> str:
    """The first line of an error; what torch refuses, without its advice how to run it."""
    if "weights_only" not in str(error):
        return first_line(error)
    code = re.search(r"GLOBAL (\S+)", str(error))
    return f"it names {code[1]}" if code else "torch did not write it"
