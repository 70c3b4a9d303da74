"""The mean of the weights of several trainings, and its card."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet

from brats3d.errors import UsageError
from brats3d.labels import MODALITIES
from brats3d.networks import describe_network, load_weights, read_checkpoint, save_checkpoint


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import mean_weights

    return mean_weights


def network() -> UNet:
    return UNet(3, 4, 3, (4, 8), (2,), num_res_units=2, norm="INSTANCE")


def save(path: Path, value: float, **more: Any) -> Path:
    """Save weights that are all ``value``."""
    net = network()
    card = {
        "modalities": list(MODALITIES),
        "regions": ["TC", "WT", "ET"],
        "network_def": describe_network(net),
        "absent_sequences": True,
        "iteration": 10,
        "trained_on": "no patient data",
        "stages": ["first", path.stem],
        **more,
    }
    save_checkpoint(path, {name: torch.full_like(w, value) for name, w in net.state_dict().items()}, card)
    return path


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["mean_weights.py", *map(str, arguments)])
    script.main()


def test_the_mean_is_written_as_float16_with_the_history_of_its_parts(script, monkeypatch, tmp_path: Path) -> None:
    parts = [
        save(tmp_path / "a.pt", 1.0, seed=1, scores={"val_mean_dice": 0.5}, best_metric=0.5),
        save(tmp_path / "b.pt", 2.0, seed=2, iteration=30),
    ]
    run(script, monkeypatch, *parts, "--output", tmp_path / "model.pt")
    weights, card = read_checkpoint(tmp_path / "model.pt")
    assert all(w.dtype == torch.float16 and (w == 1.5).all() for w in weights.values())
    assert card["stages"][:3] == ["first", "a", "b"] and "mean" in card["stages"][3]
    assert card["parts"] == [
        {"seed": 1, "iteration": 10, "scores": {"val_mean_dice": 0.5}},
        {"seed": 2, "iteration": 30},
    ]
    assert (card["iteration"], card["trained_on"]) == (40, "no patient data")
    assert "best_metric" not in card, "no one has measured the mean"
    load_weights(network(), tmp_path / "model.pt", MODALITIES)


def test_one_training_is_its_own_mean(script, monkeypatch, tmp_path: Path) -> None:
    run(script, monkeypatch, save(tmp_path / "a.pt", 0.25), "--output", tmp_path / "model.pt")
    weights, card = read_checkpoint(tmp_path / "model.pt")
    assert all((w == 0.25).all() for w in weights.values())
    assert card["stages"] == ["first", "a"]


def test_the_moving_average_of_an_unfinished_training_is_used(script) -> None:
    average, weight = {"n_averaged": torch.tensor(7), "module.a": torch.ones(1)}, {"a": torch.zeros(1)}
    assert script.weights_of({"network": weight, "average": average}) == {"a": average["module.a"]}
    assert script.weights_of(weight) == weight


def test_weights_of_another_kind_are_refused(script, monkeypatch, tmp_path: Path) -> None:
    parts = [save(tmp_path / "a.pt", 1), save(tmp_path / "b.pt", 1, absent_sequences=False)]
    with pytest.raises(UsageError):
        run(script, monkeypatch, *parts, "--output", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_scores_of_the_mean_are_recorded(script, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "scores_of", lambda weights, sets: {f"{name}_dice_wt": 0.7 for name in sets})
    run(script, monkeypatch, save(tmp_path / "a.pt", 1), "--output", tmp_path / "m.pt", "--sets", "second", "varied")
    assert read_checkpoint(tmp_path / "m.pt")[1]["scores"] == {"second_dice_wt": 0.7, "varied_dice_wt": 0.7}


def test_a_constant_is_added_to_the_logits_of_one_region(script: ModuleType) -> None:
    net, image = network(), torch.rand(1, 4, 16, 16, 16)
    before = net(image)
    net.load_state_dict(script.add_to_logits(net.state_dict(), "ET", 2))
    assert torch.allclose(net(image) - before, torch.tensor([0.0, 0.0, 2.0]).view(1, 3, 1, 1, 1), atol=1e-5)


def test_the_card_of_a_mean_with_the_weights_at_the_start_says_so(script: ModuleType) -> None:
    start, trained = {"stages": ["first"]}, {"stages": ["first", "second"]}
    assert script.mean_card([start, trained])["stages"][-1].endswith("those that the training started from")
    assert "side by side" in script.mean_card([{"stages": ["a", "b"]}, {"stages": ["a", "c"]}])["stages"][-1]
