"""The predicted quality of the cases of a run, in a file beside its scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats3d.errors import DataError
from brats3d.files import Writer, read_json, write_json, write_owned
from brats3d.labels import REGIONS_TO_READ
from brats3d.quality.quality_model import RegionQuality

QUALITY_NAME = "quality.json"
"""The file, in the folder of a run."""

Predictions = Mapping[str, Mapping[str, RegionQuality]]
"""case_id -> region -> predicted quality."""


def write_quality(path: str | Path, predictions: Predictions, write: Writer = write_owned) -> None:
    """Write ``{case_id: {region: {predicted_dice, volume_interval_ml}}}``.

    Args:
        path: the file.
        predictions: the predicted quality of each case.
        write: writes the file.
    """
    content = {
        case_id: {
            region: {
                "predicted_dice": round(each.predicted_dice, 3),
                "volume_interval_ml": [round(limit, 2) for limit in each.volume_interval_ml],
            }
            for region, each in regions.items()
        }
        for case_id, regions in predictions.items()
    }
    write_json(Path(path), content, write)


def read_quality(path: str | Path) -> dict[str, dict[str, RegionQuality]]:
    """Return what :func:`write_quality` wrote; empty if there is no such file.

    Raises:
        DataError: if the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        return {
            case_id: {region: _read_region(regions[region]) for region in REGIONS_TO_READ}
            for case_id, regions in read_json(path).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"damaged ({type(error).__name__}: {error})"
        raise DataError(path, problem, advice="run brats3d evaluate again") from error


def _read_region(content: Mapping[str, Any]) -> RegionQuality:
    low, high = content["volume_interval_ml"]
    return RegionQuality(float(content["predicted_dice"]), (float(low), float(high)))
