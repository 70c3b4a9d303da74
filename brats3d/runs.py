"""What a config's ``run`` calls: train, evaluate or segment, in an output folder that it alone writes to."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines import Evaluator, Trainer
from torch import nn

from brats3d.checkpoints import load_weights, restore_run
from brats3d.checks import header_warnings
from brats3d.datalist import item_to_case
from brats3d.files import writable_folder, write_whole
from brats3d.metrics import format_table

__all__ = ["FREE_SETTINGS", "run_evaluation", "run_inference", "run_training"]

logger = logging.getLogger("brats3d")

FREE_SETTINGS = frozenset({"device", "num_workers", "cache", "output_dir"})
"""Knobs that may differ when a run goes on: they change where and how fast, not what is learned."""


def run_training(
    trainer: Trainer,
    evaluator: Evaluator,
    network: nn.Module,
    optimizer: Any,
    lr_scheduler: Any,
    settings: Mapping[str, Any],
    output_dir: str | Path,
    checkpoint: str | Path | None = None,
) -> None:
    """Train; go on where an earlier run in the same folder stopped; only report one that is finished.

    Args:
        trainer: with its handlers attached.
        evaluator: of the validation cases.
        network: the bare network, not wrapped for distributed training.
        optimizer: the trainer's.
        lr_scheduler: the trainer's.
        settings: the knobs; kept in ``settings.json``.
        output_dir: where everything that the run writes goes.
        checkpoint: weights to start from; None starts from random ones.

    Raises:
        ValueError: if the folder cannot be written, or holds a run with other settings.
    """
    output_dir = writable_folder(output_dir)
    last = output_dir / "checkpoints" / "last.pt"
    if last.is_file():
        _refuse_other_settings(output_dir, settings)
        restore_run(last, network, optimizer, lr_scheduler, trainer, evaluator)
        if trainer.state.epoch >= trainer.state.max_epochs:
            logger.info("%s is finished: %d epochs, %s", output_dir, trainer.state.epoch, _best(evaluator))
            return
        logger.info("going on in %s after epoch %d", output_dir, trainer.state.epoch)
    else:
        load_weights(network, checkpoint, settings["modalities"])
        if idist.get_rank() == 0:
            text = json.dumps(dict(settings), indent=2, default=str)
            write_whole(output_dir / "settings.json", lambda file: file.write(text.encode()))
        logger.info("training in %s; watch it with: tensorboard --logdir %s", output_dir, output_dir)
    trainer.run()
    logger.info("finished: %s; weights in %s", _best(evaluator), last.with_name("best.pt"))


def run_evaluation(
    evaluator: Evaluator, network: nn.Module, checkpoint: str | Path, modalities: Sequence[str], output_dir: str | Path
) -> None:
    """Score a checkpoint on the validation cases.

    Args:
        evaluator: with its handlers attached.
        network: the bare network; receives the weights.
        checkpoint: which weights.
        modalities: the sequences that the input channels hold.
        output_dir: where the scores go.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint does not fit, or the folder cannot be written.
    """
    card = load_weights(network, checkpoint, modalities)
    writable_folder(output_dir)
    logger.info("evaluating %s (epoch %s)", checkpoint, card.get("epoch"))
    evaluator.run(int(card.get("epoch") or 1))
    for rows in evaluator.state.metric_details.values():
        logger.info("\n%s\n", format_table(rows))


def run_inference(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path,
    modalities: Sequence[str],
    cases: Sequence[Mapping[str, Any]],
    roi_size: Sequence[int],
) -> None:
    """Segment every case.

    Args:
        evaluator: with the handler that saves attached.
        network: the bare network; receives the weights.
        checkpoint: which weights.
        modalities: the sequences that the input channels hold.
        cases: the datalist items; their headers are looked at first.
        roi_size: of the sliding windows; where the weights were trained on patches of another size, that is said.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint does not fit, or a case cannot be used.
    """
    trained_on = load_weights(network, checkpoint, modalities).get("patch_size", list(roi_size))
    if trained_on != list(roi_size):
        logger.warning(
            '%s was trained on patches of %s, the windows are %s; --roi_size "%s" fits it better',
            checkpoint, trained_on, list(roi_size), trained_on,
        )  # fmt: skip
    for item in cases:
        for warning in header_warnings(item_to_case(item)):
            logger.warning("%s", warning)
    evaluator.run()


def _refuse_other_settings(output_dir: Path, settings: Mapping[str, Any]) -> None:
    path = output_dir / "settings.json"
    try:
        earlier = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); name another --output_dir, or remove {output_dir}"
        ) from error
    now = json.loads(json.dumps(dict(settings), default=str))
    names = [n for n in {**earlier, **now} if n not in FREE_SETTINGS and earlier.get(n) != now.get(n)]
    if names:
        differences = ", ".join(f"{n} was {earlier.get(n)!r}, is {now.get(n)!r}" for n in names)
        raise ValueError(
            f"{output_dir} holds a run with other settings: {differences}; name another --output_dir, "
            "or repeat the old settings"
        )


def _best(evaluator: Evaluator) -> str:
    return f"best mean Dice {evaluator.state.best_metric:.3f} after epoch {evaluator.state.best_metric_epoch}"
