"""The content of a card's ``quality``: models that predict Dice and volume of a case, and the calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.errors import DataError
from brats3d.labels import REGIONS, REGIONS_TO_READ
from brats3d.quality.additive_model import AdditiveModel
from brats3d.quality.calibration import Calibration
from brats3d.quality.case_features import FEATURES, case_features, to_logits
from brats3d.quality.volume_model import VolumeModel

REVIEW_DICE = 0.7
"""A case whose whole tumour has a lower predicted Dice is listed for review. Two experts agree with a Dice of 0.85 on
average (Menze et al., IEEE TMI 34, 2015)."""


@dataclass(frozen=True)
class RegionQuality:
    """The predicted quality of a region.

    Args:
        predicted_dice: from 0 to 1.
        volume_interval_ml: contains the true volume in nine of ten cases.
    """

    predicted_dice: float
    volume_interval_ml: tuple[float, float]


@dataclass(frozen=True, eq=False)
class QualityModel:
    """Predicts the quality of segmentations. Regions are the keys of each mapping.

    Args:
        cases: number of cases of the fit.
        calibration: of the probabilities.
        dice: predicts Dice; empty if there were too few cases.
        volume: predicts volume intervals; empty if there were too few cases.
    """

    cases: int
    calibration: Mapping[str, Calibration]
    dice: Mapping[str, AdditiveModel]
    volume: Mapping[str, VolumeModel]

    def predict(
        self, probabilities: np.ndarray, regions: np.ndarray, voxel_ml: float = 0.001
    ) -> dict[str, RegionQuality]:
        """Predict the quality of a case.

        Args:
            probabilities: the network's, not calibrated, shape (3, H, W, D), channels in the order of
                ``labels.REGIONS``.
            regions: the segmentation after post-processing, same shape and order.
            voxel_ml: volume of a voxel.

        Returns:
            region -> its quality, in the order WT, TC, ET; empty if the model predicts none.
        """
        if not self.dice:
            return {}
        features = case_features(probabilities, regions, voxel_ml)
        volumes_ml = np.count_nonzero(regions, axis=(1, 2, 3)) * voxel_ml
        return self.predict_features(features, volumes_ml)

    def predict_features(self, features: np.ndarray, volumes_ml: np.ndarray) -> dict[str, RegionQuality]:
        """Predict as :meth:`predict` from features and volumes of the regions, in the order of ``labels.REGIONS``.

        The interval of a region ends at the latest where that of the enclosing region ends.
        """
        found: dict[str, RegionQuality] = {}
        most = np.inf  # each region lies within the one before
        for region in REGIONS_TO_READ:
            row = slice(channel := REGIONS.index(region), channel + 1)
            dice = np.clip(self.dice[region].predict(features[row]), 0, 1).item()
            low, high = np.minimum(self.volume[region].interval(features[row], volumes_ml[row])[0], most)
            most = high
            found[region] = RegionQuality(float(dice), (float(low), float(high)))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the content of a card's ``quality``."""
        parts: dict[str, Mapping[str, Any]] = {
            "calibration": self.calibration,
            "dice": self.dice,
            "volume": self.volume,
        }
        models = {name: {region: each.to_json() for region, each in part.items()} for name, part in parts.items()}
        return {"cases": self.cases, "features": list(FEATURES), **models}

    @classmethod
    def from_json(cls, content: Any, source: str | Path) -> QualityModel:
        """Return the model that :meth:`to_json` described.

        Args:
            content: a card's ``quality``.
            source: the card, for the error message.

        Raises:
            DataError: if it is damaged, or has the features of another version.
        """
        count = len(FEATURES)
        try:
            if content["features"] != list(FEATURES):
                raise ValueError("its features are those of another version of brats3d")
            calibration = {region: Calibration.from_json(content["calibration"][region]) for region in REGIONS}
            dice = {r: AdditiveModel.from_json(each, count) for r, each in content["dice"].items()}
            volume = {r: VolumeModel.from_json(each, count) for r, each in content["volume"].items()}
            if not set(dice) == set(volume) or set(dice) not in (set(), set(REGIONS)):
                raise ValueError("expected models of all regions or of none")
            return cls(int(content["cases"]), calibration, dice, volume)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"invalid 'quality' ({type(error).__name__}: {error})"
            raise DataError(source, problem, advice="fit it again, or remove it") from error


def calibrate(probabilities: np.ndarray, card: Mapping[str, Any]) -> np.ndarray:
    """Calibrate the probabilities of a case, such as those that ``predict --save_probabilities`` writes.

    Args:
        probabilities: shape (3, H, W, D), channels in the order of ``labels.REGIONS``.
        card: the card of the weights, see :func:`brats3d.networks.read_card`.

    Returns:
        float32, same shape. Voxels of probability 0, such as those outside the brain, keep it.

    Raises:
        DataError: if the card has no ``quality``, or it is damaged.
    """
    if "quality" not in card:
        raise DataError("quality", "the card has none", advice="use weights of brats3d crossval, or the bundle's")
    model = QualityModel.from_json(card["quality"], "the card")
    channels = zip(REGIONS, probabilities, strict=True)
    calibrated = np.stack([model.calibration[region].apply(to_logits(each)) for region, each in channels])
    return np.where(probabilities > 0, calibrated, 0).astype(np.float32)


def review_reason(regions: Mapping[str, RegionQuality]) -> str:
    """Return why a person should look at a case first; an empty text if there is no reason.

    Args:
        regions: what :meth:`QualityModel.predict` returned.
    """
    whole = regions.get("WT")
    if whole is None or whole.predicted_dice >= REVIEW_DICE:
        return ""
    return f"the predicted Dice of WT, {whole.predicted_dice:.2f}, is below {REVIEW_DICE}"
