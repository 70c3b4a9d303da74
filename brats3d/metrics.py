"""BraTS scores: the Dice of each region of each case, with one rule for empty regions.

The rule (BraTS 2023, https://github.com/rachitsaluja/BraTS-2023-Metrics): a region empty in reference and prediction
scores 1, a region empty in one of them 0. Nothing is skipped, nothing is NaN. MONAI's ``DiceMetric`` skips regions that
the reference lacks unless told otherwise (MONAI issue 7504).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.metrics import compute_dice

from brats3d.files import write_whole
from brats3d.labels import REGIONS, REGIONS_TO_READ

__all__ = ["RegionDice", "ReportScores", "better", "format_table", "score_case", "summarise", "write_scores"]


logger = logging.getLogger("brats3d")


def score_case(
    pred: torch.Tensor, ref: torch.Tensor, case_id: str, spacing_mm: Sequence[float]
) -> list[dict[str, Any]]:
    """Score one case.

    Args:
        pred: {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        ref: the same.
        case_id: the case's name, copied into the rows.
        spacing_mm: voxel size along each axis.

    Returns:
        One row a region, in the order WT, TC, ET: ``{case_id, region, dice, ref_volume_ml, pred_volume_ml}``.

    Raises:
        ValueError: if the shapes differ.
    """
    if pred.shape != ref.shape:
        raise ValueError(f"{case_id}: expected pred and ref of one shape, got {tuple(pred.shape)}, {tuple(ref.shape)}")
    pred, ref = _plain(pred).bool(), _plain(ref).bool()
    dice = compute_dice(pred[None], ref[None], include_background=True, ignore_empty=False)[0]
    voxel_ml = math.prod(float(s) for s in spacing_mm) / 1000
    rows = []
    for region in REGIONS_TO_READ:
        channel = REGIONS.index(region)
        rows.append(
            {
                "case_id": case_id,
                "region": region,
                "dice": float(dice[channel]),
                "ref_volume_ml": int(ref[channel].sum()) * voxel_ml,
                "pred_volume_ml": int(pred[channel].sum()) * voxel_ml,
            }
        )
    return rows


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Means a region over the cases.

    Args:
        rows: as :func:`score_case` returns them, of any number of cases.

    Returns:
        ``{region: {cases, dice, present, dice_present, false_volume_ml}}``: the mean Dice over all cases; how many
        cases have the region and the mean Dice over them; and where the reference has none, the mean volume predicted
        all the same. A mean over no case is None.
    """
    rows = list(rows)
    summary = {}
    for region in REGIONS_TO_READ:
        mine = [row for row in rows if row["region"] == region]
        present = [row for row in mine if row["ref_volume_ml"] > 0]
        absent = [row for row in mine if row["ref_volume_ml"] == 0]
        summary[region] = {
            "cases": len(mine),
            "dice": _mean(row["dice"] for row in mine),
            "present": len(present),
            "dice_present": _mean(row["dice"] for row in present),
            "false_volume_ml": _mean(row["pred_volume_ml"] for row in absent),
        }
    return summary


def format_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as a text table: a line a case, then the means."""
    rows = list(rows)
    by_case: dict[str, dict[str, float]] = {}
    for row in rows:
        by_case.setdefault(row["case_id"], {})[row["region"]] = row["dice"]
    width = max([len("where present"), *map(len, by_case)])
    lines = [f"{'Dice':<{width}}" + "".join(f"{region:>9}" for region in REGIONS_TO_READ)]
    lines.append("-" * len(lines[0]))
    lines += [
        f"{case_id:<{width}}" + "".join(f"{by_case[case_id][region]:9.3f}" for region in REGIONS_TO_READ)
        for case_id in sorted(by_case)
    ]
    lines.append("-" * len(lines[0]))
    summary = summarise(rows)
    for title, key, digits in (
        ("mean", "dice", 3),
        ("where present", "dice_present", 3),
        ("false, ml", "false_volume_ml", 2),
    ):
        cells = [summary[region][key] for region in REGIONS_TO_READ]
        lines.append(f"{title:<{width}}" + "".join("        -" if c is None else f"{c:9.{digits}f}" for c in cells))
    return "\n".join(lines)


def write_scores(path: str | Path, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Write ``{**more, summary, rows}`` as JSON, whole or not at all."""
    content = json.dumps({**more, "summary": summarise(rows), "rows": list(rows)}, indent=2, allow_nan=False)
    write_whole(path, lambda file: file.write(content.encode()))


def better(current: float, best: float) -> bool:
    """Whether ``current`` beats ``best``; a NaN is worse than anything (MONAI compares against it for ever)."""
    if math.isnan(current):
        return False
    return math.isnan(best) or current > best


class RegionDice(Metric):
    """Ignite metric: every case's region Dice, the same in any order, batch or number of processes.

    Its value is the mean over cases and regions. On completion the engine's ``state.metrics`` also gets
    ``val_dice_wt``, ``val_dice_tc`` and ``val_dice_et``, and ``state.metric_details`` the rows under the metric's name.

    The engine's output must be decollated: a list of ``{"pred": (3, H, W, D), "label": (3, H, W, D)}`` with {0, 1};
    case ids come from ``engine.state.batch``. A case scored twice (a distributed sampler pads) counts once.
    """

    def __init__(self) -> None:
        super().__init__(output_transform=_identity)
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def reset(self) -> None:
        """Forget all cases."""
        self._rows = {}

    def update(self, output: Sequence[tuple[str, torch.Tensor, torch.Tensor]]) -> None:
        """Score the batch's cases, given as (case_id, pred, ref)."""
        for case_id, pred, ref in output:
            spacing_mm = ref.pixdim.tolist() if isinstance(ref, MetaTensor) else (1.0, 1.0, 1.0)
            self._rows[case_id] = score_case(pred, ref, case_id, spacing_mm)

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

    def iteration_completed(self, engine: Engine) -> None:
        """Take the case ids from the batch, the regions from the output."""
        pairs = zip(engine.state.batch, engine.state.output, strict=True)
        self.update([(_case_id(item), out["pred"], out["label"]) for item, out in pairs])

    def completed(self, engine: Engine, name: str) -> None:
        """Set the mean, each region's mean and the rows on the engine's state."""
        rows = self.rows()
        engine.state.metrics[name] = _mean_dice(rows)
        for region, values in summarise(rows).items():
            engine.state.metrics[f"val_dice_{region.lower()}"] = values["dice"]
        engine.state.metric_details[name] = rows


class ReportScores:
    """Handler of the evaluator: logs the means of each validation and writes all rows to a file.

    Args:
        path: of the JSON; see :func:`write_scores`.
        metric: the name under which :class:`RegionDice` is attached.
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
        write_scores(self.path, rows, mean_dice=mean, epoch=engine.state.epoch)


def _mean_dice(rows: Sequence[Mapping[str, Any]]) -> float:
    if not rows:
        raise NotComputableError("RegionDice must have at least one case before it can be computed")
    return sum(row["dice"] for row in rows) / len(rows)


def _identity(output: Any) -> Any:
    return output


def _case_id(item: Mapping[str, Any]) -> str:
    return str(item["case_id"])


def _plain(data: torch.Tensor) -> torch.Tensor:
    return data.as_tensor() if isinstance(data, MetaTensor) else data


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
