"""Lesion-wise scores, of cubes worked by hand. Agreement with the challenge's script: test_agreement.py."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.evaluation.lesions import LesionScores, score_lesions

SHAPE = (40, 40, 40)
MM = (1, 1, 1)


def cubes(*starts: tuple[int, int, int], edge: int = 5) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for x, y, z in starts:
        mask[x : x + edge, y : y + edge, z : z + edge] = True
    return mask


A, B, C = (2, 2, 2), (20, 20, 20), (30, 2, 30)


def test_two_lesions_found_exactly():
    assert score_lesions(cubes(A, B), cubes(A, B), MM) == LesionScores(1, 0, found=2, missed=0, spurious=0)


def test_one_of_two_lesions_missed_halves_the_dice_and_costs_a_distance():
    scores = score_lesions(cubes(A), cubes(A, B), MM)
    assert scores == LesionScores(0.5, 374 / 2, found=1, missed=1, spurious=0)


def test_something_found_where_nothing_is_counts_as_a_lesion_of_dice_0():
    scores = score_lesions(cubes(A, C), cubes(A), MM, missing_mm=100)
    assert scores == LesionScores(0.5, 50, found=1, missed=0, spurious=1)


def test_nothing_there_and_nothing_found_is_right():
    empty = np.zeros(SHAPE, bool)
    assert score_lesions(empty, empty, MM) == LesionScores(1, 0, 0, 0, 0)
    nothing = np.zeros((0, 0, 0), bool)
    assert score_lesions(nothing, nothing, MM) == LesionScores(1, 0, 0, 0, 0)


@pytest.mark.parametrize(("gap", "dilation", "lesions"), [(6, 3, 1), (7, 3, 2), (2, 1, 1), (3, 1, 2)])
def test_what_grows_together_is_one_lesion(gap, dilation, lesions):
    ref = cubes(A, (A[0] + 5 + gap, 2, 2))
    assert score_lesions(ref & False, ref, MM, dilation).missed == lesions


def test_a_lesion_must_be_larger_than_the_least_volume():
    speck, more = (np.zeros(SHAPE, bool) for _ in "ab")
    speck.ravel()[:50] = more.ravel()[:51] = True
    assert score_lesions(speck & False, speck, MM).missed == 0
    assert score_lesions(more & False, more, MM).missed == 1
    assert score_lesions(speck & False, speck, (1, 1, 1.1)).missed == 1  # it is the volume that counts
    assert score_lesions(speck & False, speck, (1, 1, 1 + 5e-8)).missed == 0  # an oblique affine's millimetre
    assert score_lesions(speck & False, speck, MM, least_mm3=2).missed == 1


def test_a_prediction_that_touches_a_lesion_too_small_to_count_does_not_count_either():
    speck = cubes(A, edge=2)
    assert score_lesions(cubes(A), speck, MM) == LesionScores(1, 0, 0, 0, 0)


def test_a_prediction_belongs_to_every_lesion_whose_surroundings_it_touches():
    ref = cubes(A, (2, 2, 14))
    bridge = np.zeros(SHAPE, bool)
    bridge[2:7, 2:7, 2:19] = True
    scores = score_lesions(bridge, ref, MM)
    dice = 2 * 125 / (125 + 5 * 5 * 17)
    assert (scores.dice, scores.found, scores.spurious) == (pytest.approx(dice), 2, 0)


def test_a_prediction_near_a_lesion_finds_it_with_dice_0():
    beside = cubes((2, 2, 9))  # a gap of 2, within the dilation of 3
    scores = score_lesions(beside, cubes(A), MM)
    assert (scores.dice, scores.found, scores.missed, scores.spurious) == (0, 1, 0, 0)
    assert scores.hd95_mm < 10


def test_all_components_of_a_prediction_that_touch_a_lesion_are_one_answer():
    halves = cubes(A)
    halves[4] = False
    scores = score_lesions(halves, cubes(A), MM)
    assert (scores.dice, scores.found, scores.spurious) == (pytest.approx(2 * 100 / 225), 1, 0)


def test_voxels_that_share_a_corner_are_one_component():
    ref = np.zeros(SHAPE, bool)
    ref[5:9, 5:9, 5:9] = ref[9:13, 9:13, 9:13] = True
    assert score_lesions(ref, ref, MM, dilation=1).found == 1
    diagonal = np.zeros(SHAPE, bool)
    diagonal[5:7, 5:7, 5:7] = diagonal[7:9, 7:9, 7:9] = True
    assert score_lesions(diagonal, ref & False, MM).spurious == 1
