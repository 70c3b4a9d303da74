"""TensorBoard: one writer a run, every point at the global iteration.

Tags: ``train_loss`` and ``learning_rate`` at each iteration; ``patches_per_second`` and ``memory_gib`` at each epoch's
end; ``val_mean_dice``, ``val_dice_wt``, ``val_dice_tc``, ``val_dice_et`` at each validation, and ``val_hd95_wt`` and so
on where they were computed; pictures of the best, the median and the worst case of each validation (of several
processes', of those of the first), whose names stand as text; the settings as text and as hyperparameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import psutil
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from monai.utils.enums import CommonKeys as Keys
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from brats3d.evaluation import mean_dice_by_case
from brats3d.files import best_slice, explain_full_disk, overlay, to_rgb
from brats3d.labels import order_modalities
from brats3d.networks import last_good
from brats3d.training.stop import RunEvents


class TrackRun:
    """Handler of the trainer that writes TensorBoard's event file.

    A restored run opens the file again with ``purge_step``, so that points after the restored iteration stand once.
    Attach it before the handler that writes checkpoints, so that what a checkpoint holds has been flushed. A full disk
    ends the run: TensorBoard's own thread, once it has failed, writes no more.

    Args:
        folder: where the event file goes.
        evaluator: its scores and pictures are written.
        settings: the run's knobs, written as text.
        modalities: of the image's channels.
        metric: the name under which :class:`brats3d.evaluation.ValidationScores` is attached to the evaluator.
    """

    def __init__(
        self,
        folder: str | Path,
        evaluator: Evaluator,
        settings: Mapping[str, Any],
        modalities: Sequence[str],
        metric: str = "val_mean_dice",
    ) -> None:
        self.folder = Path(folder)
        self.evaluator = evaluator
        self.settings = settings
        modalities = order_modalities(modalities)
        self.channel = modalities.index("flair") if "flair" in modalities else 0
        self.metric = metric
        self._patches = 0
        self._writer: SummaryWriter | None = None
        self._drawn: dict[str, np.ndarray] = {}

    def attach(self, engine: Trainer) -> None:
        """Register with the trainer and, through it, with the evaluator."""
        self._trainer = engine
        engine.register_events(*RunEvents)
        for event in (RunEvents.SAVE, RunEvents.SAVE_BEFORE_END):
            engine.add_event_handler(event, self._explained, self._flush)
        engine.add_event_handler(Events.STARTED, self._explained, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._explained, self._step)
        engine.add_event_handler(Events.EPOCH_STARTED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._explained, self._speed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._explained, self._flush)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)
        self.evaluator.add_event_handler(Events.EPOCH_STARTED, self._forget)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._draw)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._explained, self._scores)

    def _explained(self, engine: Engine, write: Callable[[Any], None]) -> None:
        try:
            write(engine)
        except Exception:  # now alone the last good checkpoint is looked up: steps come here too
            with explain_full_disk(self.folder, last_good(self.folder.parent / "checkpoints")):
                raise

    def _open(self, engine: Engine) -> None:
        done = engine.state.iteration
        self._close(engine)
        self._patches = 0
        # A step whose epoch still lacks its end may have been validated once already: its points are written anew.
        pending = getattr(engine.state, "pending", False)
        self._writer = SummaryWriter(str(self.folder), purge_step=done if pending else done + 1)
        if pending:
            self._write_step(engine)
        if not done:
            self._writer.add_text("settings", f"```json\n{json.dumps(self.settings, indent=2, default=str)}\n```", 0)
            for summary in hparams({k: _plain(v) for k, v in self.settings.items()}, {self.metric: 0}):
                self._writer._get_file_writer().add_summary(summary)  # add_hparams would open a second file

    def _step(self, engine: Trainer) -> None:
        assert self._writer is not None
        loss, rate = float(engine.state.output[Keys.LOSS]), float(engine.optimizer.param_groups[0]["lr"])
        engine.state.tracked = {"train_loss": loss, "learning_rate": rate}  # saved with the state
        self._write_step(engine)
        self._patches += len(engine.state.output[Keys.IMAGE])

    def _write_step(self, engine: Engine) -> None:
        assert self._writer is not None
        for tag, value in engine.state.tracked.items():
            self._writer.add_scalar(tag, value, engine.state.iteration)

    def _count(self, engine: Engine) -> None:
        self._patches = 0

    def _speed(self, engine: Engine) -> None:
        assert self._writer is not None
        if not self._patches:  # the epoch's steps were of an earlier part of the run, and only its end is made up for
            return
        step, seconds = engine.state.iteration, engine.state.times[Events.EPOCH_COMPLETED.name]
        patches = self._patches * idist.get_world_size()
        self._writer.add_scalar("patches_per_second", patches / max(seconds, 1e-9), step)
        self._writer.add_scalar("memory_gib", _memory_gib(engine.state.device), step)

    def _forget(self, engine: Engine) -> None:
        self._drawn.clear()

    def _draw(self, engine: Engine) -> None:
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            self._drawn[str(item["case_id"])] = self._picture(out)

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
        dice = mean_dice_by_case(engine.state.metric_details.get(self.metric, ()))
        ranked = sorted((name for name in self._drawn if name in dice), key=lambda name: (dice[name], name))
        if not ranked:
            return
        chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        for rank, case_id in chosen.items():
            self._writer.add_image(f"cases/{rank}", self._drawn[case_id], step, dataformats="HWC")
        said = "  \n".join(f"{rank}: {case_id}, mean Dice {dice[case_id]:.3f}" for rank, case_id in chosen.items())
        self._writer.add_text("cases", said, step)

    def _flush(self, engine: Engine) -> None:
        if self._writer is not None:  # closed after an error, and flushed by that
            self._writer.flush()

    def _close(self, engine: Engine, *error: BaseException) -> None:
        writer, self._writer = self._writer, None
        if error:
            with suppress(OSError):  # a full disk's, which is what ended the run
                if writer is not None:
                    writer.close()
            raise error[0]
        if writer is not None:
            self._explained(engine, lambda _: writer.close())


def _memory_gib(device: torch.device) -> float:
    """What the process holds at most on a GPU, or holds now of the main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30


def _plain(value: Any) -> bool | int | float | str:
    """What TensorBoard takes for a hyperparameter."""
    return value if isinstance(value, bool | int | float | str) else str(value)
