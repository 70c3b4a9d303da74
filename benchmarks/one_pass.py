"""One pass of the network over a whole brain compared with sliding windows: time and Dice of the shipped weights.

    python benchmarks/one_pass.py [--cases 24] [--seed 900] [--setting varied] [--record]

The third row is one pass with InstanceNorm over the whole brain. The time is that of the network alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory

import torch
from machine import rows, show
from monai.inferers import SlidingWindowInferer
from workflows import workflow_of

from brats3d.bundle import installed_bundle
from brats3d.cases import load_fold
from brats3d.data import labels_to_regions
from brats3d.evaluation import score_case
from brats3d.labels import BRATS2020, MODALITIES, REGIONS_TO_READ
from brats3d.networks import BrainInferer, load_weights, with_window_norms
from brats3d.phantoms import write_phantoms

ROI = (128, 128, 128)


def prepared(folder: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield image (1, 4, H, W, D) and regions (3, H, W, D) of each case, as in an evaluation."""
    from monai.transforms import Compose

    workflow = workflow_of("train", dataset_dir=folder)
    transform = Compose(workflow.parser.get_parsed_content("train#deterministic_transforms"))
    for section in ("training", "validation"):
        for item in load_fold(folder, section):
            case = transform(item)
            yield case["image"].as_tensor()[None], labels_to_regions(case["label"].as_tensor(), BRATS2020)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--setting", default="varied")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    workflow = workflow_of("predict")
    network = workflow.parser.get_parsed_content("network_def").eval()
    load_weights(network, installed_bundle() / "models" / "model.pt", MODALITIES)
    network = with_window_norms(network.to(options.device, memory_format=torch.channels_last_3d))
    windows = SlidingWindowInferer(ROI, overlap=0.25, mode="gaussian")
    one_pass = BrainInferer(windows)

    def whole(image: torch.Tensor) -> torch.Tensor:
        size = one_pass.pass_size(image.shape[2:])
        assert size is not None, "phantoms have the size of BraTS cases"
        return SlidingWindowInferer(size)(image, network)

    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "windows": lambda image: windows(image, network),
        "one pass": lambda image: one_pass(image, network),
        "one pass, its own statistics": whole,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[list[float]]] = {name: [] for name in ways}
    with TemporaryDirectory() as folder, torch.no_grad():
        write_phantoms(folder, options.cases, seed=options.seed, setting=options.setting, progress=False)
        for image, regions in prepared(folder):
            for name, infer in ways.items():
                start = time.perf_counter()
                pred = infer(image.to(options.device)).sigmoid().cpu()[0] > 0.5
                seconds[name].append(time.perf_counter() - start)
                rows_ = score_case(pred, regions.bool(), "case", (1, 1, 1), rules=None)
                scores[name].append([row.dice for row in rows_])
    cells: list[list[object]] = [
        [name, statistics.median(seconds[name][1:]), *(statistics.fmean(s) for s in zip(*scores[name], strict=True))]
        for name in ways
    ]
    title = f"One pass and sliding windows: {options.cases} {options.setting} phantoms, seed {options.seed}"
    show("inference", title, rows(["", "seconds", *REGIONS_TO_READ], cells), options.record, options.device)


if __name__ == "__main__":
    main()
