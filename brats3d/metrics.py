"""BraTS scores of each region of each case, with one rule for empty regions.

The rule (BraTS 2023, https://github.com/rachitsaluja/BraTS-2023-Metrics): a region empty in reference and prediction
scores Dice 1 and HD95 0, a region empty in one of them Dice 0 and the HD95 of a missing one. Nothing is skipped,
nothing is NaN. MONAI's ``DiceMetric`` skips regions that the reference lacks unless told otherwise (MONAI issue 7504).
"""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.data import MetaTensor

from brats3d.cards import last_good
from brats3d.files import explain_full_disk, write_whole
from brats3d.labels import REGIONS, REGIONS_TO_READ
from brats3d.lesions import box_with_margin, score_lesions
from brats3d.surfaces import hd95_mm
from brats3d.transforms import nest_regions

__all__ = [
    "MEASURES",
    "RULES",
    "RegionScores",
    "ReportScores",
    "Rules",
    "better",
    "format_table",
    "get_rules",
    "score_case",
    "summarise",
    "write_scores",
]


logger = logging.getLogger("brats3d")

MEASURES = ("dice", "hd95_mm", "lesion_dice", "lesion_hd95_mm", "sensitivity", "specificity", "volume_error_ml")
"""What is averaged over cases, in the order in which people read it."""


@dataclass(frozen=True)
class Rules:
    """How a challenge counts.

    Args:
        name: of the challenge.
        missing_mm: HD95 where a region is empty in reference or prediction alone.
        dilation: steps by which lesions are dilated before it is asked what belongs together.
        least_mm3: a lesion must be larger.
    """

    name: str
    missing_mm: float = 374
    dilation: int = 3
    least_mm3: float = 50


RULES: Mapping[str, Rules] = MappingProxyType(
    {
        rules.name: rules
        for rules in (
            Rules("brats2023"),
            Rules("brats2023-men", dilation=1),
            Rules("brats2023-met", dilation=1, least_mm3=2),
            Rules("brats2020", missing_mm=math.hypot(240, 240, 155)),
        )
    }
)
"""``brats2023`` is that of GLI, SSA and PED, and the default; MEN and MET have their own. BraTS 2020 gave a missing
region the diagonal of the image, 373.1287 mm; it had no lesion-wise scores, which are counted as in 2023 with that
distance."""


def get_rules(name: str) -> Rules:
    """The rules of that name.

    Raises:
        ValueError: if there are none.
    """
    if name not in RULES:
        raise ValueError(f"convention: expected one of {', '.join(RULES)}, got {name!r}")
    return RULES[name]


def score_case(
    pred: torch.Tensor,
    ref: torch.Tensor,
    case_id: str,
    spacing_mm: Sequence[float],
    rules: Rules | None = RULES["brats2023"],
    voxels: int | None = None,
) -> list[dict[str, Any]]:
    """Score one case.

    Args:
        pred: {0, 1}, shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        ref: the same.
        case_id: the case's name, copied into the rows.
        spacing_mm: voxel size along each axis.
        rules: of a challenge; None leaves out distances and lesions, which take most of the time.
        voxels: of the image that the masks were cropped from, over which specificity is taken; None = of the masks.

    Returns:
        One row a region, in the order WT, TC, ET: ``{case_id, region, dice, sensitivity, specificity, ref_volume_ml,
        pred_volume_ml, volume_error_ml, hd95_mm, lesion_dice, lesion_hd95_mm, lesions_found, lesions_missed,
        lesions_spurious}``. The error of a volume is what is predicted less what is there.

    Raises:
        ValueError: if the shapes differ, or are not (3, H, W, D), or a value is neither 0 nor 1.
    """
    if pred.shape != ref.shape:
        raise ValueError(f"{case_id}: expected pred and ref of one shape, got {tuple(pred.shape)}, {tuple(ref.shape)}")
    if pred.ndim != 4 or len(pred) != len(REGIONS):
        raise ValueError(f"{case_id}: expected regions of shape (3, H, W, D), got {tuple(pred.shape)}")
    for name, regions in (("pred", pred), ("ref", ref)):
        if regions.is_floating_point() and not ((regions == 0) | (regions == 1)).all():
            raise ValueError(f"{case_id}: {name}: expected 0 and 1, got other values (probabilities?); threshold them")
    voxel_ml = math.prod(float(s) for s in spacing_mm) / 1000
    rows = []
    for region in REGIONS_TO_READ:
        channel = REGIONS.index(region)
        found, there = (_plain(regions[channel]).bool().cpu().numpy() for regions in (pred, ref))
        row = {"case_id": case_id, "region": region, **_overlap(found, there, voxel_ml, voxels)}
        if rules is not None:
            row |= _shape(found, there, spacing_mm, rules)
        rows.append(row)
    return rows


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is said of a region over all cases.

    Args:
        rows: as :func:`score_case` returns them, of any number of cases.

    Returns:
        ``{region: {cases, dice, present, dice_present, false_volume_ml, measures}}``: the mean Dice over all cases; how
        many cases have the region and the mean Dice over them; where the reference has none, the mean volume predicted
        all the same; and for each of :data:`MEASURES` that every row has, ``{mean, sd, median, q1, q3}`` over all
        cases. A mean over no case, and a deviation over fewer than two, are None.
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
            "measures": {
                name: _spread([row[name] for row in mine])
                for name in MEASURES
                if mine and all(name in row for row in mine)
            },
        }
    return summary


def format_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as a text table: a line a case with its Dice, then the means."""
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
    means = [("mean", "dice", 3), ("where present", "dice_present", 3), ("false, ml", "false_volume_ml", 2)]
    cells = [(title, [summary[region][key] for region in REGIONS_TO_READ], digits) for title, key, digits in means]
    for title, name, digits in (("HD95, mm", "hd95_mm", 1), ("lesion-wise", "lesion_dice", 3)):
        if rows and name in summary["WT"]["measures"]:
            cells.append((title, [summary[region]["measures"][name]["mean"] for region in REGIONS_TO_READ], digits))
    for title, values, digits in cells:
        lines.append(f"{title:<{width}}" + "".join("        -" if v is None else f"{v:9.{digits}f}" for v in values))
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


def _overlap(pred: np.ndarray, ref: np.ndarray, voxel_ml: float, voxels: int | None) -> dict[str, float]:
    """What counting voxels gives. Sensitivity follows Dice's rule for empty regions."""
    both, found, there = (int(np.count_nonzero(mask)) for mask in (pred & ref, pred, ref))
    elsewhere = (voxels or pred.size) - there
    return {
        "dice": 2 * both / (found + there) if found + there else 1.0,
        "sensitivity": both / there if there else float(not found),
        "specificity": (elsewhere - (found - both)) / elsewhere if elsewhere else 1.0,
        "ref_volume_ml": there * voxel_ml,
        "pred_volume_ml": found * voxel_ml,
        "volume_error_ml": (found - there) * voxel_ml,
    }


def _shape(pred: np.ndarray, ref: np.ndarray, spacing_mm: Sequence[float], rules: Rules) -> dict[str, Any]:
    """What takes surfaces and components, computed within the box around both masks."""
    box = box_with_margin(pred | ref, margin=rules.dilation)
    pred, ref = pred[box], ref[box]
    whole_mm = hd95_mm(pred, ref, spacing_mm)
    lesions = score_lesions(pred, ref, spacing_mm, rules.dilation, rules.least_mm3, rules.missing_mm, whole_mm)
    return {
        "hd95_mm": whole_mm if math.isfinite(whole_mm) else rules.missing_mm,
        "lesion_dice": lesions.dice,
        "lesion_hd95_mm": lesions.hd95_mm,
        "lesions_found": lesions.found,
        "lesions_missed": lesions.missed,
        "lesions_spurious": lesions.spurious,
    }


def _identity(output: Any) -> Any:
    return output


def _case_id(item: Mapping[str, Any]) -> str:
    return str(item["case_id"])


def _plain(data: torch.Tensor) -> torch.Tensor:
    return data.as_tensor() if isinstance(data, MetaTensor) else data


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else None
    return {"mean": statistics.fmean(ordered), "sd": deviation, "median": median, "q1": q1, "q3": q3}
