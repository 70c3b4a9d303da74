"""What inference.yaml's ``run`` calls."""

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
from brats3d.inference.save_segmentations import SaveSegmentations
from brats3d.networks import compare_windows, load_weights
from brats3d.training import refuse_idle_processes

logger = logging.getLogger("brats3d")


def run_inference(
    evaluator: Evaluator,
    network: nn.Module,
    checkpoint: str | Path,
    modalities: Sequence[str],
    cases: Sequence[Mapping[str, Any]],
    roi_size: Sequence[int],
    saver: SaveSegmentations,
    failures: Failures,
    skip_done: bool = True,
) -> None:
    """Segment every case. One that fails does not stop the others; what an earlier run has done need not be repeated.

    Of several processes, each with its share of the cases, none ends before all are done: ``torchrun`` would end the
    others as soon as one has failed.

    Args:
        evaluator: with the handler that saves attached, and a :class:`brats3d.inference.CaseLoader`.
        network: the bare network; receives the weights.
        checkpoint: which weights.
        modalities: the sequences that the input channels hold.
        cases: the datalist items; their headers are looked at first.
        roi_size: of the sliding windows; where the weights were trained on patches of another size, that is said.
        saver: the handler that saves.
        failures: take the cases that fail; may hold some already.
        skip_done: leave alone the cases that ``saver`` says are done.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: before the first case, if the checkpoint does not fit, the folder cannot be written, or the run has
            more processes than cases.
        FailedCasesError: after the last one, if cases failed.
        OSError, RuntimeError: at once, if what fails would fail for every case: a full disk, a device that is gone.
    """
    if not isinstance(skip_done, bool):  # "--skip_done false" reaches a config as the string 'false', which is true
        raise ValueError(f"skip_done: expected True or False, got {skip_done!r}")
    compare_windows(checkpoint, load_weights(network, checkpoint, modalities), roi_size)
    if (processes := idist.get_world_size()) > 1:
        shares = [0] * processes
        dist.all_gather_object(shares, len(cases) + len(failures))  # which gloo has for the CPU alone
        refuse_idle_processes(sum(shares), "cases")
    saver.prepare()
    failures.begin()
    done = saver.done() if skip_done else set()
    if done:
        text = (
            "%d of %d cases are skipped: done with the same weights, settings and input (--skip_done False redoes them)"
        )
        logger.info(text, len(done), len(cases) + len(failures))
    for case in map(item_to_case, cases):
        if case.case_id not in done:
            with failures.of(case.case_id):
                if warning := spacing_warning(read_header(case.files[0])):
                    logger.warning("%s", warning)
    evaluator.data_loader.dataset.exclude({*done, *(failure.case_id for failure in failures)})
    evaluator.state.epoch_length = None  # the loader's end is the end
    evaluator.run()
    idist.barrier()
    failures.raise_any(len(saver.saved), len(done))
    logger.info("%d cases segmented, %d skipped, none failed: %s", len(saver.saved), len(done), saver.output_dir)
