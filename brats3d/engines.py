"""What MONAI's engines lack: bfloat16 on CPU and CUDA, the (epoch, case) sampler, runs that end where they should.

MONAI's engines hard-code ``torch.autocast("cuda")`` and a ``GradScaler``; both are by-passed through their
``iteration_update`` argument. bfloat16 has float32's range, so that nothing needs to be scaled.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
from collections.abc import Iterator, Sized
from datetime import timedelta
from functools import cache
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines import Evaluator, Trainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch.utils.data import Sampler

from brats3d.datasets import derive_seed
from brats3d.shards import read_shard
from brats3d.stitching import Stitcher

__all__ = [
    "EpochCaseSampler",
    "EvalStep",
    "PlaceSampler",
    "TrainStep",
    "ValidateLast",
    "autocast",
    "compute_dtype",
    "distribute",
    "distributed_device",
    "is_helper",
    "own_share",
]

logger = logging.getLogger("brats3d")


class TrainStep:
    """``iteration_update`` of a ``SupervisedTrainer``: forward under autocast, loss in float32, backward, step.

    A step whose loss or gradient is not finite is left out, by every process of a run, with a warning that names the
    batch's cases: it would end every weight. (On some CPUs oneDNN's bfloat16 gives such a gradient now and then, for
    patches of 32.)

    Args:
        amp: run the network in bfloat16 where it is safe (torch.autocast); False is float32 throughout.
        max_norm: longer gradients are shortened to it; None takes them as they are.
        seed: what a network draws itself (dropout) depends on (seed, iteration) alone, so that a resumed run draws it
            again; None leaves torch's generators as they are.
        patience: steps in a row that may be left out; one more ends the run.

    Raises:
        ValueError: if ``amp`` is no bool or ``patience`` negative; a :class:`FloatingPointError` ends the run.
    """

    def __init__(
        self, amp: bool = True, max_norm: float | None = None, seed: int | None = None, patience: int = 20
    ) -> None:
        if patience < 0:
            raise ValueError(f"patience: expected a number of steps from 0, got {patience}")
        self.amp = _flag("amp", amp)
        self.max_norm = max_norm
        self.seed = seed
        self.patience = patience
        self._left_out = 0

    def __call__(self, engine: Trainer, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One step on a batch: image (B, C, H, W, D), label (B, 3, H, W, D). Returns image, label, pred and loss."""
        image, label = (_plain(t) for t in engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking))
        engine.state.output = {Keys.IMAGE: image, Keys.LABEL: label}
        engine.network.train()
        kept = [(buffer, buffer.clone()) for buffer in engine.network.buffers()]  # BatchNorm's, if there is one
        if self.seed is not None:
            torch.manual_seed(derive_seed(self.seed, "step", engine.state.iteration, idist.get_rank()))
        engine.optimizer.zero_grad(set_to_none=True)
        with autocast(image.device, self.amp):
            logits = engine.inferer(image, engine.network)
        engine.state.output[Keys.PRED] = logits.float()
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = engine.loss_function(engine.state.output[Keys.PRED], label)
        engine.state.output[Keys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        # A loss of infinity can have a finite gradient. Times NaN it reaches every process through the gradient.
        (loss * torch.where(loss.isfinite(), 1.0, torch.nan)).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if self._is_usable(engine, batchdata):
            engine.optimizer.step()
        else:
            for buffer, before in kept:
                buffer.copy_(before)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        engine.state.output[Keys.LOSS] = loss.detach()
        engine.state.output[Keys.PRED] = engine.state.output[Keys.PRED].detach()
        return engine.state.output

    def _is_usable(self, engine: Trainer, batchdata: dict[str, torch.Tensor]) -> bool:
        parameters = list(engine.network.parameters())
        if self.max_norm is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
        if norm.isfinite():
            self._left_out = 0
            return True
        self._left_out += 1
        loss = float(engine.state.output[Keys.LOSS].detach())
        problem = "its gradient is not finite" if math.isfinite(loss) else f"its loss is {loss}"
        said = f"step {engine.state.iteration} is left out: {problem}; cases {_cases(batchdata)}"
        logger.warning("%s", said)
        if self._left_out > self.patience:
            raise FloatingPointError(
                f"{said}; it is the {self._left_out}th in a row, so the training ends here. The state saved last is "
                "good: look at these cases, or go on with a lower --learning_rate and --resume force"
            )
        return False


class EvalStep:
    """``iteration_update`` of a ``SupervisedEvaluator``: the inferer over the volume, windows under autocast.

    Windows are blended in float32 whatever the network computes in. A volume that a GPU has no room for is stitched in
    main memory; see :mod:`brats3d.stitching`.

    Args:
        amp: run the network in bfloat16 where it is safe (torch.autocast); False is float32 throughout.
        stitcher: decides where.
    """

    def __init__(self, amp: bool = True, stitcher: Stitcher | None = None) -> None:
        self.amp = _flag("amp", amp)
        self.stitcher = stitcher or Stitcher()

    def __call__(self, engine: Evaluator, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Image (B, C, H, W, D) -> pred, logits (B, 3, H, W, D) with its affine. Returns image, label and pred.

        All three are on one device, that on which the volume was stitched.
        """
        image, label = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        engine.state.output = {Keys.IMAGE: image, Keys.LABEL: label}

        def logits_of(window: torch.Tensor) -> torch.Tensor:
            with autocast(window.device, self.amp):
                return engine.network(window).float()

        with engine.mode(engine.network):
            dtype = compute_dtype(image.device, self.amp)
            pred = self.stitcher(engine.inferer, image, logits_of, engine.network, dtype)
        if pred.device != image.device:
            output = engine.state.output
            engine.state.output = {key: None if t is None else t.to(pred.device) for key, t in output.items()}
        engine.state.output[Keys.PRED] = pred
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


class EpochCaseSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, case index), so that a sample's augmentation can depend on the seed, the epoch and the case alone.

    The order of an epoch depends on (seed, epoch). With several processes each takes its share of that one order; the
    order is filled up from its own start, so that all shares are equally long.

    Args:
        data_source: the data set; only its length is used.
        seed: of the order.
        shuffle: False keeps the data set's order.
    """

    def __init__(self, data_source: Sized, seed: int = 0, shuffle: bool = True) -> None:
        self.size = len(data_source)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 1
        self.start = 0

    def place(self, epoch: int, start: int = 0) -> None:
        """The next pass is this epoch (from 1), without the first ``start`` samples of this process."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Samples an epoch and process."""
        return -(-self.size // idist.get_world_size())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """This process's (epoch, case index) of one epoch."""
        epoch, order = self.epoch, list(range(self.size))
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
            order = torch.randperm(self.size, generator=generator).tolist()
        total = len(self) * idist.get_world_size()
        order = (order * -(-total // self.size))[:total]
        for index in order[idist.get_rank() : total : idist.get_world_size()][self.start :]:
            yield epoch, index


class PlaceSampler:
    """Handler of the trainer: before each epoch the sampler learns the epoch, and where in it a restored run stands.

    Args:
        sampler: an :class:`EpochCaseSampler`.
        batch_size: samples the loader takes at each iteration.
    """

    def __init__(self, sampler: EpochCaseSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Place the sampler."""
        done = engine.state.iteration - (engine.state.epoch - 1) * engine.state.epoch_length
        self.sampler.place(engine.state.epoch, max(0, done) * self.batch_size)


class ValidateLast:
    """Handler of the trainer: validates after the last epoch where the interval of MONAI's ValidationHandler does not.

    Args:
        validator: the evaluator.
        interval: epochs from one validation to the next.
    """

    def __init__(self, validator: Evaluator, interval: int) -> None:
        self.validator = validator
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate if this is the last epoch and it has not been validated."""
        if engine.state.epoch == engine.state.max_epochs and engine.state.epoch % self.interval:
            self.validator.run(engine.state.epoch)


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


def own_share(device: torch.device, shard: str | None = None) -> str:
    """Which share of the cases this process takes, such as ``"2/4"``; see :mod:`brats3d.shards`.

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


def autocast(device: torch.device, amp: bool) -> torch.autocast:
    """bfloat16 for what runs within it, where ``amp`` asks for it and the device has it; else nothing changes.

    A CPU without bfloat16 instructions emulates them: a step of the default network took 45 times as long.
    """
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=amp and (device.type != "cpu" or _cpu_has_bfloat16())
    )


def compute_dtype(device: torch.device, amp: bool) -> torch.dtype:
    """What convolutions compute in within :func:`autocast`."""
    with autocast(device, amp):
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def is_helper() -> bool:
    """Whether this is not the process of rank 0, which alone writes files."""
    return idist.get_rank() > 0


@cache
def _cpu_has_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # older than torch 2.13
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    found = torch.cpu.get_capabilities()
    has = any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))
    if not has:
        logger.info("amp: this CPU has no bfloat16 instructions; computing in float32")
    return has


def _cases(batchdata: dict[str, Any]) -> str:
    names = batchdata.get("case_id", ())
    return ", ".join(map(str, [names] if isinstance(names, str) else names)) or "without names"


def _flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):  # "--amp false" reaches a config as the string 'false', which is true
        raise ValueError(f"{name}: expected True or False, got {value!r}")
    return value


def _plain(data: torch.Tensor) -> torch.Tensor:
    return data.as_tensor() if isinstance(data, MetaTensor) else data
