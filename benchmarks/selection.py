"""Compare weights without real cases: Dice on the second generator, on ``varied`` and on ``new-scanner``.

    python benchmarks/selection.py WEIGHTS.pt [MORE.pt ...] [--sets second varied new-scanner] [--cache DIR]
        [--json FILE] [--record]

Weights are plain state dicts in float16 or float32. Cases are made once and kept, preprocessed, in ``--cache``. The
whole brain is segmented in one pass. Dice of a region is the mean over the cases that have it, and false ET is what is
predicted in the others. A difference from the first weights is the mean over cases ± its standard error. Weights are
better if they gain on ``second`` and lose nothing on the other sets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import second_generator
import torch
from machine import rows, show
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose
from workflows import workflow_of

from brats3d.bundle import config_files, installed_bundle
from brats3d.data import labels_to_regions, nest_regions
from brats3d.evaluation import ScoreRow, score_case, summarise
from brats3d.labels import BRATS2020, MODALITIES, REGIONS_TO_READ
from brats3d.networks import BrainInferer, autocast, read_content, with_window_norms
from brats3d.phantoms import Setting, make_phantom

SETS = {"second": 24, "varied": 12, "new-scanner": 6}
"""Number of cases of each set."""
FIRST_SEED = 7000
CACHE = Path(tempfile.gettempdir()) / "brats3d-selection"
ROI = (128, 128, 128)
_STORED = {"image": torch.float16, "label": torch.uint8}
Scores = Mapping[str, Sequence[ScoreRow]]
"""Set -> the scores of its cases."""


def load_case(name: str, number: int, cache: Path = CACHE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image (4, X, Y, Z) and the label (1, X, Y, Z) of a case of a set; make it if the cache lacks it."""
    version = hashlib.sha256(Path(second_generator.__file__).read_bytes()).hexdigest()[:8]
    file = cache / (f"second-{version}" if name == "second" else name) / f"{number}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make_case(name, number), f"{file}.part")
        Path(f"{file}.part").replace(file)
    case = torch.load(file, weights_only=True)
    return case["image"].float(), case["label"]


def make_case(setting: str | Setting, number: int) -> dict[str, torch.Tensor]:
    """Return the preprocessed image and label of a phantom of a setting, or of ``"second"``."""
    if setting == "second":
        image, label = second_generator.make_case(FIRST_SEED + number)
    else:
        phantom = make_phantom(FIRST_SEED + number, setting=setting)
        image, label = np.stack([phantom.images[m] for m in MODALITIES]).astype(np.int32), phantom.label
    prepare = Compose(workflow_of("pretrain").parser.get_parsed_content("train#deterministic_transforms"))
    case = prepare({"image": torch.from_numpy(image).float(), "label": torch.from_numpy(label)[None]})
    return {key: case[key].as_tensor().to(dtype).clone() for key, dtype in _STORED.items()}


def logits_of(weights: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from an image (4, X, Y, Z) to logits, float32 (3, X, Y, Z) in the order TC, WT, ET.

    It does what ``predict`` does before post-processing. The card of the weights is ignored.
    """
    config = ConfigParser()
    config.read_config([str(file) for file in config_files("predict")])
    network = config.get_parsed_content("network_def").eval()
    content = read_content(weights)
    network.load_state_dict({key: value.float() for key, value in content.get("network", content).items()})
    network = with_window_norms(network.to(memory_format=torch.channels_last_3d))
    inferer = BrainInferer(SlidingWindowInferer(ROI, overlap=0.25, mode="gaussian"))

    def predict(image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), autocast(image.device, True):
            return inferer(image[None], network)[0].float()

    return predict


def predictor_of(weights: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that segments an image (4, X, Y, Z) into regions, bool (3, X, Y, Z): where logits exceed 0."""
    logits = logits_of(weights)
    return lambda image: logits(image) > 0


def score_weights(weights: Path, sets: Sequence[str] = tuple(SETS), cache: Path = CACHE) -> dict[str, list[ScoreRow]]:
    """Score a file of weights on the sets."""
    predict = predictor_of(weights)
    scores: dict[str, list[ScoreRow]] = {name: [] for name in sets}
    for name in sets:
        for number in range(SETS[name]):
            scores[name] += score_prediction(predict, *load_case(name, number, cache), f"{name}_{number:02d}")
    return scores


def score_prediction(
    predict: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, label: torch.Tensor, case_id: str
) -> list[ScoreRow]:
    """Segment a preprocessed case with the result of :func:`predictor_of`, and score it."""
    pred, ref = nest_regions(predict(image)), labels_to_regions(label, BRATS2020)
    return score_case(pred, ref, case_id, (1, 1, 1), rules=None)


def difference(first: Sequence[ScoreRow], other: Sequence[ScoreRow], region: str) -> tuple[float, float]:
    """Return the mean difference in Dice over the cases that have the region in both, and its standard error."""
    pairs = zip(first, other, strict=True)
    gains = [b.dice - a.dice for a, b in pairs if a.region == region and min(a.ref_volume_ml, b.ref_volume_ml) > 0]
    return statistics.fmean(gains), statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0


def table(scores: Mapping[str, Scores]) -> list[str]:
    """Format the scores of weights: name -> set -> rows; differences are from the first."""
    first, *_ = scores.values()
    cells: list[list[object]] = []
    for set_name in first:
        for name, by_set in scores.items():
            summary = summarise(by_set[set_name])
            false_et = summary["ET"].false_volume_ml
            gains = [difference(first[set_name], by_set[set_name], region) for region in REGIONS_TO_READ]
            line = [
                *(f"{summary[region].dice_present:.3f}" for region in REGIONS_TO_READ),
                "" if false_et is None else f"{false_et:.2f}",
                *("" if by_set is first else f"{gain:+.3f} ± {error:.3f}" for gain, error in gains),
            ]
            cells.append([set_name, name, *line])
    header = ["set", "weights", *REGIONS_TO_READ, "false ET, ml", *(f"{r} against the first" for r in REGIONS_TO_READ)]
    return rows(header, cells)


def main() -> None:
    parser = argparse.ArgumentParser()
    shipped = installed_bundle() / "models" / "model.pt"
    parser.add_argument("weights", nargs="*", type=Path, default=[shipped], metavar="WEIGHTS.pt")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    scores = {
        "shipped" if file == shipped else str(file): score_weights(file, options.sets, options.cache)
        for file in options.weights
    }
    if options.json:
        content = {w: {s: [row.to_json() for row in rows_] for s, rows_ in x.items()} for w, x in scores.items()}
        options.json.write_text(json.dumps(content, indent=1))
    title = "Selection: " + ", ".join(f"{SETS[name]} of {name}" for name in options.sets)
    show("weights", title, table(scores), options.record, "cpu")


if __name__ == "__main__":
    main()
