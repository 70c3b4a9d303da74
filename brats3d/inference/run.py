"""Run inference: the entry point of inference.yaml."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch.distributed as dist
from monai.engines import Evaluator
from torch import nn

from brats3d.cases import item_to_case, spacing_warning
from brats3d.files import Failures, read_header
from brats3d.inference.label_warning import label_warning
from brats3d.inference.quality_stats import log_reviews
from brats3d.inference.save_segmentations import SaveSegmentations
from brats3d.networks import check_flag, compare_windows, load_weights
from brats3d.training import refuse_idle_processes

logger = logging.getLogger("brats3d")


def run_inference(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path,
    modalities: Sequence[str],
    cases: Sequence[Mapping[str, Any]],
    window: str | Sequence[int],
    saver: SaveSegmentations,
    failures: Failures,
    skip_done: bool = True,
) -> None:
    """Segment every case. Failed cases are recorded and do not stop the others.

    With several processes, each of which segments a shard of the cases, all wait for the last one: ``torchrun`` would
    stop the others as soon as one exits with an error.

    Args:
        evaluator: the evaluator, with ``saver`` among its handlers and a :class:`brats3d.inference.CaseLoader`.
        network: the evaluator's network; the weights are loaded into it.
        checkpoint: the weights.
        modalities: the sequences in the input channels.
        cases: the datalist items. Their headers are checked first.
        window: ``brain`` or the size of the sliding windows; a warning is logged if the weights were trained on patches
            of another size.
        saver: the handler that writes the segmentations.
        failures: the record of failed cases; it may hold some already.
        skip_done: skip the cases that an earlier run segmented from the same input, weights and settings. Segmentations
            that were changed since are kept in any case.

    Raises:
        NotFoundError: if the checkpoint does not exist.
        UsageError, DataError: before the first case, if the checkpoint does not fit, the folder cannot be written or
            holds foreign files, or there are more processes than cases.
        DataError: after the last case, if cases failed.
        OSError, RuntimeError: immediately, for errors that affect every case: a full disk, a broken device.
    """
    check_flag("skip_done", skip_done)
    compare_windows(checkpoint, load_weights(network, checkpoint, modalities), window)
    if (processes := idist.get_world_size()) > 1:
        counts = [0] * processes
        dist.all_gather_object(counts, len(cases) + len(failures))  # objects, since gloo gathers no GPU tensors
        refuse_idle_processes(sum(counts), "cases")
    skipped = saver.prepare(skip_done)
    failures.begin()
    if done := len(skipped) - len(saver.kept):
        text = (
            "Skipping %d of %d cases, already segmented with the same input, weights and settings "
            "(--skip_done False segments them again)"
        )
        logger.info(text, done, len(cases) + len(failures))
    if meaning := label_warning(map(item_to_case, cases), saver.convention):
        logger.warning("%s", meaning)
    for case in map(item_to_case, cases):
        if case.case_id not in skipped:
            with failures.catch(case.case_id):
                if warning := spacing_warning(read_header(case.files[0])):
                    logger.warning("%s", warning)
    evaluator.data_loader.dataset.exclude({*skipped, *(failure.case_id for failure in failures)})
    evaluator.state.epoch_length = None  # run until the loader is exhausted
    evaluator.run()
    idist.barrier()
    if saver.stats:
        log_reviews(saver.output_dir, saver.images)  # also of an earlier run
    count, kept = len(saver.saved), len(saver.kept)
    failures.raise_any(count, done + kept)
    more = f", kept {kept} corrected" if kept else ""
    logger.info("Segmented %d case%s (%d already done%s): %s", count, "s" * (count != 1), done, more, saver.output_dir)
