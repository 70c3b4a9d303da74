"""MONAI datalist items and the cases that they stand for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats3d.cases.case import Case, make_case
from brats3d.cases.naming_rules import case_id_of, modality_of


def case_to_item(case: Case) -> dict[str, Any]:
    """Return the datalist item of a case, as MONAI's transforms read it.

    An item is ``{"image": [path, ...], "label": path, "label_convention": name, "case_id": ..., "patient_id": ...}``.
    Its images are in the order of :data:`brats3d.labels.MODALITIES`. A case without a segmentation has neither
    ``label`` nor ``label_convention``.
    """
    item: dict[str, Any] = {"image": [str(path) for path in case.images.values()]}
    if case.label is not None:
        item |= {"label": str(case.label), "label_convention": case.convention}
    return item | {"case_id": case.case_id, "patient_id": case.patient_id}


def item_to_case(item: Mapping[str, Any]) -> Case:
    """Return the case of a datalist item: the inverse of :func:`case_to_item`."""
    paths = [Path(p) for p in ([item["image"]] if isinstance(item["image"], str | os.PathLike) else item["image"])]
    images = {modality_of(path) or f"image{i}": path for i, path in enumerate(paths)}
    label = Path(item["label"]) if item.get("label") else None
    # MONAI's datalist readers turn any text into a path below the data folder.
    names = {key: Path(str(item[key])).name for key in ("case_id", "label_convention") if item.get(key)}
    case_id = names.get("case_id") or case_id_of(paths[0])
    return make_case(case_id, images, label, item.get("patient_id"), names.get("label_convention"))
