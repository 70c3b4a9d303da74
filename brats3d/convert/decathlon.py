"""The brain tumours of the Medical Segmentation Decathlon (Task01): 4-D images with labels numbered differently.

Channels and labels are identified by their names in the task's ``dataset.json``, never by position: edema and core are
numbered the other way round than in BraTS. Antonelli et al., "The Medical Segmentation Decathlon", Nature
Communications 13 (2022), 4128, https://doi.org/10.1038/s41467-022-30695-9.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import numpy as np

from brats3d.convert.records import ConvertedCase
from brats3d.errors import DataError
from brats3d.files import (
    AFFINE_TOLERANCE_MM,
    MAX_BYTES,
    MAX_VOXELS,
    format_affine,
    read_json,
    regular_file_size,
    too_long,
)
from brats3d.labels import MODALITIES

T = TypeVar("T", str, int)

MODALITY_NAMES: Mapping[str, str] = {
    "flair": "flair",
    "t2flair": "flair",
    "t1": "t1",
    "t1w": "t1",
    "t1gd": "t1ce",
    "t1ce": "t1ce",
    "t2": "t2",
    "t2w": "t2",
}
"""Normalised name in ``dataset.json`` (lower case, no punctuation) -> BraTS 2020's name."""

LABELS: Mapping[str, int] = {
    "background": 0,
    "nonenhancingtumor": 1,
    "edema": 2,
    "enhancingtumor": 4,
}
"""Normalised name in ``dataset.json`` (lower case, no punctuation, American spelling) -> BraTS 2020's label."""

DATASET_JSON: Mapping[str, Any] = {
    "name": "BRATS",
    "description": "Gliomas segmentation tumour and oedema in on brain images",
    "reference": "https://www.med.upenn.edu/sbia/brats2017.html",
    "licence": "CC-BY-SA 4.0",
    "release": "2.0 04/05/2018",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
}
"""Task01's ``dataset.json`` without its lists of cases."""


@dataclass(frozen=True)
class TaskFiles:
    """The files of one case.

    Args:
        case_id: the image's name without its suffix.
        image: the 4-D image.
        label: the segmentation; None for test cases.
        modalities: of the image's channels, in their order.
        labels: the task's label -> BraTS 2020's.
    """

    case_id: str
    image: Path
    label: Path | None
    modalities: tuple[str, ...]
    labels: Mapping[int, int]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The files to write."""
        return (*MODALITIES, *(["seg"] if self.label else []))

    def read(self) -> ConvertedCase:
        """Read the case on the task's own grid and split it into modalities.

        Returns:
            Integers where the image holds whole numbers, else float32.

        Raises:
            DataError: naming the file that is missing, damaged, or contradicts ``dataset.json``.
        """
        image, affine = _read_nifti(self.image)
        if image.ndim != 4 or image.shape[3] != len(self.modalities):
            raise DataError(
                self.image,
                expected=f"shape (X, Y, Z, {len(self.modalities)}), for {', '.join(self.modalities)}",
                found=image.shape,
                advice=_DOWNLOAD,
            )
        image = _to_integers(image, self.image)
        arrays = {name: np.asfortranarray(image[..., self.modalities.index(name)]) for name in MODALITIES}
        if self.label:
            values, label_affine = _read_nifti(self.label)
            same_affine = np.allclose(label_affine, affine, atol=AFFINE_TOLERANCE_MM)
            if values.shape != image.shape[:3] or not same_affine:
                raise DataError(
                    self.label,
                    f"its grid differs from that of {self.image.name}",
                    expected=f"shape {image.shape[:3]} and affine {format_affine(affine)}",
                    found=f"{values.shape} and {format_affine(label_affine)}",
                    advice=_DOWNLOAD,
                )
            arrays["seg"] = _relabel(values, self.labels, self.label)
        return ConvertedCase(arrays, affine)


def find_task_cases(dataset_json: Path) -> list[TaskFiles]:
    """Find the cases listed in a task's ``dataset.json``, test cases included; no image is opened.

    Raises:
        DataError: if the file cannot be read, does not name four known modalities and BraTS's labels, or lists a path
            outside its folder.
    """
    try:
        description = read_json(dataset_json)
    except (OSError, ValueError) as error:
        raise DataError(dataset_json, f"cannot be read as JSON ({error})", advice=_DOWNLOAD) from None
    if not isinstance(description, dict):
        raise DataError(dataset_json, expected="a JSON object", found=description, advice=_DOWNLOAD)
    modalities = tuple(_meanings(description, "modality", MODALITY_NAMES, dataset_json))
    labels = dict(enumerate(_meanings(description, "labels", LABELS, dataset_json)))
    cases: dict[str, TaskFiles] = {}
    for image, label in _listed_files(description, dataset_json):
        if image.name.startswith("._"):  # macOS leaves such files in archives
            continue
        case_id = re.sub(r"\.nii(\.gz)?$", "", image.name, flags=re.IGNORECASE)
        if not case_id or case_id.startswith("."):
            expected = "image names such as BRATS_001.nii.gz"
            raise DataError(dataset_json, expected=expected, found=image.name, advice=_DOWNLOAD)
        if case_id in cases:
            raise DataError(dataset_json, f"lists {case_id:.200} twice", advice="remove one of the entries")
        cases[case_id] = TaskFiles(case_id, image, label, modalities, labels)
    if not cases:
        raise DataError(dataset_json, "lists no case under training or test", advice=_DOWNLOAD)
    return [cases[case_id] for case_id in sorted(cases)]


_DOWNLOAD = "download it again"


def _listed_files(description: Mapping[str, Any], source: Path) -> list[tuple[Path, Path | None]]:
    """Return image and segmentation of every case, None for a test case's segmentation."""
    training, test = description.get("training", []), description.get("test", [])
    if not isinstance(training, list) or not isinstance(test, list):
        raise DataError(source, "training or test is not a list", advice=_DOWNLOAD)
    files: list[tuple[Path, Path | None]] = []
    for entry in training:
        if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
            expected = "an image and a label for every training case"
            raise DataError(source, expected=expected, found=entry, advice=_DOWNLOAD)
        files.append((_path_within(entry["image"], source), _path_within(entry["label"], source)))
    for entry in test:
        image = entry.get("image") if isinstance(entry, dict) else entry
        files.append((_path_within(image, source), None))
    return files


def _path_within(text: object, source: Path) -> Path:
    """Resolve a listed path; raise if it leaves the folder of dataset.json."""
    windows = PureWindowsPath(str(text))  # splits at both kinds of slash
    foreign = not isinstance(text, str) or windows.anchor or ".." in windows.parts or "\0" in text
    if foreign or not windows.parts or too_long(str(text)):
        raise DataError(
            source,
            expected="file paths below its own folder, such as ./imagesTr/BRATS_001.nii.gz",
            found=text,
            advice="do not use a data set that you do not trust",
        )
    return source.parent / str(text)


def _meanings(description: Mapping[str, Any], key: str, known: Mapping[str, T], source: Path) -> list[T]:
    """Translate the names in ``{"0": "FLAIR", …}``, in the order of their numbers; each meaning must occur once."""
    names = description.get(key)
    numbered = names if isinstance(names, dict) else {}
    plain = [_normalise(str(numbered.get(str(i)))) for i in range(len(numbered))]
    meanings = [known[name] for name in plain if name in known]
    if len(meanings) != len(plain) or Counter(meanings) != Counter(set(known.values())):
        raise DataError(
            source,
            expected=f"{key} to name, in any order, {DATASET_JSON[key]}",
            found=names,
            advice="correct the names if they mean these, or pass the folder of the Decathlon's Task01_BrainTumour",
        )
    return meanings


def _normalise(name: str) -> str:
    """Convert to lower case and American spelling; drop everything but letters and digits."""
    name = re.sub(r"[^a-z0-9]", "", name.lower())
    return name.replace("tumour", "tumor").replace("oedema", "edema")


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and affine."""
    import nibabel as nib

    try:
        regular_file_size(path)
        image = nib.load(path)
        _check_size(image)
        values, affine = np.asanyarray(image.dataobj), image.affine
    except FileNotFoundError:
        raise DataError(path, "does not exist, although dataset.json lists it", advice=_DOWNLOAD) from None
    # Damaged headers make nibabel, numpy and zlib raise all kinds of exceptions; other cases must still be converted.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(path, f"cannot be read as NIfTI ({reason})", advice=_DOWNLOAD) from error
    if values.dtype.kind not in "iuf":
        raise DataError(path, expected="integers or floats", found=str(values.dtype), advice=_DOWNLOAD)
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise DataError(path, expected="an invertible affine", found=format_affine(affine), advice=_DOWNLOAD)
    return values, affine


def _check_size(image: Any) -> None:
    """Raise, before the voxels are read, if an image is larger than any case."""
    shape, size = image.shape, math.prod(image.shape) * image.get_data_dtype().itemsize
    if math.prod(shape) > MAX_VOXELS * len(MODALITIES) or size > MAX_BYTES:
        limits = f"{MAX_VOXELS:,} voxels a channel, {MAX_BYTES:,} bytes"
        raise ValueError(f"has shape {shape}, {size:,} bytes; at most {limits} are read")


def _to_integers(image: np.ndarray, path: Path) -> np.ndarray:
    """Convert whole-valued floats and 64-bit integers to int16 or int32 and other floats to float32.

    Integers of up to 32 bits are returned as they are.
    """
    if image.dtype.kind in "iu" and image.dtype.itemsize <= 4:
        return image
    if not np.isfinite(image.sum(dtype=np.float64)):
        raise DataError(path, "contains NaN or Inf", advice=_DOWNLOAD)
    low, high = image.min(), image.max()
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            whole = image.astype(dtype)
            return whole if np.array_equal(whole, image) else image.astype(np.float32)
    return image.astype(np.float32)


def _relabel(values: np.ndarray, labels: Mapping[int, int], path: Path) -> np.ndarray:
    """Convert the task's labels to BraTS 2020's, uint8."""
    known = np.isin(values, list(labels))
    if not known.all():
        raise DataError(
            path,
            f"{np.count_nonzero(~known):,} voxels have unknown labels",
            expected=f"{', '.join(map(str, labels))}, as dataset.json says",
            found=np.unique(values[~known])[:10].tolist(),
            advice=_DOWNLOAD,
        )
    return np.array([labels[i] for i in range(len(labels))], np.uint8)[values.astype(np.uint8)]
