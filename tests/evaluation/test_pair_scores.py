"""One prediction scored against its reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brats3d.errors import DataError
from brats3d.evaluation.challenge_rules import get_rules
from brats3d.evaluation.find_segmentation_files import Segmentation
from brats3d.evaluation.pair_scores import PairScores, score_pair
from brats3d.files.nifti_write import write_segmentation

PRED, REF = "x_pred.nii.gz", "x_seg.nii.gz"


def score(folder: Path, convention: str | None = "brats2020", **labels: str) -> PairScores:
    pred, ref = Segmentation("x", folder / PRED), Segmentation("x", folder / REF, convention)
    return score_pair(pred, ref, get_rules("brats2023"), labels.get("pred_labels"), labels.get("ref_labels"))


def dice(scores: PairScores) -> set[float]:
    return {row.dice for row in scores.rows}


@pytest.fixture
def pair(samples, tmp_path) -> Path:
    """A prediction that equals its reference, with BraTS 2020's labels."""
    samples.save(tmp_path / PRED, samples.tumour())
    samples.save(tmp_path / REF, samples.tumour())
    return tmp_path


def test_a_convention_that_brats3d_has_written_into_a_file_is_used(samples, pair):
    samples.save(pair / REF, np.where(samples.tumour() == 4, 3, samples.tumour()))
    with pytest.raises(DataError) as error:  # 4 is not a label of BraTS 2023
        score(pair, "brats2023")
    assert error.value.subject == str(pair / PRED) and "--pred-labels" in error.value.advice
    write_segmentation(pair / PRED, samples.tumour(), pair / REF, "brats2020")
    scores = score(pair, "brats2023")
    assert dice(scores) == {1.0}
    assert (scores.pred_convention, scores.ref_convention, scores.assumed) == ("brats2020", "brats2023", False)


def test_conventions_can_be_given(samples, pair):
    samples.save(pair / REF, np.where(samples.tumour() == 4, 3, samples.tumour()))
    with pytest.raises(DataError) as error:
        score(pair, None)
    assert error.value.subject == str(pair / REF) and "--ref-labels" in error.value.advice
    assert dice(score(pair, None, pred_labels="brats2020", ref_labels="brats2023")) == {1.0}


def test_a_reference_without_prediction_counts_as_0(pair):
    scores = score_pair(None, Segmentation("x", pair / REF, "brats2020"), get_rules("brats2023"), None, None)
    assert {(row.dice, row.hd95_mm, row.sensitivity, row.missing) for row in scores.rows} == {(0, 374, 0, True)}


def test_a_prediction_on_another_grid_is_refused(samples, pair):
    label = samples.tumour()
    for other, affine in ((label[:-1], np.diag([-1.0, -1, 1, 1])), (label, np.diag([1.0, -1, 1, 1]))):
        samples.save(pair / PRED, other, affine)
        with pytest.raises(DataError) as error:
            score(pair)
        assert error.value.subject == str(pair / PRED)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, save, label: save(path, np.where(label == 2, 7, 0).astype(np.uint8)),
        lambda path, save, label: save(path, label.astype(np.float32) * 0.3),
        lambda path, save, label: path.write_bytes(path.read_bytes()[:-40]),
    ],
    ids=["labels", "probabilities", "truncated"],
)
def test_a_prediction_that_cannot_be_used_is_named(samples, pair, damage):
    damage(pair / PRED, samples.save, samples.tumour())
    with pytest.raises(DataError) as error:
        score(pair)
    assert error.value.subject == str(pair / PRED)


def test_the_reference_itself_is_not_a_prediction(pair):
    (pair / PRED).unlink()
    (pair / PRED).symlink_to(pair / REF)
    with pytest.raises(DataError) as error:
        score(pair)
    assert error.value.expected == "a prediction"
