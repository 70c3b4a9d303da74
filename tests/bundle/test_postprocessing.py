"""The post-processing of predict and evaluate: on by default, off by one knob, with values that can be changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from brats3d.labels import REGIONS
from brats3d.postprocessing import RegionRules

Workflow = Callable[..., ConfigWorkflow]


def logits(image: torch.Tensor) -> torch.Tensor:
    """Logits (3, H, W, D) with a tumour of 20³ voxels, all edema, and a speck of 27 voxels, all ET."""
    pred = image.new_full((len(REGIONS), *image.shape[1:]), -5)
    pred[:, -3:, -3:, -3:] = 5
    pred[REGIONS.index("WT"), 2:22, 2:22, 2:22] = 5
    return pred


@pytest.mark.parametrize(
    ("overrides", "voxels"),
    [
        ({}, 8000),
        ({"postprocess": False}, 8027),
        ({"region_rules#min_wt_ml": 0.027, "region_rules#min_tc_ml": 0, "region_rules#min_et_ml": 0}, 8027),
    ],
    ids=["default", "off", "other values"],
)
def test_predict_removes_small_components(
    overrides: dict[str, Any], voxels: int, phantoms: Path, workflow: Workflow
) -> None:
    built = workflow("predict", dataset_dir=phantoms, **overrides)
    image = built.preprocessing({"image": built.parser.get_parsed_content("dataset#data")[0]["image"]})["image"]
    labels = built.postprocessing({"image": image, "pred": logits(image)})["pred"]
    assert int((labels > 0).sum()) == voxels
    assert int((labels == 4).sum()) == voxels - 8000


@pytest.mark.parametrize(
    ("name", "overrides", "voxels"),
    [("train", {}, 8027), ("evaluate", {}, 8000), ("evaluate", {"postprocess": False}, 8027)],
)
def test_evaluate_does_so_too_but_the_validation_of_a_training_does_not(
    name: str, overrides: dict[str, Any], voxels: int, phantoms: Path, workflow: Workflow
) -> None:
    built = workflow(name, dataset_dir=phantoms, **overrides)
    process = built.parser.get_parsed_content("validate#postprocessing")
    image = torch.zeros(4, 32, 32, 32)
    found = process({"pred": logits(image), "label": torch.zeros(1, 32, 32, 32, dtype=torch.uint8)})["pred"]
    assert int(found[REGIONS.index("WT")].sum()) == voxels


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("region_rules#min_et_ml", "-1"),
        ("region_rules#min_et_ml", "lots"),
        ("region_rules#min_et_ml", "null"),
        ("threshold", "{WT: 0.4, TC: 5, ET: 0.5}"),
        ("threshold", "{WT: 0.4}"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str, run: Callable, phantoms: Path, tmp_path: Path) -> None:
    code, _, err = run("predict", phantoms, "--output", tmp_path / "out", f"--{name}", value)
    assert code == 2
    assert err.strip().splitlines()[-1].startswith(f"brats3d: error: {name.rpartition('#')[2]}: ")
    assert not (tmp_path / "out").exists()


CHOSEN = {"threshold": {"TC": 0.5, "WT": 0.3, "ET": 0.7}, "region_rules": {"min_wt_ml": 1, "min_et_total_ml": 0.2}}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint whose card has chosen values; its weights cannot be loaded."""
    card = {"modalities": ["t1", "t1ce", "t2", "flair"], "regions": list(REGIONS), "network_def": {}}
    (tmp_path / "best.json").write_text(json.dumps({**card, "postprocessing": CHOSEN}))
    (tmp_path / "best.pt").touch()
    return tmp_path / "best.pt"


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_the_values_of_the_weights_are_used_where_none_is_set(
    name: str, weights: Path, phantoms: Path, workflow: Workflow
) -> None:
    found = workflow(name, dataset_dir=phantoms, checkpoint=weights).parser
    assert found.get_parsed_content("threshold") == CHOSEN["threshold"]
    assert found.get_parsed_content("region_rules") == RegionRules(1, 0.1, 0.1, 0.2, 0)
    options = {"threshold": 0.4, "region_rules#min_wt_ml": 0.3}
    found = workflow(name, dataset_dir=phantoms, checkpoint=weights, **options).parser
    assert found.get_parsed_content("threshold") == 0.4
    assert found.get_parsed_content("region_rules") == RegionRules(0.3, 0.1, 0.1, 0.2, 0)


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_the_values_of_other_weights_are_those_of_the_config(name: str, phantoms: Path, workflow: Workflow) -> None:
    found = workflow(name, dataset_dir=phantoms).parser
    assert found.get_parsed_content("threshold") == 0.5
    assert found.get_parsed_content("region_rules") == RegionRules(0.1, 0.1, 0.1, 0, 0)


def test_predict_applies_the_values_of_the_weights(weights: Path, phantoms: Path, workflow: Workflow) -> None:
    built = workflow("predict", dataset_dir=phantoms, checkpoint=weights)
    image = built.preprocessing({"image": built.parser.get_parsed_content("dataset#data")[0]["image"]})["image"]
    pred = image.new_full((len(REGIONS), *image.shape[1:]), -5)
    pred[REGIONS.index("WT"), 2:22, 2:22, 2:22] = -0.5  # a probability of 0.38
    pred[REGIONS.index("ET"), 2:7, 2:7, 2:7] = 0.5  # 0.62
    pred[REGIONS.index("TC"), 8:14, 8:14, 8:14] = 5
    labels = built.postprocessing({"image": image, "pred": pred})["pred"]
    assert [int((labels == value).sum()) for value in (1, 2, 4)] == [216, 8000 - 216, 0]
