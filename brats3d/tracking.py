"""TensorBoard: one writer a run, every point at the global iteration.

Tags: ``train_loss`` and ``learning_rate`` at each iteration; ``val_mean_dice``, ``val_dice_wt``, ``val_dice_tc``,
``val_dice_et`` at each validation; ``cases/<case_id>`` pictures of the first validation cases; the settings as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from monai.utils.enums import CommonKeys as Keys
from torch.utils.tensorboard import SummaryWriter

from brats3d.labels import order_modalities
from brats3d.pictures import best_slice, overlay, to_rgb

__all__ = ["TrackRun"]


class TrackRun:
    """Handler of the trainer that writes TensorBoard's event file.

    A restored run opens the file again with ``purge_step``, so that points after the restored iteration stand once.
    Attach it before the handler that writes checkpoints, so that what a checkpoint holds has been flushed.

    Args:
        folder: where the event file goes.
        evaluator: its scores and pictures are written.
        settings: the run's knobs, written as text.
        modalities: of the image's channels.
        pictures: of how many validation cases.
    """

    def __init__(
        self,
        folder: str | Path,
        evaluator: Evaluator,
        settings: Mapping[str, Any],
        modalities: Sequence[str],
        pictures: int = 3,
    ) -> None:
        self.folder = Path(folder)
        self.evaluator = evaluator
        self.settings = settings
        modalities = order_modalities(modalities)
        self.channel = modalities.index("flair") if "flair" in modalities else 0
        self.pictures = pictures
        self._writer: SummaryWriter | None = None
        self._drawn: dict[str, np.ndarray] = {}

    def attach(self, engine: Trainer) -> None:
        """Register with the trainer and, through it, with the evaluator."""
        self._trainer = engine
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._flush)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)
        self.evaluator.add_event_handler(Events.EPOCH_STARTED, self._forget)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._draw)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._scores)

    def _open(self, engine: Engine) -> None:
        done = engine.state.iteration
        self._writer = SummaryWriter(str(self.folder), purge_step=done + 1)
        if not done:
            self._writer.add_text("settings", f"```json\n{json.dumps(self.settings, indent=2, default=str)}\n```", 0)

    def _step(self, engine: Trainer) -> None:
        assert self._writer is not None
        step = engine.state.iteration
        self._writer.add_scalar("train_loss", float(engine.state.output[Keys.LOSS]), step)
        self._writer.add_scalar("learning_rate", engine.optimizer.param_groups[0]["lr"], step)

    def _forget(self, engine: Engine) -> None:
        self._drawn.clear()

    def _draw(self, engine: Engine) -> None:
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            if len(self._drawn) < self.pictures:
                self._drawn.setdefault(item["case_id"], self._picture(out))

    def _picture(self, out: Mapping[str, torch.Tensor]) -> np.ndarray:
        image, ref, pred = (torch.as_tensor(out[key]).cpu().numpy() for key in (Keys.IMAGE, Keys.LABEL, Keys.PRED))
        z = best_slice(ref)
        plane = image[self.channel][..., z]
        return np.concatenate([to_rgb(plane), overlay(plane, ref[..., z]), overlay(plane, pred[..., z])], axis=1)

    def _scores(self, engine: Engine) -> None:
        if self._writer is None:
            return
        step = self._trainer.state.iteration
        for tag, value in engine.state.metrics.items():
            self._writer.add_scalar(tag, value, step)
        for case_id, picture in self._drawn.items():
            self._writer.add_image(f"cases/{case_id}", picture, step, dataformats="HWC")

    def _flush(self, engine: Engine) -> None:
        assert self._writer is not None
        self._writer.flush()

    def _close(self, engine: Engine, *error: BaseException) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if error:
            raise error[0]
