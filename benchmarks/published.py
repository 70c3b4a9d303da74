"""A training step of brats3d and of other tools as published, each with its own patch, batch, network, loss and loader.

    .venv-peers/bin/python benchmarks/published.py [--steps 4] [--device cpu] [--only ours zoo nnunet] [--record]

Each runs in a separate process on the same two full-size phantoms. The time is measured from the end of one step to the
end of the next, including the wait for the batch; the first step is a warm-up. Peak memory is that of the process.

- ours: ``train.yaml`` as shipped
- zoo: ``brats_mri_segmentation`` of MONAI's model zoo: SegResNet, one patch of 224x224x144, DiceLoss, Adam, float32 on
  the CPU, autocast and cuDNN's benchmark on CUDA, four loading processes, the transforms of its train.json
- nnunet: planner, preprocessor, loader, augmentation and trainer of nnunetv2
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from inference import DATASET, peers_environment, plan_nnunet
from machine import now, peak_kib, rows, show
from workflows import workflow_of

from brats3d.cases import load_fold
from brats3d.phantoms import write_phantoms

Marks = list[float]


def ours(data: Path, steps: int, device: str) -> tuple[list[int], Marks]:
    from ignite.engine import Events

    marks: Marks = []
    workflow = workflow_of(
        "train",
        dataset_dir=str(data),
        output_dir=str(data.parent / "ours"),
        device=f"$torch.device('{device}')",
        epochs=steps + 1,  # one step for each training phantom
        val_interval=steps + 2,
    )
    workflow.initialize()
    trainer = workflow.trainer

    def completed(engine) -> None:
        marks.append(now(device))
        if engine.state.iteration >= steps:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, completed)
    workflow.run()
    return [len(trainer.state.output["image"]), *trainer.state.output["image"].shape[2:]], marks


def zoo(data: Path, steps: int, device: str) -> tuple[list[int], Marks]:
    from monai.data import DataLoader, Dataset
    from monai.losses import DiceLoss
    from monai.networks.nets import SegResNet
    from monai.transforms import (
        Compose,
        ConvertToMultiChannelBasedOnBratsClassesd,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        RandFlipd,
        RandScaleIntensityd,
        RandShiftIntensityd,
        RandSpatialCropd,
    )

    both = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(both),
            EnsureChannelFirstd(both),
            ConvertToMultiChannelBasedOnBratsClassesd("label"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            RandSpatialCropd(both, roi_size=[224, 224, 144], random_size=False),
            *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandScaleIntensityd("image", factors=0.1, prob=1.0),
            RandShiftIntensityd("image", offsets=0.1, prob=1.0),
        ]
    )
    items = load_fold(data, "training")
    loader = DataLoader(Dataset(items * steps, transform), batch_size=1, shuffle=True, num_workers=4)
    network = SegResNet(
        init_filters=16, in_channels=4, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), dropout_prob=0.2
    ).to(device)
    loss = DiceLoss(smooth_nr=0, smooth_dr=1e-5, squared_pred=True, to_onehot_y=False, sigmoid=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, weight_decay=1e-5)
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
    torch.backends.cudnn.benchmark = device == "cuda"
    marks: Marks = []
    for batch in loader:
        image, label = batch["image"].as_tensor().to(device), batch["label"].as_tensor().float().to(device)
        optimizer.zero_grad()
        with torch.autocast(device, enabled=device == "cuda"):
            value = loss(network(image), label)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        marks.append(now(device))
        if len(marks) == steps:
            break
    return [len(image), *image.shape[2:]], marks


def nnunet(data: Path, steps: int, device: str) -> tuple[list[int], Marks]:
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plan_nnunet(data, device)
    dataset = json.loads(Path(nnUNet_raw, DATASET, "dataset.json").read_text())
    plans = json.loads(Path(nnUNet_preprocessed, DATASET, "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "3d_fullres", "all", dataset, device=torch.device(device))
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    marks: Marks = []
    for _ in range(steps):
        batch = next(trainer.dataloader_train)
        trainer.train_step(batch)
        marks.append(now(device))
    return [len(batch["data"]), *batch["data"].shape[2:]], marks


PIPELINES: dict[str, tuple[str, Callable[[Path, int, str], tuple[list[int], Marks]]]] = {
    "ours": ("brats3d, train.yaml", ours),
    "zoo": ("MONAI zoo, SegResNet", zoo),
    "nnunet": ("nnU-Net", nnunet),
}


def peak_gib(device: str) -> float:
    """Return the peak memory of this process; on CUDA, of the device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_kib() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=PIPELINES)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--run", choices=PIPELINES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        shape, marks = PIPELINES[options.run][1](options.data, options.steps, options.device)
        print(json.dumps([shape, marks, peak_gib(options.device)]), flush=True)
        return
    names = options.only or list(PIPELINES)
    versions = ""
    if importlib.util.find_spec("nnunetv2"):
        versions = f", nnunetv2 {importlib.metadata.version('nnunetv2')}"
    else:
        names = [name for name in names if name != "nnunet"]
        print(
            "nnU-Net is not installed: run make .venv-peers/.ready, then .venv-peers/bin/python benchmarks/published.py"
        )
    cells: list[list[object]] = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder, "cases")
            write_phantoms(data, 3, seed=7, setting="plain", progress=False)
            command = [sys.executable, __file__, "--run", name, "--data", str(data)]
            command += ["--steps", str(options.steps), "--device", options.device]
            done = subprocess.run(command, capture_output=True, text=True, env=peers_environment(data))
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        lines = [line for line in done.stdout.splitlines() if line.startswith("[[")]
        (batch, *patch), marks, peak = json.loads(lines[-1])
        step = statistics.median(b - a for a, b in itertools.pairwise(marks))
        voxels = batch * math.prod(patch) / step / 1e6
        size = " x ".join(map(str, patch))
        cells.append([PIPELINES[name][0], f"{batch} of {size}", step, batch / step, voxels, peak])
    header = ["training as published", "batch", "step, s", "patches/s", "million voxels/s", "peak GiB"]
    title = f"Training as published, {options.device}{versions}"
    show("training", title, rows(header, cells), options.record, options.device)


if __name__ == "__main__":
    main()
