"""The scores of a prediction and its reference, read from their files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings, strategies as st

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


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_orientation_of_a_prediction_has_the_same_scores(pair, axes, flips):
    nib.save(nib.load(pair / REF).as_reoriented(np.array([axes, flips]).T), pair / PRED)
    scores = score(pair)
    assert dice(scores) == {1.0} and {row.hd95_mm for row in scores.rows} == {0.0}
    assert len(scores.notes) == ((axes, flips) != ([0, 1, 2], (1, 1, 1)))


@pytest.mark.parametrize(("off_mm", "notes"), [(1e-4, 0), (2e-3, 1), (0.04, 1)])
def test_a_rounded_origin_is_the_same_grid(samples, pair, off_mm, notes):
    affine = nib.load(pair / REF).affine
    affine[:3, 3] += off_mm
    samples.save(pair / PRED, samples.tumour(), affine)
    scores = score(pair)
    assert dice(scores) == {1.0} and len(scores.notes) == notes


def other_position(label: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = affine.copy()
    affine[:3, 3] += (1, 0, 0)
    return np.roll(label, 1, axis=0), affine


@pytest.mark.parametrize(
    "change",
    [other_position, lambda label, _: (label, np.eye(4)), lambda label, _: (label, np.diag([-1.0, -1, 1, 1]))],
    ids=["moved", "affine of nibabel's examples", "affine of SimpleITK's arrays"],
)
def test_the_advice_for_another_grid_places_the_prediction(samples, pair, change):
    affine = np.array([[-1.0, 0, 0, 3], [0, -1, 0, 47], [0, 0, 1, 0], [0, 0, 0, 1]])
    samples.save(pair / REF, samples.tumour(), affine)
    samples.save(pair / PRED, *change(samples.tumour(), affine))
    with pytest.raises(DataError) as error:
        score(pair)
    assert error.value.subject == str(pair / PRED)
    _, _, command = error.value.advice.partition(": python ")
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    (pair / "x_pred_placed.nii.gz").rename(pair / PRED)
    assert dice(score(pair)) == {1.0}


def test_a_guessed_orientation_is_not_flipped(samples, pair):
    """nibabel reads a file without an affine as LAS around its centre."""
    label = samples.tumour()
    affine = nib.Nifti1Image(label, None).header.get_base_affine()
    affine[1] *= -1  # LPS
    samples.save(pair / REF, label, affine)
    nib.save(nib.Nifti1Image(label, None), pair / PRED)
    with pytest.raises(DataError) as error:
        score(pair)
    assert error.value.subject == str(pair / PRED) and "CopyInformation" in error.value.advice
    nib.save(nib.Nifti1Image(label, None), pair / REF)
    assert dice(score(pair)) == {1.0}


@pytest.mark.parametrize("name", ["x_pred.nrrd", "x_pred.mha", "x_pred.mgz"])
def test_other_formats_are_scored(samples, pair, name):
    if name.endswith(".mgz"):
        nib.save(nib.MGHImage(samples.tumour(), nib.load(pair / REF).affine), pair / name)
    else:
        sitk.WriteImage(sitk.ReadImage(pair / PRED), pair / name)
    pred, ref = Segmentation("x", pair / name), Segmentation("x", pair / REF, "brats2020")
    assert dice(score_pair(pred, ref, get_rules("brats2023"), None, None)) == {1.0}


def test_an_option_that_overrides_names_or_headers_is_noted(samples, pair):
    label = np.where(samples.tumour() == 4, 1, samples.tumour())  # fits every convention
    write_segmentation(pair / PRED, label, pair / REF, "brats2020")
    samples.save(pair / REF, label)
    assert score(pair, pred_labels="brats2020", ref_labels="brats2020").notes == ()
    (note,) = score(pair, ref_labels="brats2023").notes
    assert "--ref-labels brats2023" in note and "brats2020" in note
    (note,) = score(pair, pred_labels="brats2023").notes
    assert "--pred-labels brats2023" in note and "brats2020" in note


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
