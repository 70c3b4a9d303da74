"""Predicted quality in the JSON of predict, and the list of cases to look at first."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from brats3d.errors import DataError
from brats3d.evaluation import BatchProbabilities
from brats3d.files import write_json
from brats3d.inference.quality_stats import QualityStats, cases_to_review, log_reviews
from brats3d.labels import BRATS2020, REGIONS, get_convention
from brats3d.quality import FEATURES

SHAPE = (20, 20, 20)


def constant(value: float) -> dict[str, Any]:
    zeros = [[0.0]] * len(FEATURES)
    return {"offset": value, "knots": zeros, "values": zeros}


def quality(dice_of_wt: float) -> dict[str, Any]:
    """Return a model that predicts the same Dice for every case, and twice the edge length as the upper limit."""
    volume = {"shift": constant(0), "spread": constant(1), "factors": [0.5, 1]}
    return {
        "cases": 20,
        "features": list(FEATURES),
        "calibration": {region: {"temperature": 1, "shift": 0} for region in REGIONS},
        "dice": {"TC": constant(0.9), "WT": constant(dice_of_wt), "ET": constant(0.9)},
        "volume": dict.fromkeys(REGIONS, volume),
    }


@pytest.fixture
def case(tmp_path: Path) -> SimpleNamespace:
    """A cube of 1 ml of enhancing tumour, the batch that has its probabilities, and its statistics."""
    label = np.zeros(SHAPE, np.uint8)
    label[5:15, 5:15, 5:15] = 4
    image = tmp_path / "a_t1.nii.gz"
    nib.save(nib.Nifti1Image(label, np.eye(4)), image)
    logits = torch.from_numpy(np.where(label, 2.0, -6.0))[None, None].expand(1, 3, *SHAPE)
    output = {"image": [SimpleNamespace(affine=np.eye(4))], "pred": logits}
    batch = BatchProbabilities()
    batch(SimpleNamespace(state=SimpleNamespace(batch={"case_id": ["a"]}, output=output)))
    stats = {"case_id": "a", "regions": {region: {"volume_ml": 1.0} for region in REGIONS}}
    return SimpleNamespace(label=label, image=image, batch=batch, stats=stats)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "model.pt").touch()
    return tmp_path / "model.pt"


def write_card(weights: Path, **more: Any) -> None:
    card = {"modalities": ["t1"], "regions": list(REGIONS), "network_def": {"in_channels": 1}, **more}
    weights.with_suffix(".json").write_text(json.dumps(card))


@pytest.mark.parametrize(("dice", "review"), [(0.8, False), (0.31, True)])
def test_each_region_gets_a_dice_and_an_interval_and_a_bad_case_is_for_review(
    case: SimpleNamespace, weights: Path, dice: float, review: bool
) -> None:
    write_card(weights, quality=quality(dice))
    QualityStats(weights, BRATS2020).add(case.stats, case.batch, case.image, case.label)
    wt = case.stats["regions"]["WT"]
    assert wt["predicted_dice"] == dice
    assert wt["volume_interval_ml"] == [0.12, 8]  # cube roots: 1 - 0.5 and 1 + 1
    assert case.stats["regions"]["ET"]["predicted_dice"] == 0.9
    assert case.stats["review"] is review
    assert case.stats["review_reason"] == ("the predicted Dice of WT, 0.31, is below 0.7" if review else None)


def test_intervals_of_raw_cases_are_scaled_to_the_native_volume(case: SimpleNamespace, weights: Path) -> None:
    write_card(weights, quality=quality(0.8))
    case.stats["regions"]["TC"]["volume_ml"] = 1.5
    QualityStats(weights, BRATS2020).add(case.stats, case.batch, case.image, case.label)
    assert case.stats["regions"]["TC"]["volume_interval_ml"] == [0.19, 12]


def test_labels_of_another_convention_give_the_same(case: SimpleNamespace, weights: Path) -> None:
    write_card(weights, quality=quality(0.8))
    label = np.where(case.label == 4, 3, case.label)
    QualityStats(weights, get_convention("brats2023")).add(case.stats, case.batch, case.image, label)
    assert case.stats["regions"]["ET"]["volume_interval_ml"] == [0.12, 8]


@pytest.mark.parametrize("few", [False, True])
def test_weights_without_a_model_add_nothing_and_log_a_line(
    case: SimpleNamespace, weights: Path, few: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_card(weights, **({"quality": quality(0.8) | {"dice": {}, "volume": {}}} if few else {}))
    with caplog.at_level(logging.INFO):
        stats = QualityStats(weights, BRATS2020)
    assert len(caplog.records) == 1
    stats.add(case.stats, case.batch, case.image, case.label)
    assert "review" not in case.stats
    assert case.stats["regions"]["WT"] == {"volume_ml": 1}


def test_a_damaged_model_is_refused(weights: Path) -> None:
    write_card(weights, quality={"features": []})
    with pytest.raises(DataError) as error:
        QualityStats(weights, BRATS2020)
    assert str(weights) in error.value.subject


def test_cases_for_review_are_listed_with_the_worst_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for case_id, dice, review in (("a", 0.6, True), ("b", 0.2, True), ("c", 0.9, False)):
        stats = {"review": review, "regions": {"WT": {"predicted_dice": dice}}}
        write_json(tmp_path / f"{case_id}.json", stats)
    (tmp_path / "damaged.json").write_text("{")
    cases = ["a", "b", "c", "damaged", "failed"]
    assert cases_to_review(tmp_path, cases) == [("b", 0.2), ("a", 0.6)]
    log_reviews(tmp_path, cases)
    assert caplog.messages == [
        "Look at these cases first, they may be wrong:\n  b  predicted Dice of WT 0.20\n  a  predicted Dice of WT 0.60"
    ]


def test_nothing_is_logged_if_no_case_is_for_review(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log_reviews(tmp_path, ["a"])
    assert not caplog.records
