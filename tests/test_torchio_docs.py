"""The code of docs/torchio_nnunet.md runs, and leads from a datalist.json to scores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from brats3d.evaluation import score_folders

PAGE = Path(__file__).parents[1] / "docs" / "torchio_nnunet.md"


@pytest.mark.slow
def test_cases_go_to_torchio_and_predictions_come_back(make_dataset, run, tmp_path, monkeypatch):
    pytest.importorskip("torchio", reason="TorchIO is not installed: pip install torchio")
    root = make_dataset(cases=4, root=tmp_path / "DIR", shape=(20, 16, 12))
    assert run("split", root, "-o", root / "datalist.json", "--folds", 2)[0] == 0
    monkeypatch.chdir(tmp_path)
    read, write_back = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"segment": lambda case: case.label.data}  # a network that is always right
    exec(read, names)
    training, validation = names["training"], names["validation"]
    assert (len(training), len(validation)) == (2, 2)
    case = training[0]
    assert case.shape == (1, 32, 16, 16) and case.spacing == (1, 1, 1)
    assert np.unique(case.label.data).tolist() == [0, 1, 2, 3]
    brain = case.t1ce.data[case.t1ce.data > case.t1ce.data.min()]
    assert abs(brain.mean()) < 1e-3 and abs(brain.std() - 1) < 1e-3
    exec(write_back, names)
    scores = score_folders("predictions", "DIR", progress=False)
    assert scores.cases == 2 and {row.dice for row in scores.rows} == {1.0}
    assert {row.case_id for row in scores.rows} == {case.case_id for case in validation}
