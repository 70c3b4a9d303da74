"""The scores of a validation, as an ignite metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.data import MetaTensor

from brats3d.data import nest_regions
from brats3d.errors import UsageError
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.challenge_rules import get_rules
from brats3d.evaluation.score_rows import ScoreRow
from brats3d.evaluation.summary import summarise


def is_better(current: float, best: float) -> bool:
    """Return True if ``current`` is better than ``best``.

    NaN is worse than any number. With MONAI's comparison, a NaN from the first validation remains the best score.
    """
    if math.isnan(current):
        return False
    return math.isnan(best) or current > best


class ValidationScores(Metric):
    """Ignite metric that scores every case.

    The result does not depend on order, batch size or number of processes.

    The metric's value is the mean Dice over cases and regions. On completion the engine's ``state.metrics`` also has
    ``val_dice_wt``, ``val_dice_tc`` and ``val_dice_et`` (and ``val_hd95_wt`` etc. and ``val_lesion_dice_wt`` etc. if
    they were computed), and ``state.metric_details`` has the rows under the metric's name.

    Predicted regions are nested first, as in a label file, so that the scores of an evaluation are those of the files
    that it writes.

    The engine's output must be decollated: a list of ``{"pred": (3, H, W, D), "label": (3, H, W, D)}`` with {0, 1};
    case identifiers come from ``engine.state.batch``. A case that a distributed sampler repeats counts once.

    Args:
        val_interval: epochs between validations.
        full_every: compute distances and lesion-wise scores in every n-th validation; 0 = never.
        score_rules: name in :data:`brats3d.evaluation.challenge_rules.RULES`.

    Raises:
        UsageError: if a number is not an integer or too small, or the rules are unknown.
    """

    def __init__(self, val_interval: int = 1, full_every: int = 1, score_rules: str = "brats2023") -> None:
        super().__init__()
        for name, value, least in (("val_interval", val_interval, 1), ("full_every", full_every, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(name, expected=f"an integer of at least {least}", found=value)
        self.val_interval = val_interval
        self.full_every = full_every
        self.rules = get_rules(score_rules, "score_rules")
        self._rows: dict[str, list[ScoreRow]] = {}

    def reset(self) -> None:
        """Forget all cases."""
        self._rows = {}

    def update(self, output: Sequence[tuple[str, torch.Tensor, torch.Tensor]], full: bool = True) -> None:
        """Score a batch.

        Args:
            output: (case_id, pred, ref) of each case.
            full: also compute distances and lesion-wise scores.
        """
        for case_id, pred, ref in output:
            spacing_mm, shape = (1.0, 1.0, 1.0), None
            if isinstance(ref, MetaTensor):
                spacing_mm, shape = ref.pixdim.tolist(), ref.meta.get("spatial_shape")
            voxels = None if shape is None else math.prod(int(n) for n in shape)
            self._rows[case_id] = score_case(
                nest_regions(pred), ref, case_id, spacing_mm, self.rules if full else None, voxels
            )

    def compute(self) -> float:
        """Return the mean Dice over all cases and regions.

        Raises:
            NotComputableError: if no case was scored.
        """
        return _mean_dice(self.rows())

    def rows(self) -> list[ScoreRow]:
        """Return the rows of all processes, sorted by case."""
        cases = self._rows
        if idist.get_world_size() > 1:
            cases = {case_id: rows for part in idist.all_gather(self._rows) for case_id, rows in part.items()}
        return [row for case_id in sorted(cases) for row in cases[case_id]]

    def is_full(self, epoch: int) -> bool:
        """Return True if the validation after that epoch computes distances and lesion-wise scores."""
        return self.full_every > 0 and -(-epoch // self.val_interval) % self.full_every == 0

    def iteration_completed(self, engine: Engine) -> None:
        """Score the engine's batch and output."""
        pairs = zip(engine.state.batch, engine.state.output, strict=True)
        output = [(str(item["case_id"]), out["pred"], out["label"]) for item, out in pairs]
        self.update(output, self.is_full(engine.state.epoch))

    def completed(self, engine: Engine, name: str) -> None:
        """Set the mean, the means of each region and the rows on the engine's state."""
        rows = self.rows()
        metrics: dict[str, Any] = engine.state.metrics
        metrics[name] = _mean_dice(rows)
        for region, summary in summarise(rows).items():
            metrics[f"val_dice_{region.lower()}"] = summary.dice
            for measure, prefix in (("hd95_mm", "val_hd95"), ("lesion_dice", "val_lesion_dice")):
                tag = f"{prefix}_{region.lower()}"
                metrics.pop(tag, None)  # left from an earlier validation
                if measure in summary.measures:
                    metrics[tag] = summary.measures[measure].mean
        engine.state.metric_details[name] = rows


def _mean_dice(rows: Sequence[ScoreRow]) -> float:
    if not rows:
        raise NotComputableError("ValidationScores must have at least one case before it can be computed")
    return sum(row.dice for row in rows) / len(rows)
