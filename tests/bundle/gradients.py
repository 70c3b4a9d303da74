"""Script for torchrun: compute the gradients of a step on this process's part of a batch of four, and save them."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from monai.bundle import ConfigParser

from brats3d.bundle import installed_bundle
from brats3d.training.distributed import distribute, distributed_device

PATCHES, SIZE = 4, (32, 32, 32)


def main(output: str) -> None:
    device = distributed_device()
    parser = ConfigParser(ConfigParser.load_config_file(installed_bundle() / "configs" / "train.yaml"))
    torch.manual_seed(0)
    network, loss = (parser.get_parsed_content(part) for part in ("network_def", "loss"))
    images = torch.randn(PATCHES, 4, *SIZE)
    labels = (torch.rand(PATCHES, 3, *SIZE) < torch.tensor([0.001, 0.1, 0.3, 0.6])[:, None, None, None, None]).float()
    if dist.get_world_size() > 1:
        network = distribute(network, device)
    share = slice(dist.get_rank(), None, dist.get_world_size())
    loss(network(images[share]), labels[share]).backward()
    if dist.get_rank() == 0:
        torch.save({name.removeprefix("module."): p.grad for name, p in network.named_parameters()}, output)
    dist.barrier()
    # Skip the interpreter's shutdown: once, on a busy machine, a process waited forever while DDP was destroyed.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
