"""What is said of one segmentation in numbers, for those who read JSON and not pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from brats3d import __version__
from brats3d.cases import region_volumes_ml
from brats3d.files import Header
from brats3d.labels import REGIONS_TO_READ, LabelConvention
from brats3d.networks import read_card


def describe_segmentation(label: np.ndarray, convention: LabelConvention, header: Header) -> dict[str, Any]:
    """Volumes, counts and boxes of each region.

    Args:
        label: voxel values, shape (H, W, D), on the grid of the header.
        convention: what they mean.
        header: of one of the case's images.

    Returns:
        ``{brats3d, label_convention, shape, spacing_mm, regions: {region: {voxels, volume_ml, box, centre_mm}},
        labels: {value: {name, voxels, volume_ml}}}``. A box is ``[[first, last], ...]`` of voxel indices along each
        axis of the file, the centre that of mass in the scanner's (RAS) millimetres; both None where there is nothing.
    """
    volumes = region_volumes_ml(label, convention, header.voxel_ml)
    regions = {}
    for region in REGIONS_TO_READ:
        where = np.argwhere(np.isin(label, convention.regions[region]))
        found = len(where) > 0
        regions[region] = {
            "voxels": len(where),
            "volume_ml": round(volumes[region], 6),
            "box": np.stack([where.min(0), where.max(0)], axis=1).tolist() if found else None,
            "centre_mm": _rounded(header.affine[:3, :3] @ where.mean(0) + header.affine[:3, 3]) if found else None,
        }
    counts = {value: int(np.count_nonzero(label == value)) for value in convention.labels}
    return {
        "brats3d": __version__,
        "label_convention": convention.name,
        "shape": list(label.shape),
        "spacing_mm": _rounded(header.spacing_mm),
        "regions": regions,
        "labels": {
            str(value): {"name": name, "voxels": counts[value], "volume_ml": round(counts[value] * header.voxel_ml, 6)}
            for value, name in convention.labels.items()
        },
    }


def describe_weights(checkpoint: str | Path | None) -> dict[str, Any] | None:
    """Which weights: the file's name and SHA-256, and where its card says they come from; None for random ones."""
    if checkpoint is None:
        return None
    path, card = Path(checkpoint), read_card(checkpoint)
    known = ("config", "seed", "epoch", "iteration", "commit", "trained_on", "scores")
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **{key: card[key] for key in known if key in card},
    }


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 3) for value in values]
