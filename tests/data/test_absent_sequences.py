"""Absent sequences as channels of zeros, and sequences dropped at random."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from monai.data import MetaTensor

from brats3d.data.absent_sequences import DropSequencesd, fill_absent, subsets
from brats3d.errors import UsageError
from brats3d.labels import MODALITIES


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


def test_every_subset_occurs_with_its_probability():
    found = drawn(DropSequencesd("image", MODALITIES), 6000)
    assert set(found) == set(subsets(MODALITIES))
    chance = 0.35 / 15
    expected = {**dict.fromkeys(found, chance), MODALITIES: 0.5 + chance, ("t1", "t2", "flair"): 0.15 + chance}
    for chosen, share in expected.items():
        assert found[chosen] / 6000 == pytest.approx(share, abs=5 * (share * (1 - share) / 6000) ** 0.5), chosen


def test_with_three_sequences_only_their_subsets_occur():
    found = drawn(DropSequencesd("image", ["t1", "t2", "flair"]), 1000)
    assert set(found) == set(subsets(["t1", "t2", "flair"]))
    assert found["t1", "t2", "flair"] > 600


def test_a_lone_t1ce_is_never_dropped():
    found = drawn(DropSequencesd("image", ["t1ce"], all_present=0, without_t1ce=1), 20)
    assert found == {("t1ce",): 20}


def test_dropped_channels_are_exactly_zero_and_the_others_unchanged():
    drop = DropSequencesd("image", MODALITIES, all_present=0, without_t1ce=1)
    image = torch.full((4, 3, 3, 3), 0.25)
    out = drop({"image": image, "label": image})
    assert [channel.unique().tolist() for channel in out["image"]] == [[0.25], [0], [0.25], [0.25]]
    assert (image == 0.25).all(), "the input patch is unchanged"
    assert out["label"] is image


def test_with_probability_1_nothing_is_dropped():
    found = drawn(DropSequencesd("image", MODALITIES, all_present=1, without_t1ce=0), 50)
    assert found == {MODALITIES: 50}


def test_equal_seeds_drop_the_same_sequences():
    first, second = (DropSequencesd("image", MODALITIES, 0, 0) for _ in range(2))
    assert drawn(first, 30) == drawn(second, 30)


@pytest.mark.parametrize(
    ("all_present", "without_t1ce", "subject", "found"),
    [(1.2, 0, "all_present", 1.2), (0, -0.1, "without_t1ce", -0.1), (0.7, 0.5, "all_present", 0.7)],
)
def test_impossible_probabilities_are_refused(all_present, without_t1ce, subject, found):
    with pytest.raises(UsageError) as error:
        DropSequencesd("image", MODALITIES, all_present, without_t1ce)
    assert (error.value.subject, error.value.found) == (subject, found)


@pytest.mark.parametrize(
    "present", [("flair",), ("t1ce", "t2"), ("flair", "t1"), ("t1", "t1ce", "t2", "flair")], ids=str
)
def test_absent_sequences_are_filled_with_zeros_and_the_others_moved_to_their_channel(present):
    image = torch.randn(len(present), 2, 3, 4)
    filled = fill_absent(image, present, MODALITIES)
    assert filled.shape == (4, 2, 3, 4)
    for channel, modality in zip(filled, MODALITIES, strict=True):
        expected = image[present.index(modality)] if modality in present else torch.zeros(2, 3, 4)
        assert torch.equal(channel, expected)


def test_a_filled_image_keeps_its_geometry_and_its_applied_operations():
    affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.ones(1, 2, 2, 2), affine=affine, applied_operations=[{"class": "Flip"}])
    filled = fill_absent(image, ["t2"], ["t1", "t2"])
    assert torch.equal(filled.affine, affine) and filled.applied_operations == image.applied_operations
    assert type(fill_absent(torch.ones(1, 2, 2, 2), ["t2"], ["t1", "t2"])) is torch.Tensor


@pytest.mark.parametrize(("channels", "present"), [(2, ("t1",)), (2, ("t1", "t1")), (1, ("adc",)), (1, ("t1", "t2"))])
def test_names_that_do_not_fit_the_channels_are_refused(channels, present):
    with pytest.raises(ValueError, match="image: expected one channel"):
        fill_absent(torch.zeros(channels, 2, 2, 2), present, MODALITIES)
