from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents

from brats3d.labels import REGIONS
from brats3d.quality import SaveQuality, fit_quality, read_quality, write_quality
from brats3d.quality.fitting_case import FittingCase


def evaluate(folder: Path, quality: dict[str, Any] | None) -> None:
    """Run the handler on a case of 1 mm whose regions are cubes of 1 ml."""
    card = {"modalities": ["t1"], "regions": list(REGIONS), "network_def": {"in_channels": 1}}
    (folder / "best.pt").touch()
    (folder / "best.json").write_text(json.dumps(card | ({} if quality is None else {"quality": quality})))
    regions = torch.zeros(3, 20, 20, 20)
    regions[:, 5:15, 5:15, 5:15] = 1
    volume = MetaTensor(torch.zeros(1, 20, 20, 20), affine=np.eye(4))

    def step(engine: Engine, batch: object) -> list[dict[str, torch.Tensor]]:
        engine.state.batch = {"case_id": ["a"]}
        engine.state.output = {"image": [volume], "pred": (regions * 4 - 2)[None]}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.state.batch = [{"case_id": "a"}]
        return [{"pred": regions, "label": volume}]

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    SaveQuality(folder, folder / "best.pt").attach(engine)
    engine.run([0])


def test_the_quality_of_each_case_is_written(tmp_path: Path, many_cases: list[FittingCase]) -> None:
    evaluate(tmp_path, fit_quality(many_cases))
    found = read_quality(tmp_path / "quality.json")
    assert list(found) == ["a"]
    assert 0 <= found["a"]["WT"].predicted_dice <= 1


@pytest.mark.parametrize("earlier", [False, True])
def test_without_a_model_no_quality_of_earlier_weights_remains(tmp_path: Path, earlier: bool) -> None:
    if earlier:
        write_quality(tmp_path / "quality.json", {"a": {}})
    evaluate(tmp_path, None)
    assert (tmp_path / "quality.json").exists() is earlier
    assert read_quality(tmp_path / "quality.json") == {}
