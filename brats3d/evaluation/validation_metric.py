"""The scores of a validation, as an ignite metric and a handler."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.data import MetaTensor

from brats3d.data import nest_regions
from brats3d.evaluation.rules import get_rules
from brats3d.evaluation.scores import _plain, score_case
from brats3d.evaluation.tables import summarise, write_scores
from brats3d.files import explain_full_disk
from brats3d.networks import last_good

logger = logging.getLogger("brats3d")


def better(current: float, best: float) -> bool:
    """Whether ``current`` beats ``best``; a NaN is worse than anything (MONAI compares against it for ever)."""
    if math.isnan(current):
        return False
    return math.isnan(best) or current > best


class RegionScores(Metric):
    """Ignite metric: every case's scores, the same in any order, batch or number of processes.

    Its value is the mean Dice over cases and regions. On completion the engine's ``state.metrics`` also gets
    ``val_dice_wt``, ``val_dice_tc`` and ``val_dice_et`` (and where they were computed ``val_hd95_wt`` and so on,
    ``val_lesion_dice_wt`` and so on), and ``state.metric_details`` the rows under the metric's name.

    Predicted regions are nested first, as a file of labels would hold them, so that an evaluation's scores are those of
    the files that it writes.

    The engine's output must be decollated: a list of ``{"pred": (3, H, W, D), "label": (3, H, W, D)}`` with {0, 1};
    case ids come from ``engine.state.batch``. A case scored twice (a distributed sampler pads) counts once.

    Args:
        val_interval: epochs from one validation to the next.
        full_every: validations from one with distances and lesion-wise scores to the next; 0 = never.
        convention: a name in :data:`RULES`.

    Raises:
        ValueError: if a number is not whole or too small, or there are no such rules.
    """

    def __init__(self, val_interval: int = 1, full_every: int = 1, convention: str = "brats2023") -> None:
        super().__init__(output_transform=_identity)
        for name, value, least in (("val_interval", val_interval, 1), ("full_every", full_every, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected a whole number from {least}, got {value!r}")
        self.val_interval = val_interval
        self.full_every = full_every
        self.rules = get_rules(convention)
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def reset(self) -> None:
        """Forget all cases."""
        self._rows = {}

    def update(self, output: Sequence[tuple[str, torch.Tensor, torch.Tensor]], full: bool = True) -> None:
        """Score the batch's cases, given as (case_id, pred, ref); not in full leaves out distances and lesions."""
        for case_id, pred, ref in output:
            spacing_mm, shape = (1.0, 1.0, 1.0), None
            if isinstance(ref, MetaTensor):
                spacing_mm, shape = ref.pixdim.tolist(), ref.meta.get("spatial_shape")
            voxels = None if shape is None else math.prod(int(n) for n in shape)
            pred = nest_regions(_plain(pred))  # as the file would hold it that a challenge scores
            self._rows[case_id] = score_case(pred, ref, case_id, spacing_mm, self.rules if full else None, voxels)

    def compute(self) -> float:
        """Mean Dice over every case and region.

        Raises:
            NotComputableError: if no case was scored.
        """
        return _mean_dice(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """All rows, of all processes, ordered by case."""
        gathered = self._rows
        if idist.get_world_size() > 1:
            gathered = {key: rows for part in idist.all_gather(self._rows) for key, rows in part.items()}
        return [row for case_id in sorted(gathered) for row in gathered[case_id]]

    def is_full(self, epoch: int) -> bool:
        """Whether the validation after that epoch computes everything."""
        return self.full_every > 0 and -(-epoch // self.val_interval) % self.full_every == 0

    def iteration_completed(self, engine: Engine) -> None:
        """Take the case ids from the batch, the regions from the output."""
        pairs = zip(engine.state.batch, engine.state.output, strict=True)
        scored = [(_case_id(item), out["pred"], out["label"]) for item, out in pairs]
        self.update(scored, self.is_full(engine.state.epoch))

    def completed(self, engine: Engine, name: str) -> None:
        """Set the mean, each region's mean and the rows on the engine's state."""
        rows = self.rows()
        engine.state.metrics[name] = _mean_dice(rows)
        for region, values in summarise(rows).items():
            engine.state.metrics[f"val_dice_{region.lower()}"] = values["dice"]
            for measure, tag in (("hd95_mm", "val_hd95"), ("lesion_dice", "val_lesion_dice")):
                tag = f"{tag}_{region.lower()}"
                engine.state.metrics.pop(tag, None)  # of an earlier validation
                if measure in values["measures"]:
                    engine.state.metrics[tag] = values["measures"][measure]["mean"]
        engine.state.metric_details[name] = rows


class ReportScores:
    """Handler of the evaluator: logs the means of each validation and writes all rows to a file.

    Args:
        path: of the JSON; see :func:`write_scores`.
        metric: the name under which :class:`RegionScores` is attached.
    """

    def __init__(self, path: str | Path, metric: str = "val_mean_dice") -> None:
        self.path = Path(path)
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Report."""
        rows, mean = engine.state.metric_details[self.metric], engine.state.metrics[self.metric]
        dice = "  ".join(f"{r} {v['dice']:.3f}" for r, v in summarise(rows).items())
        logger.info("validation  mean Dice %.3f  %s  best %.3f", mean, dice, engine.state.best_metric)
        with explain_full_disk(self.path, last_good(self.path.parent / "checkpoints")):
            write_scores(self.path, rows, mean_dice=mean, epoch=engine.state.epoch)


def _mean_dice(rows: Sequence[Mapping[str, Any]]) -> float:
    if not rows:
        raise NotComputableError("RegionScores must have at least one case before it can be computed")
    return sum(row["dice"] for row in rows) / len(rows)


def _identity(output: Any) -> Any:
    return output


def _case_id(item: Mapping[str, Any]) -> str:
    return str(item["case_id"])
