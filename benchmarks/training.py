"""Training patches a second, network and loss alone, for the default network and two others.

    python benchmarks/training.py [--patch 128] [--steps 6]

The widths are measured in turn, again and again, and the median is taken, so that a machine that slows down slows all.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from machine import record, rows
from monai.networks.nets import UNet

from brats3d.networks import DiceBCELoss, autocast

WIDTHS = {
    "16-256 (default)": (16, 32, 64, 128, 256),
    "12-192": (12, 24, 48, 96, 192),
    "24-256": (24, 48, 96, 192, 256),
}


def stepper(channels: tuple[int, ...], patch: int, device: str):
    """A function that makes one training step on two random patches, and the number of parameters."""
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
    options = parser.parse_args()
    steps = {name: stepper(channels, options.patch, options.device) for name, channels in WIDTHS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.steps + 1):
        for name, (step, _) in steps.items():
            taken = step()
            if turn:  # the first one warms up
                seconds[name].append(taken)
    header = ["channels", "parameters, million", "MiB in float16", f"patches of {options.patch}³ a second"]
    cells = [
        [name, count / 1e6, count * 2 / 2**20, 2 / statistics.median(seconds[name])]
        for name, (_, count) in steps.items()
    ]
    record("Training step", rows(header, cells))


if __name__ == "__main__":
    main()
