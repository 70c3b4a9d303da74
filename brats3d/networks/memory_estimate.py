"""Estimate the memory of a training step or a window by running it on tensors without storage.

On the ``meta`` device PyTorch knows shapes and types and computes nothing. Forward pass, loss and backward pass run
there in a fraction of a second, for any network, and the tensors alive at the same time are counted: activations kept
for the backward pass, gradients, temporary results. (The same count on real CPU tensors agrees to 2 %.)

The default network on a CPU in float32, estimated and measured in GiB by ``benchmarks/memory.py``::

    patch          64³    96³    128³
    batch of 1     0.15   0.37   0.77   estimated
                   0.17   0.36   0.81   measured
    batch of 2     0.25   0.69   1.12   estimated
                   0.20   0.68   1.14   measured
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from brats3d.networks.deep_supervision import deep_loss, split_resolutions

SMALL_BYTES = 32 * 2**20
"""glibc maps larger blocks one by one and returns them; smaller ones leave gaps in its heap (``mallopt(3)``)."""

HEAP_FACTOR = 1.5
"""Bytes of CPU memory per byte of small blocks, measured by benchmarks/memory.py."""

CPU_BYTES = 60 * 2**20
"""Memory of the CPU's kernels, which does not depend on the patch; measured by benchmarks/memory.py."""

GPU_FACTOR = 1.15
"""Overhead of cuDNN's workspaces and gaps. Measured: 1.63 GiB for 1.43 counted (4 patches of 128³, bfloat16)."""


@dataclass(frozen=True)
class MemoryNeed:
    """Peak size of the tensors that are alive at the same time.

    Args:
        total_bytes: size of all of them.
        small_bytes: size of those below :data:`SMALL_BYTES`, at the peak.
        output_shape: shape of the network's output.
    """

    total_bytes: int
    small_bytes: int
    output_shape: tuple[int, ...]

    def on(self, device: torch.device) -> int:
        """Return the bytes of a device's memory, with its overhead."""
        if device.type == "cpu":
            return int(self.total_bytes + (HEAP_FACTOR - 1) * self.small_bytes) + CPU_BYTES
        return int(GPU_FACTOR * self.total_bytes)


def step_need(
    network: nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    image_shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> MemoryNeed:
    """Estimate a training step: batch, activations, loss and gradients; without weights and optimizer state.

    Args:
        network: any network that runs on the meta device; it is not changed.
        loss: function of logits and target, both (B, C, H, W, D).
        image_shape: (B, C, H, W, D).
        dtype: type that the network computes in; the loss is in float32.

    Raises:
        Exception: any error of a network or a loss that computes with values.
    """
    on_meta = _on_meta_device(network, dtype).train()
    with TensorCounter() as counter:
        logits = split_resolutions(on_meta(_image(image_shape, dtype)))
        target = torch.empty(logits[0].shape, dtype=torch.uint8, device="meta")
        deep_loss(loss, logits, target).backward()
    return counter.need(logits[0])


def window_need(network: nn.Module, image_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> MemoryNeed:
    """Estimate a forward pass without gradients; arguments and errors are those of :func:`step_need`."""
    on_meta = _on_meta_device(network, dtype).eval()
    with torch.no_grad(), TensorCounter() as counter:
        logits = on_meta(_image(image_shape, dtype)).float()
    return counter.need(logits)


def stitched_bytes(image_shape: Sequence[int], roi_size: Sequence[int], out_channels: int) -> int:
    """Return the size of a volume's blended logits in float32, with the map of weights that they are divided by.

    Args:
        image_shape: (B, C, H, W, D).
        roi_size: size of a window; a smaller volume is padded to it.
        out_channels: channels of the logits.
    """
    voxels = math.prod(max(n, r) for n, r in zip(image_shape[2:], roi_size, strict=True))
    return 4 * voxels * (image_shape[0] * out_channels + 1)


class TensorCounter(TorchDispatchMode):
    """A context that counts the tensors alive at the same time: ``peak`` bytes, on any device."""

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

    def need(self, output: torch.Tensor) -> MemoryNeed:
        """Return the counted peak, for an output of this shape."""
        return MemoryNeed(self.peak, self.small_at_peak, tuple(output.shape))

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


def _image(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(tuple(shape), device="meta").to(dtype)


def _on_meta_device(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the network on the meta device; its weights are never copied."""
    replaced: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        on_meta = torch.empty_like(tensor, device="meta", dtype=kind, requires_grad=False)
        is_parameter = isinstance(tensor, nn.Parameter)
        replaced[id(tensor)] = nn.Parameter(on_meta, tensor.requires_grad) if is_parameter else on_meta
    return copy.deepcopy(network, replaced)
