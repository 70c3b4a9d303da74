"""The regions of a run that failed: missed, spurious or poor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brats3d.cases import natural_key
from brats3d.evaluation import ScoreRow

POOR_DICE = 0.5
"""A region with a Dice below this is listed as a failure."""


@dataclass(frozen=True)
class FailedRegion:
    """A failed region of a case.

    Args:
        kind: ``"missed"`` (nothing predicted), ``"spurious"`` (none in the reference) or ``"poor"`` (low Dice).
        row: its scores.
    """

    kind: str
    row: ScoreRow


def find_failed_regions(rows: Sequence[ScoreRow]) -> list[FailedRegion]:
    """Return regions that are missed, spurious or below :data:`POOR_DICE`, the worst and largest first."""
    failed = []
    for row in sorted(rows, key=_worst_first):
        if row.ref_volume_ml > 0 and row.pred_volume_ml == 0:
            failed.append(FailedRegion("missed", row))
        elif row.pred_volume_ml > 0 and row.ref_volume_ml == 0:
            failed.append(FailedRegion("spurious", row))
        elif row.dice < POOR_DICE:
            failed.append(FailedRegion("poor", row))
    return failed


def _worst_first(row: ScoreRow) -> tuple[Any, ...]:
    return row.dice, -max(row.ref_volume_ml, row.pred_volume_ml), natural_key(row.case_id)
