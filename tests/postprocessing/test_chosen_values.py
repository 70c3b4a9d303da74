"""The values that were chosen for weights are read from their card."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from brats3d.errors import DataError
from brats3d.postprocessing import chosen_postprocessing

CARD = {"modalities": ["t1"], "regions": ["TC", "WT", "ET"], "network_def": {}}
CHOSEN = {"threshold": {"TC": 0.5, "WT": 0.4, "ET": 0.6}, "region_rules": {"min_wt_ml": 1, "min_et_total_ml": 0.2}}


@pytest.fixture
def weights(tmp_path: Path):
    """Write weights with values of post-processing in their card."""

    def write(**more: object) -> Path:
        (tmp_path / "best.pt").touch()
        (tmp_path / "best.json").write_text(json.dumps({**CARD, **more}))
        return tmp_path / "best.pt"

    return write


def test_the_values_have_the_names_of_the_config_and_are_logged_once(weights, caplog):
    path = weights(postprocessing=CHOSEN)
    with caplog.at_level(logging.INFO, "brats3d"):
        found = chosen_postprocessing(path)
    assert found == {"threshold": CHOSEN["threshold"], "min_wt_ml": 1, "min_et_total_ml": 0.2}
    (line,) = caplog.messages
    assert str(path) in line and "threshold TC 0.5 WT 0.4 ET 0.6, min_wt_ml 1, min_et_total_ml 0.2" in line


def test_nothing_was_chosen_without_weights_without_a_file_and_in_a_card_without_the_key(weights, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "brats3d"):
        assert [chosen_postprocessing(each) for each in (None, tmp_path / "none.pt", weights())] == [{}, {}, {}]
    assert not caplog.messages


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"threshold": CHOSEN["threshold"]},
        {**CHOSEN, "threshold": {"WT": 0.5}},
        {**CHOSEN, "threshold": {"TC": 0.5, "WT": 0.5, "ET": 5}},
        {**CHOSEN, "region_rules": {"min_wt_ml": -1}},
        {**CHOSEN, "region_rules": {"min_wt_ml": "1"}},
        {**CHOSEN, "region_rules": {"min_brain_ml": 1}},
    ],
)
def test_invalid_values_are_an_error_of_the_card(weights, value):
    path = weights(postprocessing=value)
    with pytest.raises(DataError) as caught:
        chosen_postprocessing(path)
    assert str(path.with_suffix("")) in caught.value.subject and "'postprocessing'" in caught.value.problem
