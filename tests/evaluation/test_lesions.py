"""Lesion-wise scores of cubes, worked by hand. test_agreement.py compares with the challenge's script."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.evaluation.challenge_rules import Rules
from brats3d.evaluation.lesions import LesionScores, score_lesions

SHAPE = (40, 40, 40)
MM = (1, 1, 1)
RULES = Rules("brats2023")


def cubes(*starts: tuple[int, int, int], edge: int = 5) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for x, y, z in starts:
        mask[x : x + edge, y : y + edge, z : z + edge] = True
    return mask


A, B, C = (2, 2, 2), (20, 20, 20), (30, 2, 30)


def test_two_lesions_found_exactly():
    assert score_lesions(cubes(A, B), cubes(A, B), MM, RULES) == LesionScores(1, 0, found=2, missed=0, spurious=0)


def test_a_missed_lesion_counts_dice_0_and_the_distance_of_a_missing_region():
    scores = score_lesions(cubes(A), cubes(A, B), MM, RULES)
    assert scores == LesionScores(0.5, 374 / 2, found=1, missed=1, spurious=0)


def test_a_spurious_component_counts_as_a_lesion_with_dice_0():
    scores = score_lesions(cubes(A, C), cubes(A), MM, Rules("test", missing_mm=100))
    assert scores == LesionScores(0.5, 50, found=1, missed=0, spurious=1)


def test_distances_may_be_skipped():
    scores = score_lesions(cubes(A, C), cubes(A, B), MM, RULES, distances=False)
    assert scores == LesionScores(1 / 3, None, found=1, missed=1, spurious=1)


def test_two_empty_masks_score_1():
    empty = np.zeros(SHAPE, bool)
    assert score_lesions(empty, empty, MM, RULES) == LesionScores(1, 0, 0, 0, 0)
    nothing = np.zeros((0, 0, 0), bool)
    assert score_lesions(nothing, nothing, MM, RULES) == LesionScores(1, 0, 0, 0, 0)


@pytest.mark.parametrize(("gap", "dilation", "lesions"), [(6, 3, 1), (7, 3, 2), (2, 1, 1), (3, 1, 2)])
def test_components_that_merge_when_dilated_are_one_lesion(gap, dilation, lesions):
    ref = cubes(A, (A[0] + 5 + gap, 2, 2))
    assert score_lesions(ref & False, ref, MM, Rules("test", dilation=dilation)).missed == lesions


def test_lesions_up_to_the_least_volume_are_ignored():
    speck, more = (np.zeros(SHAPE, bool) for _ in "ab")
    speck.ravel()[:50] = more.ravel()[:51] = True
    assert score_lesions(speck & False, speck, MM, RULES).missed == 0
    assert score_lesions(more & False, more, MM, RULES).missed == 1
    assert score_lesions(speck & False, speck, (1, 1, 1.1), RULES).missed == 1  # the volume counts
    assert score_lesions(speck & False, speck, (1, 1, 1 + 5e-8), RULES).missed == 0  # voxel size of an oblique affine
    assert score_lesions(speck & False, speck, MM, Rules("test", least_mm3=2)).missed == 1


def test_a_component_that_touches_only_an_ignored_lesion_is_ignored():
    speck = cubes(A, edge=2)
    assert score_lesions(cubes(A), speck, MM, RULES) == LesionScores(1, 0, 0, 0, 0)


def test_a_component_belongs_to_every_lesion_whose_dilated_mask_it_touches():
    ref = cubes(A, (2, 2, 14))
    bridge = np.zeros(SHAPE, bool)
    bridge[2:7, 2:7, 2:19] = True
    scores = score_lesions(bridge, ref, MM, RULES)
    dice = 2 * 125 / (125 + 5 * 5 * 17)
    assert (scores.dice, scores.found, scores.spurious) == (pytest.approx(dice), 2, 0)


def test_a_component_beside_a_lesion_finds_it_with_dice_0():
    beside = cubes((2, 2, 9))  # a gap of 2, within the dilation of 3
    scores = score_lesions(beside, cubes(A), MM, RULES)
    assert (scores.dice, scores.found, scores.missed, scores.spurious) == (0, 1, 0, 0)
    assert scores.hd95_mm < 10


def test_all_components_that_touch_a_lesion_are_scored_together():
    halves = cubes(A)
    halves[4] = False
    scores = score_lesions(halves, cubes(A), MM, RULES)
    assert (scores.dice, scores.found, scores.spurious) == (pytest.approx(2 * 100 / 225), 1, 0)


def test_voxels_that_share_a_corner_belong_to_one_component():
    ref = np.zeros(SHAPE, bool)
    ref[5:9, 5:9, 5:9] = ref[9:13, 9:13, 9:13] = True
    assert score_lesions(ref, ref, MM, Rules("test", dilation=1)).found == 1
    diagonal = np.zeros(SHAPE, bool)
    diagonal[5:7, 5:7, 5:7] = diagonal[7:9, 7:9, 7:9] = True
    assert score_lesions(diagonal, ref & False, MM, RULES).spurious == 1
