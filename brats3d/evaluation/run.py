"""What evaluate.yaml's ``run`` calls."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from monai.engines import Evaluator
from torch import nn

from brats3d.evaluation.tables import format_table
from brats3d.files import read_settings, writable_folder
from brats3d.networks import compare_windows, load_weights

logger = logging.getLogger("brats3d")


def run_evaluation(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path,
    modalities: Sequence[str],
    output_dir: str | Path,
    roi_size: Sequence[int],
) -> None:
    """Score a checkpoint on the validation cases, none of which the run in the same folder may have been trained on.

    Args:
        evaluator: with its handlers attached.
        network: the bare network; receives the weights.
        checkpoint: which weights.
        modalities: the sequences that the input channels hold.
        output_dir: where the scores go.
        roi_size: of the sliding windows; where the weights were trained on patches of another size, that is said.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint does not fit, a case is one of the training, or the folder cannot be written.
    """
    card = load_weights(network, checkpoint, modalities)
    compare_windows(checkpoint, card, roi_size)
    output_dir = writable_folder(output_dir)
    settings = output_dir / "settings.json"
    if settings.is_file():
        cases = {item["case_id"] for item in evaluator.data_loader.dataset.data}
        seen = sorted(set(read_settings(settings).get("training_cases", [])) & cases)
        if seen:
            raise ValueError(
                f"{output_dir}: the run was trained on {len(seen)} of the cases to score ({', '.join(seen[:3])} ...); "
                "give evaluate the fold and the data that the training was given"
            )
    logger.info("evaluating %s (epoch %s)", checkpoint, card.get("epoch"))
    evaluator.run(int(card.get("epoch") or 1))
    for rows in evaluator.state.metric_details.values():
        logger.info("\n%s\n", format_table(rows))
