"""A case, the files of one scan session, and its MONAI datalist item."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brats3d.cases.naming_rules import ANY_LAYOUT, case_id_of, layout_of, modality_of
from brats3d.errors import DataError
from brats3d.labels import MODALITIES

MAX_CASE_ID_BYTES = 200
"""File systems allow names of 255 bytes. Outputs add a suffix, and temporary files a longer one."""


@dataclass(frozen=True)
class Case:
    """One case: the files of one scan session.

    Args:
        case_id: one path component, used in the names of output files.
        patient_id: identifier of the patient; splits group by it.
        images: modality -> file, in the order of :data:`brats3d.labels.MODALITIES`.
        label: the segmentation, if there is one.
        layout: name of the layout of its file names.
        convention: name of the label convention; None if the names leave it open.
        convention_assumed: True if names and datalist.json leave it open, and BraTS 2020's is assumed.
        grade: ``"HGG"`` or ``"LGG"`` if the case lies in a folder with that name (BraTS 2017 to 2019).

    Raises:
        DataError: if ``case_id`` cannot be part of a file name; see :func:`check_case_id`.
    """

    case_id: str
    patient_id: str
    images: Mapping[str, Path] = field(hash=False)
    label: Path | None
    layout: str
    convention: str | None = "brats2020"
    grade: str | None = None
    convention_assumed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        check_case_id(self.case_id)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case: the images in their order, then the segmentation."""
        return (*self.images.values(), *([self.label] if self.label else []))


def make_case(
    case_id: str,
    images: Mapping[str, Path],
    label: Path | None,
    patient_id: str | None = None,
    convention: str | None = None,
    grade: str | None = None,
) -> Case:
    """Make a :class:`Case`. Its layout and, by default, its patient and label convention follow from its names."""
    layout = layout_of(case_id, images.values())
    patient_id = layout.patient_of(case_id) if patient_id is None else patient_id
    ordered = {m: images[m] for m in sorted(images, key=modality_rank)}
    assumed = convention is None and layout is ANY_LAYOUT
    return Case(case_id, patient_id, ordered, label, layout.name, convention or layout.convention, grade, assumed)


def check_case_id(case_id: str) -> None:
    """Refuse a name that cannot be part of a file name in one folder, or that a terminal would interpret.

    Raises:
        DataError: if it is empty, starts with a dot, contains a slash or a control character, or is longer than
            :data:`MAX_CASE_ID_BYTES`.
    """
    long = len(case_id.encode(errors="surrogatepass")) > MAX_CASE_ID_BYTES
    if not case_id or case_id.startswith(".") or long or _NOT_IN_NAMES.search(case_id):
        raise DataError(
            "case_id",
            expected=f"one path component, such as BraTS20_Training_001, of at most {MAX_CASE_ID_BYTES} bytes, not "
            "hidden and without control characters",
            found=case_id,
        )


def modality_rank(modality: str) -> tuple[int, str]:
    """Return a sort key: modalities in their order, other names after them."""
    return (MODALITIES.index(modality) if modality in MODALITIES else len(MODALITIES)), modality


_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")


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
