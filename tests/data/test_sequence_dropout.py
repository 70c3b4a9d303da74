"""Which sequences are left out, how often, and that nothing is left of them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from brats3d.data.sequence_dropout import DropSequencesd, subsets
from brats3d.labels import MODALITIES

IMAGE = torch.ones(4, 2, 2, 2)


def drawn(drop: DropSequencesd, times: int) -> Counter:
    drop.set_random_state(seed=1)
    found: Counter = Counter()
    for _ in range(times):
        out = drop({"image": torch.ones(len(drop.modalities), 1, 1, 1)})["image"].flatten().tolist()
        found[tuple(name for name, value in zip(drop.modalities, out, strict=True) if value)] += 1
    return found


def test_there_are_15_subsets_of_four_sequences_and_7_of_three():
    assert len(set(subsets(MODALITIES))) == len(subsets(MODALITIES)) == 15
    assert subsets(["flair", "t1"]) == [("t1",), ("flair",), ("t1", "flair")]
    assert len(subsets(["t1", "t2", "flair"])) == 7


def test_every_subset_occurs_as_often_as_it_should():
    found = drawn(DropSequencesd("image", MODALITIES), 6000)
    assert set(found) == set(subsets(MODALITIES))
    each = 0.35 / 15
    expected = {**dict.fromkeys(found, each), MODALITIES: 0.5 + each, ("t1", "t2", "flair"): 0.15 + each}
    for chosen, share in expected.items():
        assert found[chosen] / 6000 == pytest.approx(share, abs=5 * (share * (1 - share) / 6000) ** 0.5), chosen


def test_subsets_of_three_sequences_are_of_these():
    found = drawn(DropSequencesd("image", ["t1", "t2", "flair"]), 1000)
    assert set(found) == set(subsets(["t1", "t2", "flair"]))
    assert found["t1", "t2", "flair"] > 600


def test_the_contrast_alone_is_never_left_out():
    found = drawn(DropSequencesd("image", ["t1ce"], all_present=0, without_t1ce=1), 20)
    assert found == {("t1ce",): 20}


def test_absent_channels_are_exactly_zero_and_the_others_are_untouched():
    drop = DropSequencesd("image", MODALITIES, all_present=0, without_t1ce=1)
    image = torch.full((4, 3, 3, 3), 0.25)
    out = drop({"image": image, "label": image})
    assert [channel.unique().tolist() for channel in out["image"]] == [[0.25], [0], [0.25], [0.25]]
    assert (image == 0.25).all(), "the patch that was given is as it was"
    assert out["label"] is image


def test_nothing_is_left_out_where_nothing_may_be():
    found = drawn(DropSequencesd("image", MODALITIES, all_present=1, without_t1ce=0), 50)
    assert found == {MODALITIES: 50}


def test_the_seed_decides():
    first, second = (DropSequencesd("image", MODALITIES, 0, 0) for _ in range(2))
    assert drawn(first, 30) == drawn(second, 30)


@pytest.mark.parametrize(
    ("chances", "message"),
    [
        ((1.2, 0), "all_present: expected a chance from 0 to 1, got 1.2"),
        ((0, -0.1), "without_t1ce: expected a chance from 0 to 1, got -0.1"),
        ((0.7, 0.5), "all_present: expected at most 1 together with without_t1ce, got 0.7 \\+ 0.5"),
    ],
)
def test_chances_that_are_none_are_refused(chances, message):
    with pytest.raises(ValueError, match=message):
        DropSequencesd("image", MODALITIES, *chances)
