"""The handler that logs and writes the scores of a validation."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events

from brats3d.evaluation.score_files import write_scores
from brats3d.evaluation.summary import summarise
from brats3d.files import explain_full_disk
from brats3d.networks import last_checkpoint_note

logger = logging.getLogger("brats3d")


class SaveScores:
    """Handler of the evaluator that logs the means of each validation and writes all rows to a file.

    Args:
        path: the JSON file; see :func:`brats3d.evaluation.score_files.write_scores`.
        metric: name under which :class:`ValidationScores` is attached.
    """

    def __init__(self, path: str | Path, metric: str = "val_mean_dice") -> None:
        self.path = Path(path)
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Log and write."""
        rows, mean = engine.state.metric_details[self.metric], engine.state.metrics[self.metric]
        dice = "  ".join(f"{region} {summary.dice:.3f}" for region, summary in summarise(rows).items())
        logger.info("validation  mean Dice %.3f  %s  best %.3f", mean, dice, engine.state.best_metric)
        with explain_full_disk(self.path, last_checkpoint_note(self.path.parent / "checkpoints")):
            write_scores(self.path, rows, mean_dice=mean, epoch=engine.state.epoch)
