"""The result of choosing values of post-processing, as a record and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from brats3d.errors import DataError
from brats3d.files import read_json
from brats3d.labels import REGIONS_TO_READ
from brats3d.postprocessing.values import PostprocessingValues

CHOICE_NAME = "postprocessing.json"
"""The file with the choice, in the folder of a cross-validation."""

COMPARED = ("none", "default", "chosen")
"""The post-processing that is compared: none, the default, and that with the chosen values."""


@dataclass(frozen=True)
class MeanScores:
    """The mean scores of a region over cases.

    Args:
        dice: mean Dice.
        lesion_dice: mean lesion-wise Dice.
    """

    dice: float
    lesion_dice: float


@dataclass(frozen=True)
class PostprocessingChoice:
    """Values of post-processing that were chosen for networks, and what they gain on cases that did not choose them.

    Args:
        values: the values, chosen on all cases.
        default: the values that they replace.
        by_fold: fold -> the values that were chosen on the other folds.
        cases: number of cases.
        scores: for each of :data:`COMPARED`, region -> mean scores over all cases. Those of ``chosen`` are nested: a
            case is scored with the values of ``by_fold`` for its fold.
    """

    values: PostprocessingValues
    default: PostprocessingValues
    by_fold: Mapping[int, PostprocessingValues] = field(hash=False)
    cases: int
    scores: Mapping[str, Mapping[str, MeanScores]] = field(hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values. ``chosen`` is the form of a card's ``postprocessing``."""
        return {
            "cases": self.cases,
            "chosen": self.values.to_json(),
            "default": self.default.to_json(),
            "chosen_without_fold": {str(fold): values.to_json() for fold, values in self.by_fold.items()},
            "scores": {name: {r: asdict(s) for r, s in each.items()} for name, each in self.scores.items()},
        }


def read_choice(path: str | Path) -> PostprocessingChoice:
    """Read a file that holds :meth:`PostprocessingChoice.to_json`.

    Raises:
        DataError: if the file is damaged or lacks a value.
        OSError: if it cannot be opened.
    """
    path = Path(path)
    try:
        content = read_json(path)
        return PostprocessingChoice(
            values=PostprocessingValues.from_json(content["chosen"], path),
            default=PostprocessingValues.from_json(content["default"], path),
            by_fold={
                int(k): PostprocessingValues.from_json(v, path) for k, v in content["chosen_without_fold"].items()
            },
            cases=int(content["cases"]),
            scores={
                name: {region: _scores(content["scores"][name][region]) for region in REGIONS_TO_READ}
                for name in COMPARED
            },
        )
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(path, f"damaged ({error})", expected="what brats3d crossval writes") from error


def _scores(content: Mapping[str, Any]) -> MeanScores:
    scores = MeanScores(float(content["dice"]), float(content["lesion_dice"]))
    if not all(0 <= score <= 1 for score in asdict(scores).values()):
        raise ValueError(f"a score outside 0 to 1: {content}")
    return scores
