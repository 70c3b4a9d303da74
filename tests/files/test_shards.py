"""Shares of a data set."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from brats3d.files.shards import read_shard, shard_suffix, share_name, share_of


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_case_is_in_one_share_and_shares_differ_by_one_at_most(cases: int, count: int) -> None:
    shares = [share_of(range(cases), f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(case for share in shares for case in share) == list(range(cases))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share) for share in shares)


def test_without_a_shard_all_are_taken() -> None:
    assert share_of("abc", None) == ["a", "b", "c"]
    assert read_shard(None) == (1, 1)
    assert (shard_suffix(None), shard_suffix("3/8")) == ("", "-3-of-8")
    assert share_name("failures.json", None) == "failures.json"
    assert share_name("failures.json", "3/8") == "failures-3-of-8.json"


@pytest.mark.parametrize(
    "shard", ["0/8", "9/8", "a", "1/0", "3", "3/", "-1/2", "1.0/2", "1/2/3", "", 0.375, 3, "1/9999999"]
)
def test_what_is_no_shard_is_refused(shard: object) -> None:
    with pytest.raises(ValueError, match="shard: expected i/n with i from 1 to n, such as 3/8, got"):
        read_shard(shard)
