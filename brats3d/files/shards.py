"""Shards: parts of a data set for separate runs, such as the tasks of a job array. ``3/8`` is the third of eight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from brats3d.errors import UsageError

T = TypeVar("T")


def read_shard(shard: str | None) -> tuple[int, int]:
    """Return the number of a shard, counted from 1, and the number of shards. None is one shard of one.

    Raises:
        UsageError: if ``shard`` is not ``i/n`` with i from 1 to n.
    """
    if shard is None:
        return 1, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard) if isinstance(shard, str) else None
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError("shard", expected="i/n with i from 1 to n, such as 3/8", found=shard)
    return number, count


def take_shard(items: Sequence[T], shard: str | None) -> list[T]:
    """Return every n-th item, starting with the i-th. All runs must pass the items in the same order."""
    number, count = read_shard(shard)
    return list(items[number - 1 :: count])


def shard_file_name(name: str, shard: str | None) -> str:
    """Return the shard's name for a file that every shard writes: ``failures.json`` -> ``failures-3-of-8.json``."""
    path = Path(name)
    return name if shard is None else "{}-{}-of-{}{}".format(path.stem, *read_shard(shard), path.suffix)
