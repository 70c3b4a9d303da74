"""What MONAI's engines lack: bfloat16 on CPU and CUDA, the (epoch, case) sampler, runs that end where they should.

MONAI's engines hard-code ``torch.autocast("cuda")`` and a ``GradScaler``; both are by-passed through their
``iteration_update`` argument. bfloat16 has float32's range, so that nothing needs to be scaled.
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
from brats3d.networks import autocast, check_flag

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
        self.amp = check_flag("amp", amp)
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


def _cases(batchdata: dict[str, Any]) -> str:
    names = batchdata.get("case_id", ())
    return ", ".join(map(str, [names] if isinstance(names, str) else names)) or "without names"


def _plain(data: torch.Tensor) -> torch.Tensor:
    return data.as_tensor() if isinstance(data, MetaTensor) else data
