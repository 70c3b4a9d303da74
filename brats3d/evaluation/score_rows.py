"""The scores of one region of one case, as a record and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from brats3d.cases import natural_key
from brats3d.errors import DataError
from brats3d.labels import REGIONS_TO_READ

SCORES_ADVICE = "write the scores again with brats3d score or evaluate"


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """The scores of one region of one case. A field that was not computed is None.

    Args:
        case_id: the case.
        region: WT, TC or ET.
        dice: from 0 to 1.
        sensitivity: from 0 to 1.
        specificity: from 0 to 1.
        ref_volume_ml: volume of the region in the reference.
        pred_volume_ml: volume of the region in the prediction.
        volume_error_ml: predicted volume minus reference volume.
        hd95_mm: 95th percentile of the surface distance; see :func:`brats3d.evaluation.hd95.hd95_mm`.
        lesion_dice: lesion-wise Dice; see :class:`brats3d.evaluation.lesions.LesionScores`.
        lesion_hd95_mm: lesion-wise HD95.
        lesions_found: number of reference lesions that the prediction touches.
        lesions_missed: number of reference lesions that it does not touch.
        lesions_spurious: number of predicted components that touch no lesion.
        missing: True if there is no prediction, so that the case counts as 0.
    """

    case_id: str
    region: str
    dice: float
    sensitivity: float | None = None
    specificity: float | None = None
    ref_volume_ml: float
    pred_volume_ml: float
    volume_error_ml: float | None = None
    hd95_mm: float | None = None
    lesion_dice: float | None = None
    lesion_hd95_mm: float | None = None
    lesions_found: int | None = None
    lesions_missed: int | None = None
    lesions_spurious: int | None = None
    missing: bool = False

    @property
    def sort_key(self) -> tuple[Any, int]:
        """Sort key: cases in natural order, then regions in the order WT, TC, ET."""
        return natural_key(self.case_id), REGIONS_TO_READ.index(self.region)

    def value(self, name: str) -> float | None:
        """Return a number by the name of its field."""
        number: float | None = getattr(self, name)
        return number

    def to_json(self) -> dict[str, Any]:
        """Return the row as a mapping, without the fields that were not computed."""
        return {name: value for name, value in vars(self).items() if value is not None and value is not False}

    @classmethod
    def from_json(cls, content: Any, path: str | Path, number: int) -> ScoreRow:
        """Check a row that was read from a file. Unknown keys are ignored.

        Args:
            content: the row.
            path: the file, for the error message.
            number: the row's position in the file, counted from 1, for the error message.

        Raises:
            DataError: if it is not a mapping, lacks a required field, or a value is outside its range.
        """

        def check(is_valid: bool, field: str, expected: str, found: Any) -> None:
            if not is_valid:
                raise DataError(path, f"row {number}: {field}", expected=expected, found=found, advice=SCORES_ADVICE)

        check(isinstance(content, dict), "row", "a mapping", content)
        row = {name: content.get(name) for name in _FIELDS if content.get(name) is not None}
        check(isinstance(row.get("case_id"), str) and bool(row["case_id"]), "case_id", "a name", row.get("case_id"))
        check(row.get("region") in REGIONS_TO_READ, "region", f"one of {', '.join(REGIONS_TO_READ)}", row.get("region"))
        for name in _REQUIRED:
            check(name in row, name, "a number", None)
        for name in [name for name in row if name not in _NOT_NUMBERS]:
            least, most = _RANGES.get(name, (0.0, _LARGEST))
            is_number = isinstance(row[name], int | float) and not isinstance(row[name], bool)
            check(is_number and least <= row[name] <= most, name, f"a number from {least:g} to {most:g}", row[name])
        row["missing"] = row.get("missing") is True
        return cls(**row)


_FIELDS = tuple(field.name for field in fields(ScoreRow))
_REQUIRED = ("dice", "ref_volume_ml", "pred_volume_ml")
_NOT_NUMBERS = {"case_id", "region", "missing"}
_LARGEST = 1e12  # JSON's whole numbers can be larger than any float
_RANGES = {
    **dict.fromkeys(("dice", "lesion_dice", "sensitivity", "specificity"), (0.0, 1.0)),
    "volume_error_ml": (-_LARGEST, _LARGEST),
}
"""Ranges of the fields that are not limited to 0 ... :data:`_LARGEST`."""


def group_by_case(rows: Iterable[ScoreRow]) -> dict[str, dict[str, ScoreRow]]:
    """Return case_id -> region -> row, cases in the order of the rows."""
    cases: dict[str, dict[str, ScoreRow]] = {}
    for row in rows:
        cases.setdefault(row.case_id, {})[row.region] = row
    return cases


def mean_dice_by_case(rows: Iterable[ScoreRow]) -> Mapping[str, float]:
    """Return case_id -> mean Dice over the case's regions, cases in the order of the rows."""
    return {
        case_id: statistics.fmean(row.dice for row in regions.values())
        for case_id, regions in group_by_case(rows).items()
    }
