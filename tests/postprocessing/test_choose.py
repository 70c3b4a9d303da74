"""Values of post-processing are chosen on out-of-fold predictions, and judged on cases that did not choose them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brats3d.data import regions_to_labels
from brats3d.errors import DataError
from brats3d.labels import BRATS2020, REGIONS
from brats3d.postprocessing import (
    MeanScores,
    OutOfFoldCase,
    PostprocessingValues,
    RegionRules,
    choose_postprocessing,
    read_choice,
)
from brats3d.postprocessing.choose import CANDIDATES, changed, is_gain

TC, WT, ET = (REGIONS.index(region) for region in ("TC", "WT", "ET"))
SHAPE = (28, 28, 28)
NONE = PostprocessingValues((0.5, 0.5, 0.5), RegionRules())
DEFAULT = PostprocessingValues((0.5, 0.5, 0.5), RegionRules(0.1, 0.1, 0.1))

Box = tuple[slice, slice, slice]
Tumour = tuple[np.ndarray, np.ndarray]
"""Probabilities and reference, (3, H, W, D)."""


def box(start: int, side: int) -> Box:
    return (slice(start, start + side),) * 3


def tumour() -> Tumour:
    """A tumour of 12³ voxels with a core of 8³ that enhances in 7³ (0.343 ml), predicted without an error."""
    ref = np.zeros((3, *SHAPE), bool)
    for channel, side in ((WT, 12), (TC, 8), (ET, 7)):
        ref[channel, *box(2, side)] = True
    return np.where(ref, 0.9, 0.1).astype(np.float16), ref


def with_speck(side: int = 6) -> Tumour:
    """The tumour, and a false speck of WT of 0.216 ml at some distance, which the default does not remove."""
    probs, ref = tumour()
    probs[WT, *box(21, side)] = 0.9
    return probs, ref


def with_satellite(side: int = 6) -> Tumour:
    """The tumour and a true satellite of the same size as the speck."""
    probs, ref = with_speck(side)
    ref[WT, *box(21, side)] = True
    return probs, ref


def without_enhancement() -> Tumour:
    """A tumour without ET, for which 0.05 ml of ET is predicted (50 voxels)."""
    probs, ref = tumour()
    ref[ET], probs[ET] = False, 0.1
    probs[ET, 3:8, 3:8, 3:5] = 0.9
    return probs, ref


@pytest.fixture
def make_cases(tmp_path: Path) -> Callable[..., list[OutOfFoldCase]]:
    """Write cases, each with its fold."""

    def write(tumours: Sequence[tuple[int, Tumour]], side_mm: float = 1) -> list[OutOfFoldCase]:
        cases = []
        for number, (fold, (probs, ref)) in enumerate(tumours):
            paths = tmp_path / f"{number}.npz", tmp_path / f"{number}.nii"
            np.savez_compressed(paths[0], probabilities=probs)
            nib.save(nib.Nifti1Image(_labels(ref), np.diag([*[side_mm] * 3, 1])), paths[1])
            cases.append(OutOfFoldCase(f"case{number}", fold, *paths, "brats2020"))
        return cases

    return write


def _labels(ref: np.ndarray) -> np.ndarray:
    return regions_to_labels(torch.from_numpy(ref), BRATS2020)[0].numpy()


def choose(cases: Sequence[OutOfFoldCase], default: PostprocessingValues = DEFAULT):
    return choose_postprocessing(cases, default, progress=False)


def test_a_speck_is_removed_and_the_scores_are_those_worked_by_hand(make_cases):
    """Six of eight cases have a speck of 0.216 ml; the smallest value that removes it is 0.5 ml."""
    cases = make_cases([(n % 2, with_speck() if n < 6 else tumour()) for n in range(8)])
    choice = choose(cases)
    assert (
        choice.values
        == choice.by_fold[0]
        == choice.by_fold[1]
        == PostprocessingValues((0.5, 0.5, 0.5), RegionRules(0.5, 0.1, 0.1))
    )
    perfect = MeanScores(1, 1)
    dice = 2 * 12**3 / (2 * 12**3 + 6**3)
    specks = {"WT": MeanScores(pytest.approx((6 * dice + 2) / 8), pytest.approx((6 * 0.5 + 2) / 8))}
    assert choice.scores["none"] == choice.scores["default"] == {**specks, "TC": perfect, "ET": perfect}
    assert choice.scores["chosen"] == dict.fromkeys(("WT", "TC", "ET"), perfect)


def test_a_true_lesion_stays(make_cases):
    """As many satellites as specks of one size: removing them gains nothing."""
    cases = make_cases([(n % 2, (with_speck if n < 4 else with_satellite)()) for n in range(8)])
    assert choose(cases).values == DEFAULT


def test_little_enhancing_tumour_becomes_core_and_a_small_true_component_stays(make_cases):
    """The false ET is 0.05 ml in all; a true component of 0.064 ml lies beside much ET."""

    def enhancing() -> Tumour:
        probs, ref = tumour()
        ref[:, *box(21, 4)], probs[:, *box(21, 4)] = True, 0.9
        return probs, ref

    cases = make_cases([(n % 2, (without_enhancement if n < 8 else enhancing)()) for n in range(12)])
    choice = choose(cases, NONE)
    assert choice.values == replace(NONE, rules=RegionRules(min_et_total_ml=0.1))
    assert choice.scores["none"]["ET"].dice == pytest.approx(4 / 12)
    assert choice.scores["chosen"]["ET"] == MeanScores(1, 1)


def test_a_threshold_of_one_region_is_chosen(make_cases):
    """The border of ET has a probability of 0.45 and that of TC one of 0.55, in the reference or not."""

    def soft() -> Tumour:
        probs, ref = tumour()
        probs[ET] = np.where(ref[ET], 0.45, 0.1)
        probs[TC, *box(2, 9)] = np.maximum(probs[TC, *box(2, 9)], 0.55)
        return probs, ref

    choice = choose(make_cases([(n % 2, soft()) for n in range(6)]))
    assert dict(zip(REGIONS, choice.values.thresholds, strict=True)) == {"TC": 0.6, "WT": 0.5, "ET": 0.4}
    assert choice.scores["chosen"] == dict.fromkeys(("WT", "TC", "ET"), MeanScores(1, 1))


def test_the_judged_fold_has_no_say_in_its_values(make_cases):
    """In fold 0 the small component is a satellite, in folds 1 and 2 a speck: each fold is judged by the others."""
    cases = make_cases([(n % 3, (with_satellite if n % 3 == 0 else with_speck)()) for n in range(12)])
    choice = choose(cases)
    assert choice.by_fold[0].rules.min_wt_ml == 0.5
    assert choice.by_fold[1] == choice.by_fold[2] == DEFAULT
    # Satellites lost in fold 0, specks left in the others: lesion-wise Dice of 1/2 in every case.
    assert choice.scores["chosen"]["WT"].lesion_dice == 0.5
    assert choice.scores["default"]["WT"].lesion_dice == pytest.approx((4 * 1 + 8 * 0.5) / 12)


def test_few_cases_keep_the_default(make_cases):
    assert choose(make_cases([(0, with_speck()), (1, with_speck()), (1, tumour())])).values == DEFAULT


def test_gains_that_may_be_noise_are_none():
    assert is_gain(np.full(3, 0.1)) and not is_gain(np.array([0.1]))
    assert not is_gain(np.zeros(9)) and not is_gain(np.full(9, -0.1))
    # t = mean / (sd / sqrt(n)): 1.73 for three gains of 1 among 20, and the limit is 1.73 at 19 degrees of freedom
    assert [is_gain(np.repeat([1.0, 0.0], [n, 20 - n])) for n in (2, 3, 4)] == [False, True, True]


def test_numbers_close_to_the_present_one_come_first():
    sizes = [each.rules.min_wt_ml for each in changed(DEFAULT, "min_wt_ml", CANDIDATES["min_wt_ml"])]
    assert sizes == [0.1, 0.05, 0.02, 0, 0.2, 0.5, 1]
    assert [each.thresholds[ET] for each in changed(DEFAULT, "ET", (0.3, 0.5, 0.6))] == [0.5, 0.6, 0.3]


def test_volumes_follow_from_the_voxel_size(make_cases):
    cases = make_cases([(n % 2, with_speck(4)) for n in range(8)], side_mm=2)  # 64 voxels of 8 mm³: 0.512 ml
    assert choose(cases).values.rules.min_wt_ml == 1


def test_a_choice_is_written_and_read(make_cases, tmp_path):
    choice = choose(make_cases([(n % 2, with_speck()) for n in range(6)]))
    path = tmp_path / "postprocessing.json"
    path.write_text(json.dumps(choice.to_json()))
    assert read_choice(path) == choice
    assert PostprocessingValues.from_json(choice.to_json()["chosen"], path) == choice.values


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cases": 3}'])
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / "postprocessing.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_choice(path)
    assert caught.value.subject == str(path)


def test_two_folds_are_needed(make_cases):
    with pytest.raises(DataError) as caught:
        choose(make_cases([(1, tumour()), (1, tumour())]))
    assert "two folds" in caught.value.expected


def test_probabilities_on_another_grid_are_refused(make_cases):
    cases = make_cases([(n, tumour()) for n in range(2)])
    np.savez_compressed(cases[1].probabilities, probabilities=np.zeros((3, 4, 4, 4), np.float16))
    with pytest.raises(DataError) as caught:
        choose(cases)
    assert caught.value.subject == str(cases[1].probabilities)
