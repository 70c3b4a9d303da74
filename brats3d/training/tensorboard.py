"""Write a run to TensorBoard, every point at the global iteration.

Tags: ``train_loss`` and ``learning_rate`` of each iteration; ``patches_per_second`` and ``memory_gib`` of each epoch;
``val_mean_dice``, ``val_dice_wt``, ``val_dice_tc``, ``val_dice_et`` of each validation, and ``val_hd95_wt`` and so on
if they were computed; pictures of the best, the median and the worst case of each validation (in a distributed run,
of the first process's cases), with their names as text; the settings as text and as hyperparameters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ignite.distributed as idist
import numpy as np
import psutil
import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer
from monai.utils.enums import CommonKeys as Keys
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from brats3d.cases import is_utf8, readable_name
from brats3d.errors import UsageError
from brats3d.evaluation import mean_dice_by_case
from brats3d.files import best_slice, explain_full_disk, overlay, to_rgb
from brats3d.labels import order_modalities
from brats3d.networks import last_checkpoint_note
from brats3d.training.run_state import RunState
from brats3d.training.stop_signals import RunEvents

READ_EVERY = 20
"""Steps whose losses are read from the device together, so that TensorBoard does not wait for the GPU at every step."""


class TrackRun:
    """Handler of the trainer that writes TensorBoard's event file.

    A resumed run opens the file again with ``purge_step``, so that no point appears twice. Attach it before the
    handler that writes checkpoints, so that every point up to a checkpoint has been flushed. A full disk ends the run,
    because TensorBoard's thread writes nothing more after a failure.

    Args:
        run: the state of the run; the event file goes to ``tensorboard`` in its folder.
        metric: name under which :class:`brats3d.evaluation.ValidationScores` is attached to the evaluator.

    Raises:
        UsageError: if the folder's path has bytes that are not UTF-8: TensorBoard cannot write there.
    """

    def __init__(self, run: RunState, metric: str = "val_mean_dice") -> None:
        self.run = run
        self.folder = run.output_dir / "tensorboard"
        if not is_utf8(str(self.folder)):
            problem = f"{self.folder} is not UTF-8, so that TensorBoard cannot write to it"
            raise UsageError("output_dir", problem, advice="choose another folder")
        modalities = order_modalities(run.settings["modalities"])
        self.channel = modalities.index("flair") if "flair" in modalities else 0
        self.metric = metric
        self._patches = 0
        self._writer: SummaryWriter | None = None
        self._unread: list[tuple[int, float, torch.Tensor, float]] = []
        self._pictures: dict[str, np.ndarray] = {}

    def attach(self, engine: Trainer) -> None:
        """Register with the trainer and with the evaluator."""
        self._trainer = engine
        engine.register_events(*RunEvents)
        for event in (RunEvents.SAVE, RunEvents.SAVE_BEFORE_END):
            engine.add_event_handler(event, self._guarded, self._flush)
        engine.add_event_handler(Events.STARTED, self._guarded, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._guarded, self._add_step)
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset_speed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._guarded, self._write_speed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._guarded, self._flush)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)
        evaluator = self.run.evaluator
        evaluator.add_event_handler(Events.EPOCH_STARTED, self._drop_pictures)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._draw)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._guarded, self._write_scores)

    def _guarded(self, engine: Engine, write: Callable[[Any], None]) -> None:
        """Write; on a full disk, raise an error that names the last good checkpoint."""
        try:
            write(engine)
        except Exception:  # look for the checkpoint only now, since this runs at every step
            with explain_full_disk(self.folder, last_checkpoint_note(self.run.checkpoints)):
                raise

    def _open(self, engine: Engine) -> None:
        steps = engine.state.iteration
        self._close(engine)
        self._patches = 0
        # A step whose epoch end is pending may have been validated before: write its points again.
        pending = self.run.epoch_end_pending
        self._writer = SummaryWriter(str(self.folder), purge_step=steps if pending else steps + 1)
        if pending:
            self._write_points(steps, self.run.last_points)
        if not steps:
            settings = json.dumps(dict(self.run.settings), indent=2, default=str)
            self._writer.add_text("settings", f"```json\n{settings}\n```", 0)
            plain = {name: _hyperparameter(value) for name, value in self.run.settings.items()}
            for summary in hparams(plain, {self.metric: 0}):
                self._writer._get_file_writer().add_summary(summary)  # add_hparams would open a second file

    def _add_step(self, engine: Trainer) -> None:
        rate = float(engine.optimizer.param_groups[0]["lr"])
        self._unread.append((engine.state.iteration, time.time(), engine.state.output[Keys.LOSS], rate))
        self._patches += len(engine.state.output[Keys.IMAGE])
        if len(self._unread) >= READ_EVERY:
            self._write_steps()

    def _write_steps(self) -> None:
        if not self._unread:
            return
        steps, self._unread = self._unread, []
        losses = torch.stack([loss for _, _, loss, _ in steps]).tolist()
        for (step, seconds, _, rate), loss in zip(steps, losses, strict=True):
            self.run.last_points = {"train_loss": loss, "learning_rate": rate}  # saved with the checkpoint
            self._write_points(step, self.run.last_points, seconds)

    def _write_points(self, step: int, points: Mapping[str, float], seconds: float | None = None) -> None:
        assert self._writer is not None
        for tag, value in points.items():
            self._writer.add_scalar(tag, value, step, walltime=seconds)

    def _reset_speed(self, engine: Engine) -> None:
        self._patches = 0

    def _write_speed(self, engine: Engine) -> None:
        if not self._patches:  # resumed only to validate the epoch
            return
        seconds = engine.state.times[Events.EPOCH_COMPLETED.name]
        speed = self._patches * idist.get_world_size() / max(seconds, 1e-9)
        points = {"patches_per_second": speed, "memory_gib": _memory_gib(engine.state.device)}
        self._write_points(engine.state.iteration, points)

    def _drop_pictures(self, engine: Engine) -> None:
        self._pictures.clear()

    def _draw(self, engine: Engine) -> None:
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            self._pictures[str(item["case_id"])] = self._picture(out)

    def _picture(self, out: Mapping[str, torch.Tensor]) -> np.ndarray:
        image, ref, pred = (torch.as_tensor(out[key]).cpu().numpy() for key in (Keys.IMAGE, Keys.LABEL, Keys.PRED))
        z = best_slice(ref)
        plane = image[self.channel][..., z]
        return np.concatenate([to_rgb(plane), overlay(plane, ref[..., z]), overlay(plane, pred[..., z])], axis=1)

    def _write_scores(self, engine: Engine) -> None:
        if self._writer is None:
            return
        step = self._trainer.state.iteration
        self._write_points(step, engine.state.metrics)
        dice = mean_dice_by_case(engine.state.metric_details.get(self.metric, ()))
        ranked = sorted((name for name in self._pictures if name in dice), key=lambda name: (dice[name], name))
        if not ranked:
            return
        shown = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        for rank, case_id in shown.items():
            self._writer.add_image(f"cases/{rank}", self._pictures[case_id], step, dataformats="HWC")
        lines = [f"{rank}: {case_id}, mean Dice {dice[case_id]:.3f}" for rank, case_id in shown.items()]
        self._writer.add_text("cases", "  \n".join(lines), step)

    def _flush(self, engine: Engine) -> None:
        if self._writer is not None:  # None after an error, which has closed it
            self._write_steps()
            self._writer.flush()

    def _close(self, engine: Engine, *error: BaseException) -> None:
        if error:
            with suppress(OSError, RuntimeError):  # the full disk or the GPU error that ended the run
                self._close_writer(engine)
            raise error[0]
        self._guarded(engine, self._close_writer)

    def _close_writer(self, engine: Engine) -> None:
        if self._writer is not None:
            try:
                self._write_steps()
            finally:
                writer, self._writer = self._writer, None
                writer.close()


def _memory_gib(device: torch.device) -> float:
    """Return the peak memory of the process on a GPU, or its current main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30


def _hyperparameter(value: Any) -> bool | int | float | str:
    """Convert to a type that TensorBoard accepts as a hyperparameter; paths may have bytes that are not UTF-8."""
    return value if isinstance(value, bool | int | float) else readable_name(str(value))
