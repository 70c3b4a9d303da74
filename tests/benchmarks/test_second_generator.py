"""The second generator makes tumours of the volumes that it drew, with the contrasts of the sequences."""

from __future__ import annotations

import importlib
import math
import statistics
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from brats3d.evaluation import ScoreRow


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def generator(scripts: None) -> ModuleType:
    return importlib.import_module("second_generator")


def test_diffusion_conserves_the_amount_and_stops_at_what_does_not_conduct(generator: ModuleType) -> None:
    amount, medium = torch.zeros(6, 5, 4), torch.ones(6, 5, 4)
    amount[1, 2, 2], medium[3] = 1, 0
    for _ in range(50):
        amount = amount + generator.STEP * generator._flow(amount, medium)
    assert amount.sum() == pytest.approx(1, abs=1e-5)
    assert amount[3:].abs().max() == 0
    assert amount[:3].min() > 0.01  # 60 voxels share the amount


def test_a_region_has_the_volume_that_was_asked_for(generator: ModuleType) -> None:
    values = torch.arange(4000.0).view(20, 20, 10)
    allowed = values % 2 == 0
    mask, level = generator._top(values, allowed, 0.5)
    assert int(mask.sum()) == 500 and bool((mask <= allowed).all()) and values[mask].min() == level + 2
    assert int(generator._top(values, allowed, 0)[0].sum()) == 0


def test_each_sequence_orders_the_tissues_as_its_name_says(generator: ModuleType) -> None:
    for seed in range(20):
        protocols = generator._protocols(generator.Draw(seed))
        signal = {
            name: {
                tissue: float(generator._signal(*torch.tensor(values), *protocol))
                for tissue, values in generator.TISSUES.items()
            }
            for name, protocol in protocols.items()
        }
        assert signal["t1"]["csf"] < signal["t1"]["gm"] < signal["t1"]["wm"]
        assert signal["t2"]["wm"] < signal["t2"]["gm"] < signal["t2"]["edema"] < signal["t2"]["csf"]
        flair = signal["flair"]
        assert flair["csf"] < 0.5 * flair["wm"] < 0.5 * flair["gm"] < 0.5 * flair["edema"]


def test_sizes_are_spread_as_in_brats(generator: ModuleType) -> None:
    sizes = [generator._draw_sizes(generator.Draw(seed)) for seed in range(500)]
    assert all(5 <= each["whole"] <= 200 and each["core"] >= 0.4 for each in sizes)
    assert statistics.median(each["whole"] for each in sizes) == pytest.approx(85, abs=12)
    assert statistics.median(each["core"] for each in sizes) == pytest.approx(32, abs=6)
    assert 0.1 < statistics.fmean(each["et"] == 0 for each in sizes) < 0.25


@pytest.mark.slow
def test_a_case_is_made_again_from_its_seed(generator: ModuleType) -> None:
    image, label = generator.make_case(5)
    again = generator.make_case(5)
    assert np.array_equal(image, again[0]) and np.array_equal(label, again[1])
    assert image.dtype == np.int16 and image.shape == (4, *label.shape) and set(np.unique(label)) <= {0, 1, 2, 4}
    brain = (image > 0).all(0)
    assert np.array_equal(brain, (image != 0).any(0)) and brain[label > 0].all()
    assert 900 < brain.sum() / 1000 < 2000  # ml


def test_differences_are_paired_over_the_cases_that_have_the_region() -> None:
    selection = importlib.import_module("selection")

    def row(case_id: str, dice: float, ref_ml: float) -> ScoreRow:
        return ScoreRow(case_id=case_id, region="ET", dice=dice, ref_volume_ml=ref_ml, pred_volume_ml=1)

    first = [row("a", 0.5, 3), row("b", 0.6, 3), row("c", 0, 0)]
    other = [row("a", 0.6, 3), row("b", 0.9, 3), row("c", 1, 0)]
    gain, error = selection.difference(first, other, "ET")
    assert gain == pytest.approx(0.2)
    assert error == pytest.approx(math.sqrt(0.02) / math.sqrt(2))  # gains 0.1 and 0.3


def test_an_ablation_exchanges_the_fields_of_its_group_and_no_others() -> None:
    ablations = importlib.import_module("ablations")
    varied, wide = ablations.SETTINGS["varied"], ablations.SETTINGS["wide"]
    names = ablations.fields_of("tumours")
    assert names and set(names) <= set(ablations.steps_of_wide())
    without = ablations.exchange(wide, varied, names)
    changed = [
        name for name in ablations.steps_of_wide() if ablations._get(without, name) != ablations._get(wide, name)
    ]
    assert sorted(changed) == sorted(names)
    assert ablations.exchange(without, wide, names) == wide
    assert ablations.exchange(varied, wide, ablations.steps_of_wide()) == wide
