"""Average the weights of trainings, and write them as the bundle has them: float16, with a card.

    python benchmarks/mean_weights.py BEST.pt [MORE.pt ...] --output model.pt [--add ET 2] [--sets second varied]

The trainings should start from the same weights, or one of the files should be those weights: means of unrelated
weights are useless. Of a ``last.pt``, the moving average is used. The card has the stages of all trainings, and what
their own cards say of the last one. With ``--sets``, it also has the mean's scores on the cases of ``selection.py``.
``--add`` adds a constant to the logits of a region (``calibration.py`` measures which), through the bias of the last
layer. ``--output bundle/models/model.pt`` replaces the bundle's weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import selection
import torch

from brats3d.evaluation import summarise
from brats3d.labels import REGIONS, REGIONS_TO_READ
from brats3d.networks import read_checkpoint, refuse_mismatch, save_checkpoint

SAME = ("modalities", "regions", "network_def", "patch_size", "config", "absent_sequences")
"""Entries of a card that must be equal."""
PARTS = ("seed", "epoch", "iteration", "minutes", "device", "commit", "scores")
"""Entries of a card that are kept for each training."""


def mean_weights(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of state dicts of the same network, computed in float32, in float16."""
    return {name: torch.stack([state[name].float() for state in states]).mean(0).half() for name in states[0]}


def weights_of(content: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """Return the weights of a ``best.pt`` or ``model.pt``, or the moving average of a ``last.pt``."""
    if "average" not in content:
        return content
    return {k.removeprefix("module."): v for k, v in content["average"].items() if k.startswith("module.")}


def mean_card(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the card of the mean of weights with these cards."""
    stages = list(dict.fromkeys(stage for card in cards for stage in card.get("stages", ())))
    if len(cards) > 1 and stages in [list(card.get("stages", ())) for card in cards]:
        stages.append("the mean of these weights and of those that the training started from")
    elif len(cards) > 1:
        stages.append(f"the mean of the weights of the last {len(cards)} trainings, which ran side by side")
    return {
        **{name: cards[0][name] for name in SAME if name in cards[0]},
        "iteration": sum(card.get("iteration", 0) for card in cards),
        "trained_on": "; ".join(dict.fromkeys(card["trained_on"] for card in cards if "trained_on" in card)),
        "stages": stages,
        "parts": [{name: card[name] for name in PARTS if name in card} for card in cards],
    }


def add_to_logits(weights: Mapping[str, torch.Tensor], region: str, amount: float) -> dict[str, torch.Tensor]:
    """Return weights whose logits of a region are larger by ``amount``: the bias of the last convolution changes."""
    bias = [name for name in weights if name.endswith(".bias")][-1]
    changed = weights[bias].clone()
    changed[REGIONS.index(region)] += amount
    return {**weights, bias: changed}


def scores_of(weights: Path, sets: Sequence[str]) -> dict[str, float]:
    """Return the Dice of weights on sets of cases, by names such as ``second_dice_wt``."""
    by_set = {name: summarise(rows) for name, rows in selection.score_weights(weights, sets).items()}
    return {
        f"{name}_dice_{region.lower()}": round(dice, 4)
        for name, summary in by_set.items()
        for region in REGIONS_TO_READ
        if (dice := summary[region].dice_present) is not None
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", nargs="+", type=Path, metavar="BEST.pt")
    parser.add_argument("--output", type=Path, required=True, metavar="model.pt")
    parser.add_argument("--add", nargs=2, action="append", default=[], metavar=("REGION", "AMOUNT"))
    parser.add_argument("--sets", nargs="+", choices=selection.SETS, default=[])
    options = parser.parse_args()
    states, cards = zip(*map(read_checkpoint, options.weights), strict=True)
    for file, card in zip(options.weights, cards, strict=True):
        refuse_mismatch(file, card, {name: cards[0].get(name) for name in SAME}, advice="average weights of one kind")
    weights, card = mean_weights([weights_of(state) for state in states]), mean_card(cards)
    for region, amount in options.add:
        weights = add_to_logits(weights, region, float(amount))
        card["stages"].append(f"{float(amount):+g} on the logits of {region}, chosen on phantoms by calibration.py")
    save_checkpoint(options.output, weights, card)
    if options.sets:
        save_checkpoint(options.output, weights, {**card, "scores": scores_of(options.output, options.sets)})
    print(f"{options.output}: the mean of {len(cards)}, {options.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
