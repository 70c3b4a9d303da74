"""One full-size case, file in to file out: the bundle beside the network of MONAI's model zoo in one window.

    python benchmarks/inference.py [--cases 4]

Both run in processes of their own, in turn. Ours is ``inference.yaml`` as shipped; its second and later cases are
counted. The other reads the same files with the same transforms, and puts the whole 240x240x160 volume through
SegResNet (init_filters 16, blocks_down 1-2-2-4, float32), as the zoo's brats_mri_segmentation does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import record, rows

from brats3d.phantom_sets import write_phantoms


def ours(dataset_dir: str) -> list[float]:
    """Seconds from one written segmentation to the next."""
    from ignite.engine import Events
    from monai.bundle import ConfigWorkflow

    from brats3d.bundle import config_files, installed_bundle

    with tempfile.TemporaryDirectory() as output:
        workflow = ConfigWorkflow(
            config_file=[str(file) for file in config_files("predict")],
            workflow_type="infer",
            bundle_root=str(installed_bundle()),
            dataset_dir=dataset_dir,
            output_dir=output,
        )
        workflow.initialize()
        written = [time.perf_counter()]
        workflow.evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: written.append(time.perf_counter()))
        workflow.run()
    return [b - a for a, b in itertools.pairwise(written[1:])]


def zoo(dataset_dir: str) -> list[float]:
    """Seconds a case."""
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import SegResNet
    from monai.transforms import Compose, LoadImaged, NormalizeIntensityd

    from brats3d.datalist import load_datalist
    from brats3d.segmentations import write_segmentation

    network = SegResNet(
        init_filters=16, in_channels=4, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), dropout_prob=0.2
    ).eval()
    load = Compose(
        [
            LoadImaged("image", image_only=True, ensure_channel_first=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    seconds = []
    with tempfile.TemporaryDirectory() as output, torch.no_grad():
        for item in load_datalist(dataset_dir, "inference"):
            start = time.perf_counter()
            image = load({"image": item["image"]})["image"].as_tensor()[None]
            probs = sliding_window_inference(image, (240, 240, 160), 1, network, overlap=0.5).sigmoid()[0]
            label = (probs[1] > 0.5).to(torch.uint8).numpy()
            write_segmentation(Path(output) / f"{item['case_id']}.nii.gz", label, item["image"][0])
            seconds.append(time.perf_counter() - start)
    return seconds[1:]


def measure(name: str, dataset_dir: str) -> tuple[float, float]:
    """Median seconds a case and peak GiB of one process of its own."""
    command = [sys.executable, __file__, "--run", name, "--data", dataset_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return statistics.median(seconds), peak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--run", choices=["ours", "zoo"])
    parser.add_argument("--data")
    options = parser.parse_args()
    if options.run:
        seconds = {"ours": ours, "zoo": zoo}[options.run](options.data)
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder, options.cases, seed=7, setting="plain", progress=False)
        mine, peer, again = (measure(name, folder) for name in ("ours", "zoo", "ours"))
    seconds = (mine[0] + again[0]) / 2
    cells: list[list[object]] = [
        ["brats3d, inference.yaml", seconds, max(mine[1], again[1]), 1.0],
        ["SegResNet, one window, float32", peer[0], peer[1], peer[0] / seconds],
    ]
    header = ["pipeline", "seconds a case", "peak GiB", "times ours"]
    record("Inference, file in to file out", rows(header, cells))


if __name__ == "__main__":
    main()
