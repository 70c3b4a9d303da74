"""Weights and run state on disk: written whole, loaded without running code, refused where they do not fit.

Beside every ``NAME.pt`` stands a ``NAME.json`` card (:mod:`brats3d.cards`). A model trained on other sequences has the
right shape and gives garbage; the card is what tells.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickletools
import re
import secrets
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from torch import nn

from brats3d.bounded import MAX_TEXT_BYTES, first_line, ordinary_size
from brats3d.cards import card_path, last_good, read_card
from brats3d.describing import describe_network
from brats3d.files import explain_full_disk, require_space, write_whole
from brats3d.labels import REGIONS, order_modalities
from brats3d.stopping import RunEvents
from brats3d.weights import fit_weights

__all__ = [
    "LAST",
    "PREVIOUS",
    "KeepCheckpoints",
    "load_weights",
    "read_checkpoint",
    "read_content",
    "restore_run",
    "save_checkpoint",
    "ship_weights",
]

BEST = "best.pt"
LAST, PREVIOUS = "last.pt", "previous.pt"
"""The state of a run, and the one before it: what is left where a disk has damaged the newest."""

logger = logging.getLogger("brats3d")

MAX_CHECKPOINT_BYTES = 4 * 2**30
"""Of one file. The shipped weights have 10 MB, the whole state of their training 60."""


def save_checkpoint(path: str | Path, content: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` and ``card`` beside it, each whole or not at all.

    Where none stands there yet, the card comes first: weights without one are of no use. Else it comes last: between
    the two a card may say less of its weights than is true, never more.

    Args:
        path: ends in ``.pt``.
        content: a state dict, or a mapping of names to tensors, state dicts, numbers and strings.
        card: goes to the ``.json`` of the same name.

    Raises:
        DiskFullError: if there is no room for them; what stood there stays.
    """
    path, text = Path(path), json.dumps(card, indent=2, allow_nan=False)
    left = last_good(path.parent)
    require_space(path, _stored_bytes(content) + len(text), left)

    def write_card() -> None:
        write_whole(card_path(path), lambda file: file.write(text.encode()))

    known = card_path(path).is_file()
    with explain_full_disk(path, left):
        if not known:
            write_card()
        write_whole(path, lambda file: torch.save(content, file))
        if known:
            write_card()


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content and the card of a checkpoint. Loads tensors, numbers and strings only (``weights_only=True``).

    Raises:
        FileNotFoundError: if the file or its card is missing.
        ValueError: if either is damaged or holds anything else.
    """
    card = read_card(path)
    return read_content(path), card


def read_content(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, as :func:`read_checkpoint` gives it, without its card.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or holds anything but tensors, numbers and strings.
    """
    try:
        _check_archive(Path(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check_extents(content)
    except Exception as error:  # what a damaged pickle raises depends on the damage
        raise ValueError(f"checkpoint: {path} is damaged or holds more than weights ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint: {path}: expected tensors by name, got {type(content).__name__}")
    return content


def load_weights(network: nn.Module, checkpoint: str | Path | None, modalities: Sequence[str]) -> dict[str, Any]:
    """Load a checkpoint's weights into the network, after its card has been compared with what is asked for.

    Weights that serve absent sequences also start a network of fewer sequences; see
    :func:`brats3d.weights.fit_weights`.

    Args:
        network: receives the weights, in its own precision and on its own device.
        checkpoint: a plain state dict (best.pt, model.pt) or a whole state (last.pt); None loads nothing.
        modalities: the sequences that the input channels will hold.

    Returns:
        The card; empty if nothing was loaded.

    Raises:
        FileNotFoundError: if the file or its card is missing.
        ValueError: if the sequences, the regions or the network differ, a file is damaged, or a weight is not finite.
    """
    if checkpoint is None:
        return {}
    content, card = read_checkpoint(checkpoint)
    known, wanted = card["modalities"], list(order_modalities(modalities))
    fewer = set(wanted) < set(known) and card.get("absent_sequences", False)
    network_def = describe_network(network)
    if fewer and "in_channels" in network_def:
        network_def["in_channels"] = len(known)
    expected = {"modalities": known if fewer else wanted, "regions": list(REGIONS), "network_def": network_def}
    _refuse_mismatch(checkpoint, card, expected)
    try:
        network.load_state_dict(fit_weights(content.get("network", content), network, known, wanted))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"checkpoint: {checkpoint} does not fit the network ({first_line(error)})") from error
    if fewer:
        logger.info("%s reads %s; it is cut to %s", checkpoint, ", ".join(known), ", ".join(wanted))
    return card


def ship_weights(source: str | Path, target: str | Path, **more: Any) -> None:
    """Write a run's weights in half precision, as they travel with the bundle.

    Args:
        source: a ``best.pt``.
        target: such as ``bundle/models/model.pt``; its card is the source's.
        more: what else the card is to say.
    """
    content, card = read_checkpoint(source)
    halves = {name: value.half() for name, value in content.get("network", content).items()}
    save_checkpoint(target, halves, {**card, **more})


def restore_run(
    path: str | Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr_scheduler: Any,
    trainer: Trainer,
    evaluator: Evaluator,
    parts: Mapping[str, Any] | None = None,
    content: Mapping[str, Any] | None = None,
) -> bool:
    """Put everything back that :class:`KeepCheckpoints` saved in ``last.pt``: the run goes on as if it had not stopped.

    Args:
        path: the ``last.pt``.
        network, optimizer, lr_scheduler, parts: receive their state; those that :class:`KeepCheckpoints` was given.
        trainer: goes on after the saved iteration.
        evaluator: knows the best score so far.
        content: of the file, where it has been read already.

    Returns:
        Whether the epoch that the trainer has counted last still lacks its end: its steps are done, and what follows
        them (validation, saving) is not.

    Raises:
        ValueError: if the file is damaged or comes from another network.
    """
    content = read_content(path) if content is None else content
    try:
        _refuse_mismatch(
            path,
            {"network_def": json.loads(content["network_def"])},
            {"network_def": describe_network(network)},
            advice="name another --output_dir",
        )
        if content["epoch_length"] != trainer.state.epoch_length:
            raise ValueError(
                f"an epoch had {content['epoch_length']} iterations, now it has {trainer.state.epoch_length}: "
                "another number of cases or processes"
            )
        for name in ("epoch", "iteration", "best_epoch"):
            if type(content[name]) is not int:
                raise ValueError(f"{name}: expected a whole number, got {content[name]!r:.40}")
        if not isinstance(content["best_metric"], float):
            raise ValueError(f"best_metric: expected a number, got {content['best_metric']!r:.40}")
        network.load_state_dict(content["network"])
        _restore_schedule(optimizer, lr_scheduler, content)
        for name, part in (parts or {}).items():
            part.load_state_dict(content[name])
        trainer.state.epoch, trainer.state.iteration = content["epoch"], content["iteration"]
        trainer.state.pending, trainer.state.tracked = bool(content["pending"]), content["tracked"]
        trainer.state.within = bool(content["within"])
        trainer.state.restored = Path(path).name
        saved = _score_of(Path(path).with_name(BEST))  # later than this state, if the run was killed between the two
        best = max((content["best_metric"], content["best_epoch"]), saved, key=lambda each: each[0])
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = best
    except Exception as error:  # what a state of another form raises depends on the form
        if str(error).startswith("checkpoint: "):
            raise
        raise ValueError(f"checkpoint: {path} does not fit this run ({first_line(error)})") from error
    return trainer.state.pending


class KeepCheckpoints:
    """Handler of the trainer: ``best.pt`` after a validation that beat all before; ``last.pt`` after every epoch, after
    ``minutes`` since it was saved last, and when :class:`brats3d.stopping.RunEvents` ask for it.

    ``best.pt`` is a plain state dict. ``last.pt`` is the whole state under names: network, optimizer, lr_scheduler,
    epoch (whole ones), iteration, epoch_length, within (1: saved before the end of an epoch), pending (1: of that epoch
    only the end is left to do), tracked (the points of the last step in TensorBoard), best_metric, best_epoch,
    network_def and settings as JSON, and any further parts. The one before it stays as ``previous.pt``.
    Attach it after the handlers that validate and that change what is saved.

    Args:
        folder: where they go.
        network: the bare network, not wrapped for distributed training.
        optimizer: its state is saved.
        lr_scheduler: its state is saved.
        evaluator: gives the scores.
        modalities: for the card.
        patch_size: for the card; inference with windows of another size loses Dice (InstanceNorm).
        best: whose weights ``best.pt`` holds, where what is validated is not the network that is trained.
        parts: what else has a state, by the name under which it is saved.
        facts: called for what else the card is to say.
        minutes: from one save to the next within an epoch; None saves at the ends of epochs alone.
        now: a clock, in seconds.

    Raises:
        ValueError: if ``minutes`` is not above 0.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        evaluator: Evaluator,
        modalities: Sequence[str],
        patch_size: Sequence[int],
        best: nn.Module | None = None,
        parts: Mapping[str, Any] | None = None,
        facts: Callable[[], Mapping[str, Any]] = dict,
        minutes: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        good = isinstance(minutes, int | float) and not isinstance(minutes, bool) and minutes > 0
        if minutes is not None and not good:
            raise ValueError(f"checkpoint_minutes: expected a number above 0, or none, got {minutes!r}")
        self.folder = Path(folder)
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.modalities = list(order_modalities(modalities))
        self.patch_size = list(patch_size)
        self.best = network if best is None else best
        self.parts = dict(parts or {})
        self.facts = facts
        self.minutes = minutes
        self.now = now
        self._saved = math.inf
        self._wrote = False
        self._best = -1.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.register_events(*RunEvents)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)
        engine.add_event_handler(RunEvents.SAVE, self._save_within)
        engine.add_event_handler(RunEvents.SAVE_BEFORE_END, self._save_before_end)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save what is due at an epoch's end."""
        if not math.isfinite(self.evaluator.state.best_metric):  # MONAI takes whatever comes first for the best
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = -1, -1
        if self.evaluator.state.best_metric > self._best:
            self._best = float(self.evaluator.state.best_metric)
            save_checkpoint(
                self.folder / BEST, self.best.state_dict(), {**self._card(engine), "best_metric": self._best}
            )
        self._save(engine, engine.state.epoch, pending=False, within=False)

    def _begin(self, engine: Engine) -> None:
        self._saved = self.now()
        self._best = max(float(self.evaluator.state.best_metric), -1.0)  # a restored run's

    def _save_if_due(self, engine: Engine) -> None:
        if self.minutes is not None and self.now() - self._saved >= 60 * self.minutes:
            engine.fire_event(RunEvents.SAVE)

    def _save_within(self, engine: Engine) -> None:
        ends = engine.state.iteration % engine.state.epoch_length == 0 or bool(engine.should_terminate_single_epoch)
        self._save(engine, engine.state.epoch - 1, pending=ends)

    def _save_before_end(self, engine: Engine) -> None:
        self._save(engine, engine.state.epoch - 1, pending=True)

    def _save(self, engine: Engine, epoch: int, pending: bool, within: bool = True) -> None:
        best = self.evaluator.state
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "epoch": epoch,
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "pending": int(pending),
            "within": int(within),
            "tracked": dict(getattr(engine.state, "tracked", {})),
            "best_metric": float(best.best_metric),
            "best_epoch": best.best_metric_epoch,
            "network_def": json.dumps(describe_network(self.network)),
            "settings": getattr(engine.state, "settings", None) or "{}",
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        last = self.folder / LAST
        if self._wrote or getattr(engine.state, "restored", None) == LAST:  # else what stands there is damaged
            _keep_previous(last)
        save_checkpoint(last, content, {**self._card(engine), "epoch": epoch})
        self._saved, self._wrote = self.now(), True

    def _card(self, engine: Engine) -> dict[str, Any]:
        return {
            "modalities": self.modalities,
            "regions": list(REGIONS),
            "network_def": describe_network(self.network),
            "patch_size": self.patch_size,
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "scores": {k: round(float(v), 6) for k, v in self.evaluator.state.metrics.items() if math.isfinite(v)},
            **self.facts(),
        }


def _score_of(best: Path) -> tuple[float, int]:
    """The score of the weights in a ``best.pt``, unrounded, and its epoch; -1 and -1 where there are none."""
    try:
        card = read_card(best)
        return float(card["best_metric"]), int(card["epoch"])
    except (OSError, ValueError, KeyError):
        return -1.0, -1


def _restore_schedule(optimizer: torch.optim.Optimizer, lr_scheduler: Any, content: Mapping[str, Any]) -> None:
    """The moments of the optimizer and the place in the schedule; rates, decay and length are those of this run.

    They are the same unless the run goes on with other settings (``resume`` is ``force``), which then count.
    """
    wanted = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    length = {k: getattr(lr_scheduler, k) for k in ("base_lrs", "t_total", "warmup_steps") if hasattr(lr_scheduler, k)}
    optimizer.load_state_dict(content["optimizer"])
    lr_scheduler.load_state_dict(content["lr_scheduler"])
    for group, own in zip(optimizer.param_groups, wanted, strict=True):
        group.update(own)
    if all(getattr(lr_scheduler, name) == value for name, value in length.items()):
        return
    for name, value in length.items():
        setattr(lr_scheduler, name, value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "To get the last learning rate")
        rates = lr_scheduler.get_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _keep_previous(last: Path) -> None:
    """A second name for the state that is about to be replaced; on file systems without links there is none."""
    if not last.is_file():
        return
    link = last.with_name(f".{PREVIOUS}.{secrets.token_hex(6)}.tmp")
    try:
        os.link(last, link)
        link.replace(last.with_name(PREVIOUS))
    except OSError:
        link.unlink(missing_ok=True)


def _stored_bytes(content: Any) -> int:
    """What torch.save writes, to a few percent: the tensors, and a header for each."""
    if isinstance(content, torch.Tensor):
        return content.nbytes + 512
    values = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return 64 + sum(map(_stored_bytes, values))


_NAMED = re.compile(
    r"collections OrderedDict|torch Size|torch [A-Z]\w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)"
)
"""What weights and the state of a run are made of. Of what else torch lets pass, some takes memory without end:
``bytearray(10**12)``."""


def _check_archive(path: Path) -> None:
    """Look at what torch would believe: sizes, what the pickle names, and the checksums that it writes and never reads.

    Raises:
        ValueError: saying what is wrong, without the file's name.
    """
    if (size := ordinary_size(path)) > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"has {size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
    if not zipfile.is_zipfile(path):
        raise ValueError("torch did not write it")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
                raise ValueError(f"{part.filename!r:.80} in it is compressed to {part.compress_size:,} bytes")
        if sum(part.file_size for part in parts) > size:
            raise ValueError("what is in it is larger than the file")
        for part in parts:
            if part.filename.endswith("data.pkl"):
                _check_pickle(archive, part)
        if bad := archive.testzip():
            raise ValueError(f"the checksum of {bad} is wrong")


def _check_pickle(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    if part.file_size > MAX_TEXT_BYTES:
        raise ValueError(
            f"{part.filename!r:.80} in it has {part.file_size:,} bytes; at most {MAX_TEXT_BYTES:,} are read"
        )
    for code, argument, _ in pickletools.genops(archive.read(part)):
        if code.name == "GLOBAL" and not _NAMED.fullmatch(str(argument)):
            name = re.sub(r"^(builtins|__builtin__) ", "", str(argument)).replace(" ", ".")
            raise ValueError(f"it names {name:.80}")


def _check_extents(content: Any) -> None:
    """Refuse tensors larger than what is stored of them: steps of 0 make a terabyte of one number."""
    left, seen = [content], set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            if each.numel() * each.element_size() > each.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(each.shape)} is larger than its values")
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple):
            left += each


def _refuse_mismatch(
    checkpoint: str | Path,
    card: Mapping[str, Any],
    wanted: Mapping[str, Any],
    advice: str = "pass the matching --checkpoint",
) -> None:
    for name, value in wanted.items():
        if card.get(name) != value:
            raise ValueError(_mismatch(checkpoint, name, card.get(name), value, advice))


def _mismatch(checkpoint: str | Path, name: str, found: Any, wanted: Any, advice: str) -> str:
    if name == "modalities":
        return (
            f"checkpoint: {checkpoint} was trained on {found}, this run gives it {wanted}; "
            f'pass --modalities "{found}" or another --checkpoint'
        )
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]
        found, wanted = {k: found.get(k) for k in keys}, {k: wanted.get(k) for k in keys}
    return f"checkpoint: {checkpoint} has {name} {found!s:.300}, this run has {wanted!s:.300}; {advice}"


def _reason(error: Exception) -> str:
    """The first line of an error; what torch refuses, without its advice how to run it."""
    if "weights_only" not in str(error):
        return first_line(error)
    code = re.search(r"GLOBAL (\S+)", str(error))
    return f"it names {code[1]}" if code else "torch did not write it"
