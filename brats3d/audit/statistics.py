"""Statistics of a whole data set: cases, patients, grades, shapes, spacings and the volumes of the regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from brats3d.audit.one_case import CaseRecord
from brats3d.cases import NameMapping
from brats3d.labels import REGIONS_TO_READ


def dataset_statistics(
    records: Sequence[CaseRecord],
    mapping: NameMapping,
    patient_of: Mapping[str, str],
    label_convention: str | None = None,
) -> dict[str, Any]:
    """Return the statistics of a data set, ready for JSON.

    Args:
        records: one for each case.
        mapping: knows the grades that folders do not tell.
        patient_of: case_id -> patient_id.
        label_convention: what all labels mean; None to follow the cases' names.
    """
    cases = [record.case for record in records]
    patients = Counter(patient_of[case.case_id] for case in cases)
    conventions = (label_convention or case.convention or "unknown" for case in cases if case.label)
    measured = [record.volume_ml for record in records if record.volume_ml]
    return {
        "cases": len(cases),
        "patients": len(patients),
        "patients_with_several_cases": sum(n > 1 for n in patients.values()),
        "cases_with_segmentation": sum(case.label is not None for case in cases),
        "grades": _counts(mapping.grade_of(case) or "unknown" for case in cases),
        "layouts": _counts(case.layout for case in cases),
        "label_conventions": _counts(conventions),
        "shapes": _counts(" x ".join(map(str, record.shape)) for record in records if record.shape),
        "spacings_mm": _counts(" x ".join(f"{s:.3g}" for s in each.spacing_mm) for each in records if each.spacing_mm),
        "cases_measured": len(measured),
        "et_free_cases": sum(not volumes["ET"] for volumes in measured),
        "volume_ml": {region: _quartiles([volumes[region] for volumes in measured]) for region in REGIONS_TO_READ},
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _quartiles(volumes_ml: Sequence[float]) -> dict[str, float] | None:
    """Summarise a region over the cases that have it; None if no case has it."""
    present = [volume for volume in volumes_ml if volume]
    if not present:
        return None
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    quartiles = np.percentile(present, (0, 25, 50, 75, 100)).tolist()
    return {"cases": len(present), **dict(zip(names, quartiles, strict=True))}
