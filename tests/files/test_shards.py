"""Shards of a data set."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from brats3d.errors import UsageError
from brats3d.files.shards import read_shard, shard_file_name, take_shard


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_case_is_in_one_shard_and_shards_have_almost_the_same_size(cases: int, count: int) -> None:
    shards = [take_shard(range(cases), f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(case for shard in shards for case in shard) == list(range(cases))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(shard == sorted(shard) for shard in shards)


def test_without_a_shard_all_items_are_taken() -> None:
    assert take_shard("abc", None) == ["a", "b", "c"]
    assert read_shard(None) == (1, 1)


def test_each_shard_has_its_own_file_names() -> None:
    assert shard_file_name("failures.json", None) == "failures.json"
    assert shard_file_name("failures.json", "3/8") == "failures-3-of-8.json"
    assert shard_file_name(".record.jsonl", "3/8") == ".record-3-of-8.jsonl"


@pytest.mark.parametrize(
    "shard", ["0/8", "9/8", "a", "1/0", "3", "3/", "-1/2", "1.0/2", "1/2/3", "", 0.375, 3, "1/9999999"]
)
def test_an_invalid_shard_is_refused(shard: object) -> None:
    with pytest.raises(UsageError) as caught:
        read_shard(shard)
    assert (caught.value.subject, caught.value.found) == ("shard", shard)
