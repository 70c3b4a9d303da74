"""The facts that a plan follows from: those of the data set, and those of the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from brats3d.files import free_gpu_memory, free_memory, free_shared_memory, gib

CPU = torch.device("cpu")


@dataclass(frozen=True)
class DataFacts:
    """A data set, as one fold sees it.

    Args:
        folds: the number of folds.
        training: the number of training cases.
        validation: the number of validation cases.
        brain_box: median shape of a prepared case, in voxels.
        spacing_mm: spacing of the first case.
        case_bytes: median size of a prepared case.
    """

    folds: int
    training: int
    validation: int
    brain_box: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    case_bytes: int

    def __str__(self) -> str:
        spacing = " x ".join(f"{n:g}" for n in self.spacing_mm)
        return (
            f"{self.training} training and {self.validation} validation cases, {self.folds} folds; median brain box "
            f"{' x '.join(map(str, self.brain_box))} voxels of {spacing} mm; {self.case_bytes / 1e6:.0f} MB per "
            "prepared case"
        )


@dataclass(frozen=True)
class MachineFacts:
    """A machine, as it is now.

    Args:
        device: where the network will train.
        device_name: name of the GPU; empty for a CPU.
        cores: CPU cores that this process may use.
        free_bytes: free memory of each device, including the CPU.
        free_disk: free bytes of the disk with the working directory.
    """

    device: torch.device
    device_name: str
    cores: int
    free_bytes: Mapping[torch.device, int]
    free_disk: int

    @property
    def has_gpu(self) -> bool:
        """True if the network trains on a GPU."""
        return self.device.type != "cpu"

    def __str__(self) -> str:
        gpu = "no GPU"
        if self.has_gpu:
            gpu = f"{self.device_name} with {gib(self.free_bytes[self.device])} GiB free"
        return (
            f"{self.cores} CPU cores, {gib(self.free_bytes[CPU])} GiB of RAM free, {gpu}, {gib(self.free_disk)} GiB "
            "of disk free"
        )


def measure_machine(device: torch.device, folder: Path) -> MachineFacts:
    """Return the facts of this machine.

    Args:
        device: where the network will train.
        folder: the folder that the run will write to, or one above it.
    """
    free = {CPU: free_memory()}
    gpu_memory = free_gpu_memory(device)
    if gpu_memory is not None:
        free[device] = gpu_memory
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return MachineFacts(device, name, cores, free, shutil.disk_usage(folder).free)


def shared_memory_fits(needed: int) -> bool:
    """Return True if worker processes find that many bytes of shared memory."""
    free = free_shared_memory()
    return free is None or needed <= free
