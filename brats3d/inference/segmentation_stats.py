"""Describe a segmentation in numbers, for the JSON that predict writes with ``--stats``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from brats3d import __version__
from brats3d.cases import region_volumes_ml
from brats3d.files import Header
from brats3d.labels import REGIONS_TO_READ, LabelConvention
from brats3d.networks import read_card, weights_digest


def describe_segmentation(label: np.ndarray, convention: LabelConvention, header: Header) -> dict[str, Any]:
    """Return volume, voxel count and bounding box of each region.

    Args:
        label: voxel values, shape (H, W, D), on the grid of the header.
        convention: the label convention of the values.
        header: header of an image of the case.

    Returns:
        ``{brats3d, label_convention, shape, spacing_mm, regions, labels}`` with
        ``regions: {region: {voxels, volume_ml, box, centre_mm}}`` and
        ``labels: {value: {name, voxels, volume_ml}}``. A box is ``[[first, last], ...]`` in voxel indices along each
        axis of the file. The centre is the centre of mass in the scanner's (RAS) millimetres. Both are None for an
        empty region.
    """
    volumes = region_volumes_ml(label, convention, header.voxel_ml)
    regions = {}
    for region in REGIONS_TO_READ:
        voxels = np.argwhere(np.isin(label, convention.regions[region]))
        empty = len(voxels) == 0
        regions[region] = {
            "voxels": len(voxels),
            "volume_ml": round(volumes[region], 6),
            "box": None if empty else np.stack([voxels.min(0), voxels.max(0)], axis=1).tolist(),
            "centre_mm": None if empty else _rounded(header.affine[:3, :3] @ voxels.mean(0) + header.affine[:3, 3]),
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
    """Return name and SHA-256 of a checkpoint and the origin that its card states; None for random weights.

    An ensemble has the name of its folder, and the names of its ``members``.
    """
    if checkpoint is None:
        return None
    path, card = Path(checkpoint), read_card(checkpoint)
    known = ("members", "config", "seed", "epoch", "iteration", "commit", "trained_on", "scores")
    return {
        "file": path.resolve().name if path.is_dir() else path.name,
        "sha256": weights_digest(path),
        **{key: card[key] for key in known if key in card},
    }


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 3) for value in values]
