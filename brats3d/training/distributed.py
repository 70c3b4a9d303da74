"""Distributed training and inference with torchrun."""

from __future__ import annotations

import inspect
import os
import time
from datetime import timedelta
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist

from brats3d.errors import UsageError
from brats3d.files import read_shard, use_huge_pages


def refuse_idle_processes(cases: int, what: str) -> None:
    """Raise on every rank if there are more processes than cases.

    Args:
        cases: number of cases.
        what: what the message calls them, such as ``"training cases"``.

    Raises:
        UsageError: if so; a process without a case would repeat another's or do nothing.
    """
    if (processes := idist.get_world_size()) > cases:
        raise UsageError("nproc_per_node", expected=f"at most {cases}, one for each of the {what}", found=processes)


def distributed_device(backend: str | None = None, timeout_hours: float | None = None) -> torch.device:
    """Join the process group of ``torchrun`` and return the device of this process.

    Args:
        backend: backend of the group; None = nccl on CUDA and gloo on the CPU.
        timeout_hours: how long a process waits for the others; None = PyTorch's default.

    Raises:
        UsageError: if the process was not started by ``torchrun``.
    """
    use_huge_pages()  # before the first tensor
    if not dist.is_initialized():
        if not dist.is_torchelastic_launched():
            raise UsageError(
                "multi_gpu_*.yaml", expected="a process started by torchrun, which sets RANK and WORLD_SIZE"
            )
        if "SLURM_JOB_ID" in os.environ:
            # Under SLURM, ignite reads the local rank from SLURM's variable. Torchrun is a single task there, so every
            # process would have local rank 0.
            os.environ["SLURM_LOCALID"] = os.environ["LOCAL_RANK"]
        timeout = None if timeout_hours is None else timedelta(hours=timeout_hours)
        dist.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"), timeout=timeout)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", dist.get_node_local_rank())
    torch.cuda.set_device(device)
    return device


def process_shard(device: torch.device, shard: str | None = None) -> str:
    """Return the shard of the cases that belongs to this process, such as ``"2/4"``; see :mod:`brats3d.files.shards`.

    Args:
        device: returned by :func:`distributed_device`, which has joined the process group.
        shard: shard that all processes divide, such as ``"3/8"`` in a job array; None = all cases.

    Raises:
        UsageError: if ``shard`` does not have the form ``i/n``.
    """
    number, count = read_shard(shard)
    return f"{number + count * idist.get_rank()}/{count * idist.get_world_size()}"


def distribute(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Wrap ``network`` in DistributedDataParallel, on the device of this process.

    Raises:
        UsageError: if the process has joined no process group.
    """
    if not dist.is_initialized():
        raise UsageError("device", "multi_gpu_train.yaml chooses the device of each process", advice="omit --device")
    device_ids = [device] if device.type == "cuda" else None
    # Do not synchronise buffers. That would happen at every forward pass, also in a validation, in which the processes
    # have different numbers of windows.
    wrapper = torch.nn.parallel.DistributedDataParallel
    names = inspect.signature(wrapper).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # before torch 2.13
    options: dict[str, Any] = {"device_ids": device_ids, buffers: False}
    return wrapper(network, **options)


def let_gloo_finish() -> None:
    """Let the thread of gloo free the tensors of the last collective, for which it needs the interpreter's lock.

    PyTorch destroys the process group with the network, waits for that thread, and keeps the lock meanwhile. If the
    thread still waits for the lock then, the process never ends.
    """
    if idist.get_world_size() > 1:
        time.sleep(0.5)  # releases the lock


def is_helper() -> bool:
    """Return True in every process except the first. Only the first process writes files."""
    return idist.get_rank() > 0
