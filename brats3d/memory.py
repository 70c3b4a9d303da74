"""How much memory there is, and how much a network needs: its step is made on tensors that have no memory.

On the ``meta`` device PyTorch knows shapes and types and computes nothing. So forward, loss and backward run there in a
third of a second, for any network, and what would be alive at the same time is counted: activations kept for the
backward pass, gradients, what operations put aside. (Counted so, and on real tensors of the CPU: the same to 1 MiB.)
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["Need", "free_gpu_memory", "free_memory", "gib", "step_need", "total_memory", "window_need"]

CGROUP = Path("/sys/fs/cgroup")

SMALL_BYTES = 32 * 2**20
"""glibc maps larger blocks one by one and gives them back; smaller ones leave holes in its heap (``mallopt(3)``)."""
HEAP_FACTOR = 1.5
"""What small blocks take of a CPU's memory beside what is in them, measured: benchmarks/memory.py."""
CPU_BYTES = 60 * 2**20
"""What the CPU's kernels keep for themselves, whatever the patch, measured there too."""
GPU_FACTOR = 1.15
"""What cuDNN's workspaces and gaps add. Measured: 1.63 GiB where 1.43 are counted (4 patches of 128³, bfloat16)."""


@dataclass(frozen=True)
class Need:
    """Peak of the tensors that are alive at the same time.

    Args:
        total_bytes: of all of them.
        small_bytes: of those below :data:`SMALL_BYTES`, at that moment.
        output_shape: of what the network gave.
    """

    total_bytes: int
    small_bytes: int
    output_shape: tuple[int, ...]

    def on(self, device: torch.device) -> int:
        """Bytes of a device's memory that this takes there."""
        if device.type == "cpu":
            return int(self.total_bytes + (HEAP_FACTOR - 1) * self.small_bytes) + CPU_BYTES
        return int(GPU_FACTOR * self.total_bytes)


def step_need(
    network: nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    image_shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> Need:
    """What a training step takes: batch, activations, loss and gradients; not the weights and the optimizer's state.

    Args:
        network: any that runs on the meta device; neither its weights nor its mode change.
        loss: of logits and target, both (B, C, H, W, D); one that cannot be made there is left out.
        image_shape: (B, C, H, W, D).
        dtype: that the network computes in; the loss is in float32.

    Raises:
        Exception: whatever the network raises where its step cannot be made without values.
    """
    with _Counting(network, dtype, training=True) as count:
        logits = count.forward(image_shape).float()
        target = torch.empty(logits.shape, dtype=torch.uint8, device="meta")
        try:
            value = loss(logits, target)
        except Exception:  # one that looks at values
            value = logits.sum()
        value.backward()
        return count.need(logits)


def window_need(network: nn.Module, image_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Need:
    """What a window takes without a backward pass; arguments and errors are those of :func:`step_need`."""
    with _Counting(network, dtype, training=False) as count, torch.no_grad():
        return count.need(count.forward(image_shape).float())


def free_memory() -> int:
    """Bytes of main memory, within a container's limit: its host may have far more."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such files, or "max": no limit
        return free
    return min(free, max(0, limit - used + int(counts.get("inactive_file", 0))))


def total_memory() -> int:
    """Bytes of main memory and swap, within a container's limit."""
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    try:
        return min(total, int((CGROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        return total


def free_gpu_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU or that PyTorch holds there unused; None of any other device."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def gib(count: float) -> str:
    """Bytes as GiB with one decimal."""
    return f"{count / 2**30:.1f}"


class _Counting(TorchDispatchMode):
    """The network on the meta device; counts the storages that are alive."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, training: bool) -> None:
        super().__init__()
        self._network, self._dtype, self._training = network, dtype, training
        self._sizes: dict[int, int] = {}
        self._now = self._small = self._peak = self._small_at_peak = 0
        self._modes = [(module, module.training) for module in network.modules()]
        named = [*network.named_parameters(), *network.named_buffers()]
        self._weights = {name: self._without_memory(tensor, training) for name, tensor in named}

    def __enter__(self) -> _Counting:
        self._network.train(self._training)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for module, training in self._modes:
            module.training = training

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                self._add(value.untyped_storage())
        return out

    def forward(self, image_shape: Sequence[int]) -> torch.Tensor:
        image = torch.empty(tuple(image_shape), device="meta").to(self._dtype)
        return functional_call(self._network, self._weights, (image,))

    def need(self, output: torch.Tensor) -> Need:
        return Need(self._peak, self._small_at_peak, tuple(output.shape))

    def _without_memory(self, tensor: torch.Tensor, training: bool) -> torch.Tensor:
        dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
        copy = torch.empty_like(tensor, device="meta", dtype=dtype)
        return copy.requires_grad_(training and tensor.requires_grad)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._sizes:
            return
        self._sizes[key] = size
        self._now += size
        self._small += size if size < SMALL_BYTES else 0
        if self._now > self._peak:
            self._peak, self._small_at_peak = self._now, self._small
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        size = self._sizes.pop(key)
        self._now -= size
        self._small -= size if size < SMALL_BYTES else 0
