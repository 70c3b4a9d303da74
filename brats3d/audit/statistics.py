"""Statistics of a data set: cases, patients, grades, shapes, spacings, volumes of the regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brats3d.audit.one_case import CaseRecord
from brats3d.cases import NameMapping
from brats3d.labels import REGIONS_TO_READ


@dataclass(frozen=True)
class VolumeSummary:
    """The volumes of a region in ml, over the cases that have the region; ``cases`` is their number."""

    cases: int
    min: float
    lower_quartile: float
    median: float
    upper_quartile: float
    max: float


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set.

    Each ``dict[str, int]`` maps a value to the number of cases that have it, the most common value first.

    Args:
        cases, patients, patients_with_several_cases, cases_with_segmentation: counts.
        grades, layouts, label_conventions, shapes, spacings_mm: values and their counts.
        cases_measured: cases with a segmentation that follows its label convention.
        et_free_cases: those of them without enhancing tumour.
        volume_ml: region -> its volumes; None if no case has the region.
    """

    cases: int
    patients: int
    patients_with_several_cases: int
    cases_with_segmentation: int
    grades: dict[str, int]
    layouts: dict[str, int]
    label_conventions: dict[str, int]
    shapes: dict[str, int]
    spacings_mm: dict[str, int]
    cases_measured: int
    et_free_cases: int
    volume_ml: dict[str, VolumeSummary | None]


def dataset_statistics(
    records: Sequence[CaseRecord],
    mapping: NameMapping,
    patient_of: Mapping[str, str],
) -> Statistics:
    """Return the statistics of a data set.

    Args:
        records: one for each case.
        mapping: the name mapping, for the grades that are not in folder names.
        patient_of: case_id -> patient_id.
    """
    cases = [record.case for record in records]
    patients = Counter(patient_of[case.case_id] for case in cases)
    labelled = [case for case in cases if case.label]
    measured = [record.volume_ml for record in records if record.volume_ml]
    return Statistics(
        cases=len(cases),
        patients=len(patients),
        patients_with_several_cases=sum(n > 1 for n in patients.values()),
        cases_with_segmentation=len(labelled),
        grades=_counts(mapping.grade_of(case) or "unknown" for case in cases),
        layouts=_counts(case.layout for case in cases),
        label_conventions=_counts(case.convention or "unknown" for case in labelled),
        shapes=_counts(" x ".join(map(str, record.shape)) for record in records if record.shape),
        spacings_mm=_counts(" x ".join(f"{s:.3g}" for s in each.spacing_mm) for each in records if each.spacing_mm),
        cases_measured=len(measured),
        et_free_cases=sum(not volumes["ET"] for volumes in measured),
        volume_ml={region: _summary([volumes[region] for volumes in measured]) for region in REGIONS_TO_READ},
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _summary(volumes_ml: Sequence[float]) -> VolumeSummary | None:
    present = [volume for volume in volumes_ml if volume]
    if not present:
        return None
    return VolumeSummary(len(present), *np.percentile(present, (0, 25, 50, 75, 100)).tolist())
