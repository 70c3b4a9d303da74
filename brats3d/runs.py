"""What a config's ``run`` calls: train, evaluate or segment, in an output folder that it alone writes to."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines import Evaluator, Trainer
from torch import nn

from brats3d.bounded import read_json
from brats3d.budget import TimeBudget
from brats3d.checkpoints import load_weights, restore_run
from brats3d.checks import header_warnings
from brats3d.datalist import item_to_case
from brats3d.files import writable_folder, write_whole
from brats3d.metrics import format_table

__all__ = [
    "FREE_SETTINGS",
    "FREE_WITH_PHANTOMS",
    "check_window",
    "run_evaluation",
    "run_inference",
    "run_pretraining",
    "run_training",
]

logger = logging.getLogger("brats3d")

FREE_SETTINGS = frozenset(
    {"device", "num_workers", "cache", "cache_dir", "output_dir", "dataset_dir", "datalist", "full_every"}
)
"""Knobs that may differ when a run goes on: they change where and how fast, not what is learned. The data set may have
moved: its cases are compared instead."""

FREE_WITH_PHANTOMS = FREE_SETTINGS | {"minutes", "batch_size", "pool", "patches_per_phantom", "val_interval"}
"""As above, of a pretraining: it may move to another device, whose defaults differ, or be given more time."""


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
        settings: the knobs; kept in ``settings.json``, with the names of the cases.
        output_dir: where everything that the run writes goes.
        checkpoint: weights to start from; None starts from random ones.

    Raises:
        ValueError: if the folder cannot be written, or holds a run with other settings.
    """
    if idist.get_rank() > 0:
        logger.setLevel(logging.WARNING)  # the first process alone tells
    output_dir = writable_folder(output_dir)
    settings = {
        **settings,
        "training_cases": _cases(trainer),
        "validation_cases": _cases(evaluator),
        "label_conventions": _conventions(trainer, evaluator),
    }
    last = output_dir / "checkpoints" / "last.pt"
    if last.is_file():
        _refuse_other_settings(output_dir, settings)
        restore_run(last, network, optimizer, lr_scheduler, trainer, evaluator)
        if trainer.state.epoch >= trainer.state.max_epochs:
            logger.info("%s is finished: %d epochs, %s", output_dir, trainer.state.epoch, _best(evaluator))
            return
        logger.info("going on in %s after epoch %d", output_dir, trainer.state.epoch)
    else:
        _begin(network, checkpoint, settings, output_dir)
    trainer.run()
    logger.info("finished: %s; weights in %s", _best(evaluator), last.with_name("best.pt"))


def run_pretraining(
    trainer: Trainer,
    evaluator: Evaluator,
    network: nn.Module,
    optimizer: Any,
    budget: TimeBudget,
    parts: Mapping[str, Any],
    settings: Mapping[str, Any],
    output_dir: str | Path,
    checkpoint: str | Path | None = None,
) -> None:
    """Train on phantoms until the time is up; go on where an earlier run in the same folder stopped.

    Args:
        trainer: with its handlers attached.
        evaluator: of the validation phantoms.
        network: the bare network.
        optimizer: the trainer's.
        budget: of time.
        parts: what else goes on, by the name in ``last.pt``: the average of the weights, the stream of phantoms.
        settings: the knobs; kept in ``settings.json``.
        output_dir: where everything that the run writes goes.
        checkpoint: weights to start from; None starts from random ones.

    Raises:
        ValueError: if the folder cannot be written, or holds a run with other settings.
    """
    output_dir = writable_folder(output_dir)
    last = output_dir / "checkpoints" / "last.pt"
    if last.is_file():
        _refuse_other_settings(output_dir, settings, FREE_WITH_PHANTOMS)
        restore_run(last, network, optimizer, budget, trainer, evaluator, parts)
        so_far = f"{trainer.state.iteration} steps, {budget.elapsed_minutes:.1f} of {budget.minutes:g} minutes"
        if budget.nearly_spent:
            logger.info("%s is finished: %s, %s; more --minutes go on", output_dir, so_far, _best(evaluator))
            return
        logger.info("going on in %s after %s", output_dir, so_far)
    else:
        _begin(network, checkpoint, settings, output_dir)
    trainer.run()
    logger.info(
        "the %g minutes are up: %d steps, %s; weights in %s",
        budget.minutes,
        trainer.state.iteration,
        _best(evaluator),
        last.with_name("best.pt"),
    )


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
    _compare_windows(checkpoint, card, roi_size)
    output_dir = writable_folder(output_dir)
    settings = output_dir / "settings.json"
    if settings.is_file():
        seen = sorted(set(_read_settings(settings).get("training_cases", [])) & set(_cases(evaluator)))
        if seen:
            raise ValueError(
                f"{output_dir}: the run was trained on {len(seen)} of the cases to score ({', '.join(seen[:3])} ...); "
                "give evaluate the fold and the data that the training was given"
            )
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
    _compare_windows(checkpoint, load_weights(network, checkpoint, modalities), roi_size)
    for item in cases:
        for warning in header_warnings(item_to_case(item)):
            logger.warning("%s", warning)
    evaluator.run()


def check_window(name: str, size: Sequence[int]) -> None:
    """Called by the configs first: the network halves a window four times, and InstanceNorm needs two voxels then.

    Raises:
        ValueError: if it is not three multiples of 16 of at least 32.
    """
    good = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(n, int) for n in size)
    if not good or any(n % 16 or n < 32 for n in size):
        raise ValueError(
            f"{name}: expected three multiples of 16, each at least 32, such as [96, 96, 96], got {size!r}"
        )


def _cases(engine: Trainer | Evaluator) -> list[str]:
    return [item["case_id"] for item in engine.data_loader.dataset.data]


def _conventions(*engines: Trainer | Evaluator) -> dict[str, int]:
    """Label convention -> how many cases have it."""
    items = (item for engine in engines for item in engine.data_loader.dataset.data)
    return dict(sorted(Counter(str(item.get("label_convention")) for item in items).items()))


def _compare_windows(checkpoint: str | Path, card: Mapping[str, Any], roi_size: Sequence[int]) -> None:
    """InstanceNorm takes its statistics over a window, so windows of another size than the patches cost Dice."""
    patch_size = card.get("patch_size", list(roi_size))
    if patch_size != list(roi_size):
        text = '%s was trained on patches of %s, the windows are %s; --roi_size "%s" fits it better'
        logger.warning(text, checkpoint, patch_size, list(roi_size), patch_size)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"expected a mapping, got {content!r:.60}")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); name another --output_dir, or remove {path.parent}"
        ) from error
    return content


def _begin(network: nn.Module, checkpoint: str | Path | None, settings: Mapping[str, Any], output_dir: Path) -> None:
    """Load the weights to start from, and keep the settings of a run that has just begun."""
    load_weights(network, checkpoint, settings["modalities"])
    if idist.get_rank() == 0:
        text = json.dumps(dict(settings), indent=2, default=str)
        write_whole(output_dir / "settings.json", lambda file: file.write(text.encode()))
    logger.info("training in %s; watch it with: tensorboard --logdir %s", output_dir, output_dir)


def _refuse_other_settings(output_dir: Path, settings: Mapping[str, Any], free: frozenset[str] = FREE_SETTINGS) -> None:
    earlier = _read_settings(output_dir / "settings.json")
    now = json.loads(json.dumps(dict(settings), default=str))
    names = [n for n in {**earlier, **now} if n not in free and earlier.get(n) != now.get(n)]
    if names:
        differences = ", ".join(_difference(n, earlier.get(n), now.get(n)) for n in names)
        raise ValueError(
            f"{output_dir} holds a run with other settings: {differences}; "
            "name another --output_dir, or repeat the old settings"
        )


def _difference(name: str, earlier: Any, now: Any) -> str:
    if name.endswith("_cases"):
        gone, new = (sorted(set(a or []) - set(b or [])) for a, b in ((earlier, now), (now, earlier)))
        return f"{name}: {len(gone)} gone {gone[:3]}, {len(new)} new {new[:3]}"
    return f"{name} was {earlier!r:.200}, is {now!r:.200}"


def _best(evaluator: Evaluator) -> str:
    if evaluator.state.best_metric_epoch < 0:
        return "not validated yet"
    return f"best mean Dice {evaluator.state.best_metric:.3f} after epoch {evaluator.state.best_metric_epoch}"
