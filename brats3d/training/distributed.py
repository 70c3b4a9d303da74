"""Processes that train or segment together, under torchrun."""

from __future__ import annotations

import inspect
import os
from datetime import timedelta
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist

from brats3d.files import read_shard


def refuse_idle_processes(cases: int, what: str) -> None:
    """Called by every process, so that all end: one without a case would do another's a second time, or nothing."""
    if (processes := idist.get_world_size()) > cases:
        raise ValueError(f"{processes} processes for {cases} {what}: start at most {cases} (--nproc_per_node)")


def distributed_device(backend: str | None = None, timeout_hours: float | None = None) -> torch.device:
    """The device of this process under ``torchrun``; joins the process group.

    Args:
        backend: of the group; None is nccl on CUDA and gloo on the CPU.
        timeout_hours: that a process waits for the others; None is PyTorch's own.

    Raises:
        ValueError: if the environment does not come from ``torchrun``.
    """
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched():
            raise ValueError("multi_gpu_*.yaml: expected to be started by torchrun, which sets RANK and WORLD_SIZE")
        if "SLURM_JOB_ID" in os.environ:
            # ignite believes SLURM, for which torchrun is a node's only task: each process would be its first.
            os.environ["SLURM_LOCALID"] = os.environ["LOCAL_RANK"]
        timeout = None if timeout_hours is None else timedelta(hours=timeout_hours)
        dist.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"), timeout=timeout)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", dist.get_node_local_rank())
    torch.cuda.set_device(device)
    return device


def process_shard(device: torch.device, shard: str | None = None) -> str:
    """Which share of the cases this process takes, such as ``"2/4"``; see :mod:`brats3d.files.shards`.

    Args:
        device: of :func:`distributed_device`, by which the process has joined the others.
        shard: what all of them share, such as a task's ``"3/8"`` of a job array; None = all cases.

    Raises:
        ValueError: if ``shard`` is not written ``i/n``.
    """
    number, count = read_shard(shard)
    return f"{number + count * idist.get_rank()}/{count * idist.get_world_size()}"


def distribute(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """``network`` wrapped by DistributedDataParallel, on this process's device.

    Raises:
        ValueError: if the process has joined no group.
    """
    if not dist.is_initialized():
        raise ValueError("multi_gpu_train.yaml chooses each process's device itself; leave --device out")
    device_ids = [device] if device.type == "cuda" else None
    # Buffers stay each process's own: they would be sent at every forward pass, also in a validation in which the
    # processes have unequal numbers of windows.
    wrapper = torch.nn.parallel.DistributedDataParallel
    names = inspect.signature(wrapper).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # before 2.13
    options: dict[str, Any] = {"device_ids": device_ids, buffers: False}
    return wrapper(network, **options)


def is_helper() -> bool:
    """Whether this is not the process of rank 0, which alone writes files."""
    return idist.get_rank() > 0
