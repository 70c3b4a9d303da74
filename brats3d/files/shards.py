"""A data set dealt to several runs, such as the tasks of a job array: ``3/8`` is the third of eight shares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def read_shard(shard: str | None) -> tuple[int, int]:
    """Which share of how many, counted from 1; None is all of one.

    Raises:
        ValueError: if it is not written ``i/n``, with i from 1 to n.
    """
    if shard is None:
        return 1, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard) if isinstance(shard, str) else None
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"shard: expected i/n with i from 1 to n, such as 3/8, got {shard!r:.40}")
    return number, count


def share_of(items: Sequence[T], shard: str | None) -> list[T]:
    """A run's share of what all runs see in the same order: every n-th, so that shares differ by one at most."""
    number, count = read_shard(shard)
    return list(items[number - 1 :: count])


def shard_suffix(shard: str | None) -> str:
    """What sets the files of runs apart that write into one folder: ``-3-of-8``; nothing for a run of all."""
    return "" if shard is None else "-{}-of-{}".format(*read_shard(shard))


def share_name(name: str, shard: str | None) -> str:
    """A share's own file in the place of one that a run of all would write: ``failures-3-of-8.json``."""
    path = Path(name)
    return f"{path.stem}{shard_suffix(shard)}{path.suffix}"
