"""Labels that seem to have another meaning than the one they were read with."""

from __future__ import annotations

import numpy as np
import pytest

from brats3d.evaluation.label_readings import better_readings
from brats3d.evaluation.pair_scores import MAX_LABEL, PairScores

REFERENCE = {1: 3000, 2: 9000, 3: 4000}
"""Label of BraTS 2023 -> voxels."""


def case(table: dict[tuple[int, int], int], **more) -> PairScores:
    """A case with so many voxels of each (reference label, predicted label), with BraTS 2023's labels."""
    counts = np.zeros((MAX_LABEL + 1, MAX_LABEL + 1), int)
    for pair, voxels in table.items():
        counts[pair] = voxels
    return PairScores((), **{"ref_convention": "brats2023", "pred_convention": "brats2023", **more}, counts=counts)


def renumbered(numbers: dict[int, int], right: float = 1.0, **more) -> PairScores:
    """A prediction whose labels are numbered otherwise; a part of each label is missed."""
    table = {(ref, numbers[ref]): round(right * voxels) for ref, voxels in REFERENCE.items()}
    table |= {(ref, 0): voxels - table[ref, numbers[ref]] for ref, voxels in REFERENCE.items()}
    return case(table, **more)


@pytest.mark.parametrize("right", [1.0, 0.7])
def test_edema_and_core_exchanged(right):
    warning = better_readings([renumbered({1: 2, 2: 1, 3: 3}, right, assumed=True)] * 2)
    dice = 2 * right / (right + 1)
    assert f"TC {dice:.3f} instead of " in warning
    assert "--pred-labels decathlon" in warning
    assert "--ref-labels decathlon --pred-labels brats2023" in warning  # else the prediction would follow


def test_the_side_that_states_its_convention_is_not_doubted():
    warning = better_readings([renumbered({1: 2, 2: 1, 3: 3}, pred_mark="brats2023")])
    assert "--ref-labels decathlon" in warning and "--pred-labels" not in warning
    assert not better_readings([renumbered({1: 2, 2: 1, 3: 3}, pred_mark="brats2023", ref_mark="brats2023")])


def test_labels_of_hd_glio():
    warning = better_readings([renumbered({1: 1, 2: 1, 3: 2})])
    assert "--pred-labels hd-glio" in warning and "--ref-labels" not in warning


def test_an_order_of_labels_that_is_no_convention():
    for numbers, meaning in (
        ({1: 1, 2: 3, 3: 2}, "1 = NCR, 2 = ET, 3 = SNFH"),
        ({1: 3, 2: 1, 3: 2}, "1 = SNFH, 2 = ET, 3 = NCR"),
    ):
        assert f"renumber the files if the predictions have {meaning}" in better_readings([renumbered(numbers)])


@pytest.mark.parametrize(
    "table",
    [
        {(label, label): voxels for label, voxels in REFERENCE.items()},
        {(label, 0): voxels for label, voxels in REFERENCE.items()},
        {(label, 1): voxels for label, voxels in REFERENCE.items()},
        {(label, 3): voxels for label, voxels in REFERENCE.items()},
        {(label, pred): voxels // 4 for label, voxels in REFERENCE.items() for pred in range(4)},
        {(0, 2): 50_000, (1, 3): 3000, (2, 2): 9000, (3, 1): 1000, (3, 3): 3000},
        {(1, 1): 3000, (2, 2): 9000, (3, 1): 4000},
        {(1, 3): 3000, (2, 2): 9000, (3, 3): 1000},
    ],
    ids=["right", "empty", "one label", "another label", "random", "too much edema", "no ET", "no necrosis"],
)
def test_ordinary_predictions_raise_no_warning(table):
    assert better_readings([case(table, assumed=True)]) == ""
    assert better_readings([case(table), PairScores((), "brats2023")]) == ""


def test_missing_predictions_raise_no_warning():
    assert better_readings([PairScores((), "brats2023")]) == ""
