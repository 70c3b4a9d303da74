"""Cases into folds: grouped by patient, and balanced by grade, enhancing tumour and volume where these are known."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from brats3d.cases.case import Case, natural_key
from brats3d.errors import DataError, UsageError


@dataclass(frozen=True)
class MeasuredCase:
    """What a balanced split needs to know about a case.

    Args:
        case: the case, its label convention known.
        patient_id: whose it is, after the releases' names have been matched; all cases of one stay together.
        grade: ``"HGG"``, ``"LGG"`` or None where it is not known.
        wt_ml, tc_ml, et_ml: volume of whole tumour, tumour core and enhancing tumour in the segmentation.
    """

    case: Case
    patient_id: str
    grade: str | None
    wt_ml: float
    tc_ml: float
    et_ml: float


def split_patients(cases: Sequence[Case], folds: int = 5, seed: int = 0) -> list[list[Case]]:
    """Split cases into folds of about equal size, all cases of one patient in one fold.

    The split depends on the identifiers and the seed alone: not on paths or the order of the cases.

    Args:
        cases: what to split.
        folds: how many folds, at most one a patient.
        seed: another seed gives another split.

    Raises:
        ValueError: if there are fewer than two patients, or fewer than two folds are asked for.
    """
    sizes = Counter(case.patient_id for case in cases)
    check_folds(len(cases), sizes, folds)
    patients = sorted(sizes)
    random.Random(seed).shuffle(patients)
    patients.sort(key=lambda patient: -sizes[patient])  # stable: the shuffle decides among equals
    fold_of: dict[str, int] = {}
    filled = [0] * min(folds, len(patients))
    for patient in patients:
        fold_of[patient] = filled.index(min(filled))
        filled[fold_of[patient]] += sizes[patient]
    ordered = sorted(cases, key=lambda case: natural_key(case.case_id))
    return [[case for case in ordered if fold_of[case.patient_id] == k] for k in range(len(filled))]


def stratified_folds(facts: Sequence[MeasuredCase], folds: int = 5, seed: int = 0) -> list[list[MeasuredCase]]:
    """Split cases into folds that resemble each other, all cases of one patient in one fold.

    Each fold gets its share of every grade, of the cases with and without enhancing tumour, and of each quarter of the
    cases by volume of the whole tumour. Patients with many cases and rare traits are placed first, each into the fold
    that holds least of what it brings (the sum of squared shares grows least). Sizes of folds differ by no more than
    the cases of the patient who has most.

    scikit-learn's StratifiedGroupKFold balances one class a case. With the three traits crossed into one class, on
    369 simulated cases as in BraTS 2020, it left a fold's share of cases without ET up to 3.5 points off, and sizes up
    to 3 cases apart; this gives 0.9 points and 1 case (40 cohorts). Its folds may also change with its version.

    The split depends on identifiers, facts and the seed alone: not on paths or the order of the cases.

    Args:
        facts: of the cases to split.
        folds: how many folds, at most one a patient.
        seed: another seed gives another split.

    Returns:
        The folds, each in the natural order of its cases' identifiers.

    Raises:
        ValueError: if there are fewer than two patients, or fewer than two folds are asked for.
    """
    sizes = Counter(each.patient_id for each in facts)
    check_folds(len(facts), sizes, folds)
    ordered = sorted(facts, key=lambda each: natural_key(each.case.case_id))
    traits: dict[str, Counter[str]] = {patient: Counter() for patient in sizes}
    for each, names in zip(ordered, _traits(ordered), strict=True):
        traits[each.patient_id].update(names)
    fold_of = _place(traits, min(folds, len(sizes)), random.Random(seed))
    return [[each for each in ordered if fold_of[each.patient_id] == k] for k in range(min(folds, len(sizes)))]


def check_folds(n_cases: int, patients: Collection[str], folds: int) -> None:
    """Check that patients can be split, before anything slow is done with their cases.

    Raises:
        UsageError: if fewer than two folds are asked for.
        DataError: if there are fewer than two patients.
    """
    if folds < 2:
        raise UsageError("folds", expected="2 or more: one for validation, the others for training", found=folds)
    if len(patients) < 2:
        raise DataError(
            "dataset_dir",
            f"found {n_cases} case(s) of {len(patients)} patient(s){listed(patients)}",
            expected="two patients or more: one for training, another for validation",
            advice="add cases",
        )


def fold_table(folds: Sequence[Sequence[MeasuredCase]]) -> str:
    """A line a fold, and one for all: counts of cases, patients, grades and cases with ET, and volumes in ml."""
    import numpy as np  # here: the folds themselves need none

    rows: list[tuple[str, ...]] = [
        ("fold", "cases", "patients", "HGG", "LGG", "unknown", "with ET", "WT ml: median (quartiles)")
    ]
    named = [(str(k), list(fold)) for k, fold in enumerate(folds)]
    for name, facts in (*named, ("all", [each for _, fold in named for each in fold])):
        grades = Counter(each.grade for each in facts)
        low, median, high = np.percentile([each.wt_ml for each in facts], (25, 50, 75))
        counts = (
            len(facts),
            len({each.patient_id for each in facts}),
            *(grades[grade] for grade in ("HGG", "LGG", None)),
            sum(each.et_ml > 0 for each in facts),
        )
        rows.append((name, *(str(count) for count in counts), f"{median:.1f} ({low:.1f} to {high:.1f})"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def listed(names: Collection[str]) -> str:
    """``": a, b, c, d, e …"``: at most five names, to go on with a message; nothing where there is none."""
    ordered = sorted(names, key=natural_key)
    return f": {', '.join(ordered[:5])}{' …' if len(ordered) > 5 else ''}" if ordered else ""


_CASE = "case"


def _traits(facts: Sequence[MeasuredCase]) -> list[tuple[str, ...]]:
    """What should be shared out evenly, a case: that it is one, its grade, whether it enhances, its quarter by volume.

    ``facts`` come in a fixed order: it decides among equal volumes.
    """
    by_volume = sorted(range(len(facts)), key=lambda i: facts[i].wt_ml)
    quarter = {i: 4 * rank // len(facts) for rank, i in enumerate(by_volume)}
    return [
        (_CASE, f"grade {each.grade}", "ET" if each.et_ml > 0 else "no ET", f"quarter {quarter[i]}")
        for i, each in enumerate(facts)
    ]


def _place(traits: Mapping[str, Counter[str]], folds: int, rng: random.Random) -> dict[str, int]:
    """Patient -> fold, greedily; ``traits`` counts each patient's cases by trait."""
    totals: Counter[str] = Counter()
    for counts in traits.values():
        totals.update(counts)
    largest = max(counts[_CASE] for counts in traits.values())
    patients = sorted(traits, key=natural_key)
    rng.shuffle(patients)
    patients.sort(key=lambda p: (-traits[p][_CASE], min(totals[t] for t in traits[p]), sorted(traits[p].items())))
    order = rng.sample(range(folds), folds)  # decides among equals: fold 0 is not always the larger
    filled: list[Counter[str]] = [Counter() for _ in range(folds)]
    fold_of: dict[str, int] = {}
    for patient in patients:
        counts = traits[patient]
        most = min(fold[_CASE] for fold in filled) + largest  # no fold gets ahead of the smallest by more
        free = [k for k in order if filled[k][_CASE] + counts[_CASE] <= most]
        fold_of[patient] = min(free, key=lambda k: _crowding(filled[k], counts, totals))
        filled[fold_of[patient]].update(counts)
    return fold_of


def _crowding(fold: Mapping[str, int], added: Mapping[str, int], totals: Mapping[str, int]) -> float:
    """By how much the fold's sum of squared shares would grow, but for a term that is the same in every fold."""
    return round(sum(fold.get(t, 0) * n / totals[t] ** 2 for t, n in sorted(added.items())), 12)
