"""Peak memory of a training step, estimated and measured, on this machine's CPU or GPU.

    python benchmarks/memory.py [--patches 64 96 128] [--batches 1 2] [--device cpu] [--record]

Each value is measured in a separate process: peak resident memory (on a GPU: PyTorch's tensors) over three steps, minus
the memory after a step on 32³ voxels, which contains libraries, weights and AdamW's moments.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch
from machine import rows, show
from monai.networks.nets import UNet

from brats3d.networks import DiceBCELoss, autocast, compute_dtype, step_need


def default_network() -> UNet:
    network = UNet(3, 4, 3, (16, 32, 64, 128, 256), (2,) * 4, num_res_units=2, norm="INSTANCE", act="LEAKYRELU")
    return network.to(memory_format=torch.channels_last_3d)


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(patch: int, batch: int, device: torch.device) -> int:
    """Return the bytes that three steps add."""
    network = default_network().to(device)
    optimizer, loss = torch.optim.AdamW(network.parameters(), 1e-3), DiceBCELoss()

    def step(batch: int, patch: int) -> None:
        image = torch.randn(batch, 4, patch, patch, patch, device=device)
        target = torch.zeros(batch, 3, patch, patch, patch, device=device, dtype=torch.uint8)
        with autocast(device, amp=True):
            logits = network(image)
        loss(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step(1, 32)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else peak(device)
    for _ in range(3):
        step(batch, patch)
    return peak(device) - before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patches", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.measure:
        print(measure(options.patches[0], options.batches[0], options.device))
        return
    dtype, cells = compute_dtype(options.device, amp=True), []
    for batch in options.batches:
        for patch in options.patches:
            arguments = ["--measure", "--patches", patch, "--batches", batch, "--device", options.device]
            done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, check=True)
            measured = int(done.stdout.split()[-1]) / 2**30
            need = step_need(default_network(), DiceBCELoss(), (batch, 4, patch, patch, patch), dtype)
            estimated = need.on(options.device) / 2**30
            cells.append([f"{patch}³", batch, need.total_bytes / 2**30, estimated, measured, estimated / measured])
    header = ["patch", "batch", "tensors, GiB", "estimated, GiB", "measured, GiB", "estimated / measured"]
    title = f"Memory of a training step, {options.device}, {str(dtype).removeprefix('torch.')}"
    show("memory", title, rows(header, cells), options.record, options.device)


if __name__ == "__main__":
    main()
