"""Names in messages."""

from __future__ import annotations

from brats3d.cases.text import name_some, natural_key


def test_numbers_are_sorted_by_value():
    assert sorted(["c10", "c9", "b1", "c009"], key=natural_key) == ["b1", "c009", "c9", "c10"]


def test_a_long_list_is_cut():
    assert name_some(["a", "b", "c"]) == "a, b, c"
    assert name_some(["a", "b", "c", "d"], most=2) == "a, b and 2 more"
