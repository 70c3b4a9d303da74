"""The regions of a run that went wrong: missed, spurious or poor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brats3d.cases import natural_key
from brats3d.evaluation import ScoreRow

POOR_DICE = 0.5
"""A region with a Dice below this is listed as a failure."""


@dataclass(frozen=True)
class FailedRegion:
    """A region of a case that went wrong.

    Args:
        case_id: the case.
        region: WT, TC or ET.
        kind: ``"missed"`` (nothing predicted), ``"spurious"`` (none in the reference) or ``"poor"`` (low Dice).
        dice: Dice of the region.
        ref_volume_ml: volume in the reference.
        pred_volume_ml: volume in the prediction.
    """

    case_id: str
    region: str
    kind: str
    dice: float
    ref_volume_ml: float
    pred_volume_ml: float


def find_failed_regions(rows: Sequence[ScoreRow]) -> list[FailedRegion]:
    """Return regions that are missed, spurious or below :data:`POOR_DICE`, the worst and largest first."""
    failed = []
    for row in rows:
        ref_ml, pred_ml = row.ref_volume_ml, row.pred_volume_ml
        kind = "missed" if ref_ml and not pred_ml else "spurious" if pred_ml and not ref_ml else "poor"
        if kind != "poor" or row.dice < POOR_DICE:
            failed.append(FailedRegion(row.case_id, row.region, kind, row.dice, ref_ml, pred_ml))
    return sorted(failed, key=lambda f: (f.dice, -max(f.ref_volume_ml, f.pred_volume_ml), natural_key(f.case_id)))
