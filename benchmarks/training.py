"""Training patches per second of the default network and two other widths, network and loss alone.

    python benchmarks/training.py [--patch 128] [--steps 6] [--record]

The widths alternate, so that other load affects all of them; the median is reported.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from machine import rows, show
from monai.networks.nets import UNet

from brats3d.networks import DiceBCELoss, autocast

WIDTHS = {
    "16-256 (default)": (16, 32, 64, 128, 256),
    "12-192": (12, 24, 48, 96, 192),
    "24-256": (24, 48, 96, 192, 256),
}


def stepper(channels: tuple[int, ...], patch: int, device: str):
    """Return a function that makes one training step on two random patches, and the number of parameters."""
    network = UNet(3, 4, 3, channels, (2,) * 4, num_res_units=2, norm="INSTANCE", act="LEAKYRELU")
    network = network.to(device=device, memory_format=torch.channels_last_3d)
    optimizer, loss = torch.optim.AdamW(network.parameters(), 1e-3), DiceBCELoss()
    image = torch.randn(2, 4, patch, patch, patch, device=device)
    target = (torch.rand(2, 3, patch, patch, patch, device=device) > 0.9).to(torch.uint8)

    def step() -> float:
        start = time.perf_counter()
        with autocast(torch.device(device), amp=True):
            logits = network(image)
        loss(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step, sum(p.numel() for p in network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    steps = {name: stepper(channels, options.patch, options.device) for name, channels in WIDTHS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.steps + 1):
        for name, (step, _) in steps.items():
            duration = step()
            if turn:  # the first turn is a warm-up
                seconds[name].append(duration)
    header = ["channels", "parameters, million", "MiB in float16", f"patches of {options.patch}³ per second"]
    cells = [
        [name, count / 1e6, count * 2 / 2**20, 2 / statistics.median(seconds[name])]
        for name, (_, count) in steps.items()
    ]
    show("training", "Training step", rows(header, cells), options.record, options.device)


if __name__ == "__main__":
    main()
