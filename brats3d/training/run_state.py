"""The state of a training run: its parts, its settings, and the position from which it resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.engines import Evaluator
from torch import nn

from brats3d.training.stopwatch import check_minutes

if TYPE_CHECKING:
    from brats3d.training.timed_schedule import TimedSchedule


def _no_entries(iteration: int) -> dict[str, Any]:
    return {}


@dataclass
class RunState:
    """State shared by the handlers of a trainer and :func:`brats3d.training.run_training`.

    It does not hold the trainer, because the trainer's handlers hold it.

    Args:
        output_dir: folder of the run.
        settings: values of the knobs; ``modalities`` and ``patch_size`` are written to the model card.
        network: the bare network, not wrapped for distributed training.
        best_network: network whose weights go to ``best.pt``: the same one, or its moving average.
        optimizer: optimizer of the network.
        lr_scheduler: anything with ``state_dict`` and ``load_state_dict``.
        evaluator: validates; keeps the best score.
        config: text of the config's parts that change what is learned (:func:`brats3d.config_reader.config_text`).
        started_with: what the run was started with beside the knobs, as JSON; it is recorded, and not compared.
        network_config: the config of the network, for the card; it is not written unless it is plain.
        minutes: wall-clock limit of this process, after which it saves and returns; None = no limit.
        timed_schedule: the learning-rate scheduler of a run that ends after a number of minutes; None for a run that
            ends after a number of epochs.
        stateful: name -> further object with ``state_dict`` and ``load_state_dict``; the names are used in ``last.pt``.
        provenance: returns further entries of the model card, given the iteration.
        free_settings: knobs that may differ when the run is resumed, because they do not change what is learned.

    Raises:
        UsageError: if ``minutes`` is not a number above 0.
    """

    output_dir: Path
    settings: Mapping[str, Any]
    network: nn.Module
    best_network: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: Any
    evaluator: Evaluator
    config: str = "{}"
    started_with: str = "{}"
    network_config: Any = None
    minutes: float | None = None
    timed_schedule: TimedSchedule | None = None
    stateful: Mapping[str, Any] = field(default_factory=dict)
    provenance: Callable[[int], Mapping[str, Any]] = _no_entries
    free_settings: Sequence[str] = ()

    record: str = field(default="{}", init=False)
    """Settings, cases and digests of their files as JSON; saved in ``last.pt`` and compared when the run is resumed."""

    resumed_from: Path | None = field(default=None, init=False)
    """The checkpoint that was restored."""

    within_epoch: bool = field(default=False, init=False)
    """True after restoring a checkpoint that was saved before the end of an epoch."""

    epoch_end_pending: bool = field(default=False, init=False)
    """True if all steps of the epoch are done, but not its validation and saving."""

    finished: bool = field(default=False, init=False)
    """True once the run is at its end; False if a time limit stopped it."""

    late_signal: int | None = field(default=None, init=False)
    """The signal that arrived after the last step, when nothing was left to stop."""

    last_points: dict[str, float] = field(default_factory=dict, init=False)
    """TensorBoard's scalars of the last step."""

    def __post_init__(self) -> None:
        if self.minutes is not None:
            check_minutes("minutes", self.minutes)
        self.output_dir = Path(self.output_dir)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.output_dir / "checkpoints"
