"""One training step, with bfloat16 on CPU and CUDA; non-finite steps are skipped.

MONAI's engines hard-code ``torch.autocast("cuda")`` and a ``GradScaler``; their ``iteration_update`` argument bypasses
both. bfloat16 has the range of float32, so nothing needs to be scaled.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import MetaTensor
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from brats3d.data import derive_seed
from brats3d.errors import UsageError
from brats3d.networks import SafeBackward, autocast, check_flag, deep_loss, split_resolutions

logger = logging.getLogger("brats3d")


class TrainStep:
    """``iteration_update`` of a ``SupervisedTrainer``: forward under autocast, loss in float32, backward, step.

    With deep supervision, the loss is a mean over resolutions (:mod:`brats3d.networks.deep_supervision`).

    A step whose loss or gradient is not finite is skipped by every process of the run, because it would make every
    weight NaN. A warning names the cases of the batch. This check is the only point of a step at which the CPU waits
    for the GPU.

    Args:
        amp: run the network in bfloat16 where it is safe (torch.autocast); False = float32 throughout.
        max_norm: clip gradients to this norm; None = no clipping.
        seed: random numbers drawn by the network (dropout) depend on (seed, iteration) alone, so that a resumed run
            draws the same ones; None leaves torch's generators as they are.
        patience: steps in a row that may be skipped; one more ends the run.

    Raises:
        UsageError: if ``amp`` is not a bool or ``patience`` is negative.
        FloatingPointError: in a step, if ``patience`` is exceeded.
    """

    def __init__(
        self, amp: bool = True, max_norm: float | None = None, seed: int | None = None, patience: int = 20
    ) -> None:
        if patience < 0:
            raise UsageError("patience", expected="0 steps or more", found=patience)
        self.amp = check_flag("amp", amp)
        self.max_norm = max_norm
        self.seed = seed
        self.patience = patience
        self._skipped = 0
        self._backward = SafeBackward()

    def __call__(self, engine: Trainer, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run one step on a batch: image (B, C, H, W, D), label (B, 3, H, W, D).

        Returns:
            image, label, pred (logits of the full resolution, float32) and loss.
        """
        image, label = (_plain(t) for t in engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking))
        engine.state.output = {Keys.IMAGE: image, Keys.LABEL: label}
        engine.network.train()
        buffers = [(buffer, buffer.clone()) for buffer in engine.network.buffers()]  # of BatchNorm, if there is one
        if self.seed is not None:
            torch.manual_seed(derive_seed(self.seed, "step", engine.state.iteration, idist.get_rank()))
        engine.optimizer.zero_grad(set_to_none=True)
        with autocast(image.device, self.amp):
            output = engine.inferer(image, engine.network)
        engine.state.output[Keys.PRED], *lower = split_resolutions(output)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = deep_loss(engine.loss_function, [engine.state.output[Keys.PRED], *lower], label)
        engine.state.output[Keys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        # An infinite loss can have a finite gradient. Multiplied by NaN it reaches every process through the gradient.
        with self._backward(image, self.amp):
            (loss * torch.where(loss.isfinite(), 1.0, torch.nan)).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if self._gradient_norm(engine).isfinite():
            self._skipped = 0
            engine.optimizer.step()
        else:
            self._skip(engine, batchdata)
            for buffer, before in buffers:
                buffer.copy_(before)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        engine.state.output[Keys.LOSS] = loss.detach()
        engine.state.output[Keys.PRED] = engine.state.output[Keys.PRED].detach()
        return engine.state.output

    def _gradient_norm(self, engine: Trainer) -> torch.Tensor:
        parameters = list(engine.network.parameters())
        if self.max_norm is not None:
            return torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def _skip(self, engine: Trainer, batchdata: dict[str, Any]) -> None:
        self._skipped += 1
        loss = float(engine.state.output[Keys.LOSS].detach())
        problem = "its gradient is not finite" if math.isfinite(loss) else f"its loss is {loss}"
        text = f"step {engine.state.iteration} is skipped: {problem}; cases {_cases(batchdata)}"
        logger.warning("%s", text)
        if self._skipped > self.patience:
            raise FloatingPointError(
                f"{text}; {self._skipped} steps in a row were skipped, so the training ends. The last checkpoint is "
                "intact: look at these cases, or resume with a lower --learning_rate and --resume force"
            )


def _cases(batchdata: dict[str, Any]) -> str:
    names = batchdata.get("case_id", ())
    return ", ".join(map(str, [names] if isinstance(names, str) else names)) or "unknown"


def _plain(data: torch.Tensor) -> torch.Tensor:
    return data.as_tensor() if isinstance(data, MetaTensor) else data
