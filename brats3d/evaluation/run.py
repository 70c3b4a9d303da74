"""Evaluate a checkpoint: ``run`` of evaluate.yaml."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.engines import Evaluator
from torch import nn

from brats3d.cases import name_some
from brats3d.errors import DataError, UsageError
from brats3d.evaluation.summary import format_table
from brats3d.files import read_json, writable_folder
from brats3d.networks import checkpoint_members, compare_windows, load_weights

logger = logging.getLogger("brats3d")


def run_evaluation(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path | None,
    modalities: Sequence[str],
    output_dir: str | Path,
    window: str | Sequence[int],
) -> None:
    """Score a checkpoint on the validation cases, and refuse cases that the run in ``output_dir`` was trained on.

    A warning is logged if a member of an ensemble was trained on them.

    Args:
        evaluator: the evaluator with its handlers attached.
        network: the bare network, which receives the weights.
        checkpoint: the file of the weights, or the folder of an ensemble.
        modalities: the sequences of the input channels, in order.
        output_dir: folder of the scores.
        window: ``brain`` or the size of the sliding windows; a warning is logged if the weights were trained on patches
            of another size.

    Raises:
        UsageError: if there is no such checkpoint, or None was given, or the folder cannot be written.
        DataError: if the checkpoint does not fit, or a case was used for training.
    """
    if checkpoint is None:
        raise UsageError("checkpoint", expected="the weights to score", found=None)
    card = load_weights(network, checkpoint, modalities)
    compare_windows(checkpoint, card, window)
    output_dir = writable_folder(output_dir)
    cases = {item["case_id"] for item in evaluator.data_loader.dataset.data}
    if seen := _training_cases(output_dir) & cases:
        raise DataError(
            output_dir,
            f"the run was trained on {len(seen)} of the validation cases ({name_some(sorted(seen))})",
            advice="pass the same --fold and data as for the training",
        )
    if Path(checkpoint).is_dir():
        members = checkpoint_members(Path(checkpoint).absolute())  # in RUN/checkpoints
        if seen := set().union(*(_training_cases(member.parents[1]) for member in members)) & cases:
            text = (
                "%s: networks of the ensemble were trained on %s of the validation cases (%s): the scores are too good"
            )
            logger.warning(text, checkpoint, len(seen), name_some(sorted(seen)))
    logger.info("evaluating %s (epoch %s)", checkpoint, card.get("epoch"))
    evaluator.run(int(card.get("epoch") or 1))
    for rows in evaluator.state.metric_details.values():
        logger.info("\n%s\n", format_table(rows))


def _training_cases(run: Path) -> set[str]:
    """Return the cases that a run was trained on, if the folder is that of a run."""
    settings = run / "settings.json"
    return set(_read_settings(settings).get("training_cases", [])) if settings.is_file() else set()


def _read_settings(path: Path) -> dict[str, Any]:
    advice = f"choose another --output_dir, or remove {path.parent}"
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be read ({error})", advice=advice) from error
    if not isinstance(content, dict):
        raise DataError(path, expected="a mapping", found=content, advice=advice)
    return content
