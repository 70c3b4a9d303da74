"""How much memory there is, and how much a network needs: its step is made on tensors that have no memory.

On the ``meta`` device PyTorch knows shapes and types and computes nothing. So forward, loss and backward run there in a
third of a second, for any network, and what would be alive at the same time is counted: activations kept for the
backward pass, gradients, what operations put aside. (Counted so, and on real tensors of the CPU: the same to 2 %.)

The default network on a CPU in float32, estimated and measured, in GiB; ``benchmarks/memory.py`` measures it::

    patch          64³    96³    128³
    batch of 1     0.15   0.37   0.77   estimated
                   0.17   0.36   0.81   measured
    batch of 2     0.25   0.69   1.12   estimated
                   0.20   0.68   1.14   measured
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

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

    def work(bare: nn.Module) -> torch.Tensor:
        logits = bare(_image(image_shape, dtype)).float()
        target = torch.empty(logits.shape, dtype=torch.uint8, device="meta")
        try:
            value = loss(logits, target)
        except Exception:  # one that looks at values
            value = logits.sum()
        value.backward()
        return logits

    return _count(network, work, dtype, training=True)


def window_need(network: nn.Module, image_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Need:
    """What a window takes without a backward pass; arguments and errors are those of :func:`step_need`."""
    with torch.no_grad():
        return _count(network, lambda bare: bare(_image(image_shape, dtype)).float(), dtype, training=False)


def _count(network: nn.Module, work: Callable[[nn.Module], torch.Tensor], dtype: torch.dtype, training: bool) -> Need:
    """Do some work with the network, its weights exchanged for some without memory."""
    named = [*network.named_parameters(), *network.named_buffers()]
    weights = {f"network.{name}": _without_memory(tensor, dtype, training) for name, tensor in named}
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        with Counting() as counting:
            output = functional_call(_Work(network), weights, (work,))
    finally:
        for module, mode in modes:
            module.training = mode
    return Need(counting.peak, counting.small_at_peak, tuple(output.shape))


def _image(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(tuple(shape), device="meta").to(dtype)


def _without_memory(tensor: torch.Tensor, dtype: torch.dtype, training: bool) -> torch.Tensor:
    copy = torch.empty_like(tensor, device="meta", dtype=dtype if tensor.is_floating_point() else tensor.dtype)
    return copy.requires_grad_(training and tensor.requires_grad)


class _Work(nn.Module):
    """All that is done with a network as one call, so that the exchanged weights are there in the backward pass too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Callable[[nn.Module], torch.Tensor]) -> torch.Tensor:
        return work(self.network)


class Counting(TorchDispatchMode):
    """Within it the tensors that are alive at the same time are counted, in ``peak`` bytes, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.small_at_peak = 0
        self._sizes: dict[int, int] = {}
        self._now = self._small = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                self._add(value.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._sizes:
            return
        self._sizes[key] = size
        self._now += size
        self._small += size if size < SMALL_BYTES else 0
        if self._now > self.peak:
            self.peak, self.small_at_peak = self._now, self._small
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        size = self._sizes.pop(key)
        self._now -= size
        self._small -= size if size < SMALL_BYTES else 0


def stitched_bytes(image_shape: Sequence[int], roi_size: Sequence[int], out_channels: int) -> int:
    """What the blended logits of a volume take, in float32, with the map of weights that they are divided by.

    Args:
        image_shape: (B, C, H, W, D).
        roi_size: a smaller volume is padded to it.
        out_channels: of the logits.
    """
    voxels = math.prod(max(n, r) for n, r in zip(image_shape[2:], roi_size, strict=True))
    return 4 * voxels * (image_shape[0] * out_channels + 1)
