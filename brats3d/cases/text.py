"""Names as text: sorting, lists in messages, and bytes that are not UTF-8."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any


def natural_key(text: str) -> tuple[list[Any], str]:
    """Return a sort key that puts ``case_2`` before ``case_10``."""
    parts = re.split(r"([0-9]+)", text)  # every second part is a number, perhaps too long for an int
    numbers = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = [(len(number), number) for number in numbers]
    return parts, text


def name_some(names: Sequence[str], most: int = 3) -> str:
    """Return ``"a, b, c and 4 more"``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def is_utf8(name: str) -> bool:
    """Return True unless the name of a file or folder has bytes that are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:  # Python has a surrogate for each such byte
        return False
    return True


def readable_name(name: str) -> str:
    """Return the name of a file or folder as text that can be written anywhere.

    Bytes that are not UTF-8 are read as Latin-1, in which older archives name their files. Letters with accents are
    composed (NFC), so that names from macOS, which decomposes them, equal those from other systems.
    """
    data = os.fsencode(name)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return unicodedata.normalize("NFC", text)
