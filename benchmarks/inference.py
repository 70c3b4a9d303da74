"""Inference on full-size cases, file in to file out: the bundle, its floor, and the code of other tools.

    python benchmarks/inference.py [--cases 5] [--peer-cases 3] [--device cpu] [--only ours floor ...] [--record]

Each pipeline runs in a separate process, one after another; brats3d and the floor run a second time at the end, which
shows if the machine has become slower. Start-up is the time from the start of the process until it is ready for the
first case (brats3d: until network, cases and handlers exist; its 10 MB of weights are loaded later). Seconds per case
is the median time between two written segmentations, so the first case is a warm-up. Ratios are those of the medians
over the cases that both pipelines had. Peak memory is main memory, that of the process and of its largest child, and
GPU memory on CUDA.

- ours: ``inference.yaml`` as shipped; windows: the same with ``--window "[128,128,128]"``
- floor: unpack the files, run brats3d's network once on the brain's bounding box in the same type, pack the labels;
  nothing is checked, oriented or normalised
- zoo: ``brats_mri_segmentation`` of MONAI's model zoo: SegResNet, windows of 240x240x160, four reading processes;
  float32 on the CPU, autocast and cuDNN's benchmark on CUDA, as in its inference.json
- nnunet: nnU-Net's planner, the planned network with random weights saved by its trainer, and its predictor;
  to install it: ``make .venv-peers/.ready``, then ``.venv-peers/bin/python benchmarks/inference.py``
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import peak_kib, rows, show
from workflows import workflow_of

from brats3d.bundle import config_files
from brats3d.cases import load_cases
from brats3d.convert import convert_to_nnunet
from brats3d.evaluation import box_with_margin
from brats3d.files import use_huge_pages, write_segmentation
from brats3d.networks import autocast, compute_dtype, with_window_norms
from brats3d.phantoms import write_phantoms

DATASET = "Dataset001_Phantoms"
OWN = ("ours", "windows", "floor")
Ready = Callable[[], None]


def ours(data: Path, output: Path, device: str, ready: Ready, window: object = "brain") -> None:
    workflow = workflow_of(
        "predict",
        dataset_dir=str(data),
        output_dir=str(output),
        device=f"$torch.device('{device}')",
        window=window,
    )
    workflow.initialize()
    _ = workflow.evaluator  # creates network, cases and handlers
    ready()
    workflow.run()


def ours_by_windows(data: Path, output: Path, device: str, ready: Ready) -> None:
    ours(data, output, device, ready, window=[128, 128, 128])


def to_labels(regions: np.ndarray) -> np.ndarray:
    """Convert the regions TC, WT and ET to labels of BraTS 2020."""
    core, whole, enhancing = regions
    return np.select([enhancing, core, whole], [4, 1, 2]).astype(np.uint8)


def floor(data: Path, output: Path, device: str, ready: Ready) -> None:
    from monai.bundle import ConfigParser

    from brats3d.files import read_volume

    use_huge_pages()
    config = ConfigParser()
    config.read_config(config_files("predict"))
    network = with_window_norms(config.get_parsed_content("network_def").eval())
    network.to(device, memory_format=torch.channels_last_3d)
    ready()
    for item in load_cases(data):
        images = np.stack([read_volume(Path(path)).values for path in item["image"]])
        box = box_with_margin(images.any(0), margin=0)
        brain = torch.from_numpy(images[(slice(None), *box)].astype(np.float32))[None]
        sides = [size + -size % 16 for size in brain.shape[2:]]  # the network halves four times
        dtype = compute_dtype(torch.device(device), amp=True)
        padded = torch.zeros(1, *sides, 4, dtype=dtype, device=device).movedim(-1, 1)  # channels-last
        padded[(..., *(slice(size) for size in brain.shape[2:]))] = brain.to(device, dtype)
        with torch.inference_mode(), autocast(torch.device(device), amp=True):
            inside = (network(padded)[0] > 0).cpu().numpy()
        labels = np.zeros(images.shape[1:], np.uint8)
        labels[box] = to_labels(inside[(..., *(slice(size) for size in brain.shape[2:]))])
        write_segmentation(output / f"{item['case_id']}.nii.gz", labels, item["image"][0])


def zoo(data: Path, output: Path, device: str, ready: Ready) -> None:
    from monai.data import DataLoader, Dataset
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import SegResNet
    from monai.transforms import Compose, LoadImaged, NormalizeIntensityd

    network = SegResNet(
        init_filters=16, in_channels=4, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), dropout_prob=0.2
    )
    network.eval().to(device)
    inferer = SlidingWindowInferer(roi_size=(240, 240, 160), sw_batch_size=1, overlap=0.5)
    load = Compose(
        [
            LoadImaged("image", image_only=True, ensure_channel_first=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    torch.backends.cudnn.benchmark = device == "cuda"
    items = load_cases(data)
    loader = DataLoader(Dataset([{"image": item["image"]} for item in items], load), batch_size=1, num_workers=4)
    ready()
    for item, batch in zip(items, loader, strict=True):
        image = batch["image"].as_tensor().to(device)
        with torch.no_grad(), torch.autocast(device, enabled=device == "cuda"):
            regions = (inferer(image, network)[0] > 0).cpu().numpy()
        write_segmentation(output / f"{item['case_id']}.nii.gz", to_labels(regions), item["image"][0])


def plan_nnunet(data: Path, device: str) -> None:
    """Plan with nnU-Net's planner, and save a network of that plan with its trainer."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    raw, preprocessed = Path(nnUNet_raw, DATASET), Path(nnUNet_preprocessed, DATASET)
    convert_to_nnunet(data, raw, progress=False)
    extract_fingerprints([1], num_processes=1)
    plan_experiments([1])
    preprocess([1], configurations=("3d_fullres",), num_processes=(1,))
    dataset = json.loads((raw / "dataset.json").read_text())
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device(device))
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # sets the mirror axes
    fold = Path(trainer.output_folder)
    trainer.save_checkpoint(str(fold / "checkpoint_final.pth"))
    shutil.copy(preprocessed / "nnUNetPlans.json", fold.parent / "plans.json")
    shutil.copy(raw / "dataset.json", fold.parent / "dataset.json")


def nnunet(data: Path, output: Path, device: str, ready: Ready, mirroring: bool = False) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.paths import nnUNet_raw, nnUNet_results

    predictor = nnUNetPredictor(
        use_mirroring=mirroring, perform_everything_on_device=device != "cpu", device=torch.device(device)
    )
    model = Path(nnUNet_results, DATASET, "nnUNetTrainer__nnUNetPlans__3d_fullres")
    predictor.initialize_from_trained_model_folder(str(model), use_folds=(0,))
    items = load_cases(data)
    folder = Path(nnUNet_raw, DATASET, "imagesTr")
    inputs = [[str(folder / f"{item['case_id']}_{channel:04d}.nii.gz") for channel in range(4)] for item in items]
    ready()
    predictor.predict_from_files(
        inputs,
        [str(output / item["case_id"]) for item in items],
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


def nnunet_mirrored(data: Path, output: Path, device: str, ready: Ready) -> None:
    nnunet(data, output, device, ready, mirroring=True)


PIPELINES: dict[str, tuple[str, Callable[[Path, Path, str, Ready], None]]] = {
    "ours": ("brats3d, inference.yaml", ours),
    "windows": ("brats3d, windows of 128³", ours_by_windows),
    "floor": ("floor: unpack, one forward, pack", floor),
    "zoo": ("MONAI zoo, SegResNet", zoo),
    "nnunet": ("nnU-Net, no mirroring", nnunet),
    "nnunet_mirrored": ("nnU-Net, mirroring", nnunet_mirrored),
}


def run_child(name: str, data: Path, device: str, started: float) -> None:
    """Run one pipeline; print start-up, seconds of each case, peak GiB and peak GiB of the GPU as the last line."""
    startup: list[float] = []
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        PIPELINES[name][1](data, Path(folder), device, lambda: startup.append(time.time() - started))
        written = sorted(path.stat().st_mtime for path in Path(folder).glob("*.nii.gz"))
    kib = peak_kib() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    of_gpu = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    print(json.dumps([startup[0], [b - a for a, b in itertools.pairwise(written)], kib / 2**20, of_gpu]))


def peers_environment(data: Path) -> dict[str, str]:
    """Add nnU-Net's folders to the environment. One augmentation worker on two cores: with two it stalled."""
    folders = {f"nnUNet_{part}": str(data.parent / part) for part in ("raw", "preprocessed", "results")}
    return {"nnUNet_n_proc_DA": str(max(1, (os.cpu_count() or 1) // 2)), **os.environ, **folders}


def call(name: str, data: Path, device: str) -> str:
    """Run this script in a separate process; return the last line of its output."""
    arguments = ["--run", name, "--data", str(data), "--device", device, "--started", str(time.time())]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, env=peers_environment(data)
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return (done.stdout.splitlines() or [""])[-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--peer-cases", type=int, default=3, help="number of cases for the other tools")
    parser.add_argument("--only", nargs="+", choices=PIPELINES)
    parser.add_argument("--size", choices=["full", "small"], default="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mirroring", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--run", choices=[*PIPELINES, "plan"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run == "plan":
        plan_nnunet(options.data, options.device)
        return
    if options.run:
        run_child(options.run, options.data, options.device, options.started)
        return
    names = ["ours", "windows", "floor", "zoo"]
    title = "Inference, file in to file out"
    if importlib.util.find_spec("nnunetv2"):
        names += ["nnunet", *(["nnunet_mirrored"] if options.mirroring else [])]
        title += f", nnunetv2 {importlib.metadata.version('nnunetv2')}"
    else:
        print(
            "nnU-Net is not installed: run make .venv-peers/.ready, then .venv-peers/bin/python benchmarks/inference.py"
        )
    names = [name for name in names if name in (options.only or PIPELINES)]
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder, "cases"), Path(folder, "few")
        write_phantoms(many, options.cases, seed=7, size=options.size, setting="plain", progress=False)
        write_phantoms(few, options.peer_cases, seed=7, size=options.size, setting="plain", progress=False)
        if "nnunet" in names:
            call("plan", few, options.device)
        found: dict[str, list] = {}
        for name in [*names, *(name for name in names if name in OWN)]:
            startup, seconds, *peaks = json.loads(call(name, many if name in OWN else few, options.device))
            line = found.setdefault(name, [startup, [], *peaks])
            line[1].append(seconds)
            line[0], line[2:] = min(line[0], startup), map(max, line[2:], peaks)

    def ratio(name: str, base: str) -> float | str:
        if base not in found:
            return ""
        shared = min(len(found[each][1][0]) for each in (name, base))  # both had the same cases in the same order
        one, other = (statistics.median(s for run in found[each][1] for s in run[:shared]) for each in (name, base))
        return one / other

    cells: list[list[object]] = []
    for name, (startup, runs, peak, of_gpu) in found.items():
        seconds = [each for run in runs for each in run]
        ratios = [ratio(name, base) for base in ("floor", "ours")]
        spread = f"{min(seconds):.3g}-{max(seconds):.3g}"
        peaks = [peak, *([of_gpu] if options.device == "cuda" else [])]
        cells.append([PIPELINES[name][0], startup, statistics.median(seconds), spread, *peaks, *ratios])
    header = ["pipeline", "start-up, s", "seconds per case", "range", "peak GiB"]
    header += [
        *(["of the GPU"] if options.device == "cuda" else []),
        "times the floor",
        "times brats3d",
    ]
    title += f": {options.cases} {options.size} phantoms ({options.peer_cases} for other tools), {options.device}"
    show("inference", title, rows(header, cells), options.record, options.device)


if __name__ == "__main__":
    main()
