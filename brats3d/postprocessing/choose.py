"""Choose the values of post-processing on out-of-fold predictions, and judge the choice on other cases.

One value is chosen after the other, and a change is kept only if it improves the scores of the cross-validation, as
nnU-Net's ``determine_postprocessing`` does (https://github.com/MIC-DKFZ/nnUNet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from brats3d.errors import DataError
from brats3d.evaluation import RULES, Rules
from brats3d.labels import REGIONS, REGIONS_TO_READ
from brats3d.postprocessing.choice import MeanScores, PostprocessingChoice
from brats3d.postprocessing.out_of_fold_scores import OutOfFoldCase, ScoreTable
from brats3d.postprocessing.region_rules import RegionRules
from brats3d.postprocessing.values import PostprocessingValues

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
COMPONENTS_ML = (0, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
CANDIDATES: Mapping[str, tuple[float, ...]] = {
    "WT": THRESHOLDS,
    "TC": THRESHOLDS,
    "ET": THRESHOLDS,
    "min_wt_ml": COMPONENTS_ML,
    "min_tc_ml": COMPONENTS_ML,
    "min_et_total_ml": COMPONENTS_ML,
    "min_et_ml": COMPONENTS_ML,
    "max_hole_ml": (0, 0.1, 1),
}
"""The numbers to try for the threshold of each region and for each rule, in this order."""

LEVEL = 0.05
"""Level of the one-sided paired t-test that a change must pass."""

DICE_TOLERANCE = 0.001
"""The mean Dice that a region may lose against the default: less than two trainings differ by."""

NONE = PostprocessingValues((0.5,) * len(REGIONS), RegionRules())


def choose_postprocessing(
    cases: Sequence[OutOfFoldCase],
    default: PostprocessingValues,
    rules: Rules = RULES["brats2023"],
    workers: int = 2,
    progress: bool = True,
) -> PostprocessingChoice:
    """Choose the values of post-processing for the networks of a cross-validation.

    Starting from the default, one value after the other is changed to the number with the highest mean of Dice and
    lesion-wise Dice over regions and cases, if its gain over the current number passes a paired t-test over the cases
    (:data:`LEVEL`) and no region's mean Dice falls below that of the default (:data:`DICE_TOLERANCE`). Few cases, or
    gains that are noise, leave the default.

    The values are chosen on all cases. The scores of the choice are nested: the cases of a fold are scored with values
    that were chosen in the same way on the other folds.

    A case is read about ten times, and one case for each worker is in memory.

    Args:
        cases: the cases of all folds.
        default: the values of ``inference.yaml``.
        rules: rules of the lesion-wise scores.
        workers: number of cases that are scored at the same time.
        progress: show progress bars.

    Raises:
        DataError: if there are fewer than two folds, a file is damaged, or the files of a case differ in shape.
        OSError: if a file cannot be opened.
    """
    fold_of = np.array([case.fold for case in cases])
    folds = [int(fold) for fold in np.unique(fold_of)]
    if len(folds) < 2:
        raise DataError("cases", expected="cases of at least two folds", found=folds)
    table = ScoreTable(cases, rules, workers, progress)
    table.add([NONE, default], "default")
    members: dict[int | None, np.ndarray] = {None: np.ones(len(cases), bool)}
    members |= {fold: fold_of != fold for fold in folds}
    current: dict[int | None, PostprocessingValues] = dict.fromkeys(members, default)
    for name, numbers in CANDIDATES.items():
        candidates = {fold: changed(values, name, numbers) for fold, values in current.items()}
        table.add([each for values in candidates.values() for each in values], name)
        for fold, chosen_on in members.items():
            current[fold] = best_values(table, chosen_on, default, current[fold], candidates[fold])
    by_fold = {fold: current[fold] for fold in folds}
    nested = np.stack([table[by_fold[case.fold]][row] for row, case in enumerate(cases)])
    scores = {"none": table[NONE], "default": table[default], "chosen": nested}
    return PostprocessingChoice(
        values=current[None],
        default=default,
        by_fold=by_fold,
        cases=len(cases),
        scores={name: _means(each) for name, each in scores.items()},
    )


def changed(values: PostprocessingValues, name: str, numbers: Sequence[float]) -> list[PostprocessingValues]:
    """Return the values with other numbers for one of them, those close to its number first.

    Args:
        values: the values.
        name: a region for its threshold, or a field of :class:`brats3d.postprocessing.RegionRules`.
        numbers: the numbers.
    """
    now = dict(zip(REGIONS, values.thresholds, strict=True))
    if name not in now:
        number = getattr(values.rules, name)
        rules = [replace(values.rules, **{name: n}) for n in sorted(numbers, key=lambda n: abs(n - number))]
        return [replace(values, rules=each) for each in rules]
    thresholds = [now | {name: number} for number in sorted(numbers, key=lambda n: abs(n - now[name]))]
    return [replace(values, thresholds=tuple(each.values())) for each in thresholds]


def best_values(
    table: ScoreTable,
    members: np.ndarray,
    default: PostprocessingValues,
    current: PostprocessingValues,
    candidates: Sequence[PostprocessingValues],
) -> PostprocessingValues:
    """Return the candidate with the largest gain over the current values; the current ones if none may replace them.

    Args:
        table: the scores.
        members: bool (cases,): the cases that count.
        default: the values that may lose no Dice.
        current: the values to improve.
        candidates: the values to choose from; of equal ones, the first is taken.
    """
    best, best_gain = current, 0.0
    for values in candidates:
        gains = (table[values] - table[current])[members].mean(axis=(1, 2))
        dice = (table[values] - table[default])[members, :, 0].mean(axis=0)
        if gains.mean() > best_gain and is_gain(gains) and dice.min() >= -DICE_TOLERANCE:
            best, best_gain = values, gains.mean()
    return best


def is_gain(gains: np.ndarray) -> bool:
    """Return True if the mean of the cases' gains is above 0 by a one-sided t-test at :data:`LEVEL`."""
    if len(gains) < 2:
        return False
    limit = stats.t.ppf(1 - LEVEL, len(gains) - 1) * stats.sem(gains)  # ttest_1samp divides by 0 if all are equal
    return bool(gains.mean() > limit)


def _means(scores: np.ndarray) -> dict[str, MeanScores]:
    means = scores.mean(axis=0).tolist()
    return {region: MeanScores(*each) for region, each in zip(REGIONS_TO_READ, means, strict=True)}
