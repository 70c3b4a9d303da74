"""The brain tumours of the Medical Segmentation Decathlon (Task01): 4-D images, and labels numbered its own way.

What the channels and the labels mean is read from the task's ``dataset.json`` by name, never assumed: edema and core
are numbered the other way round than in BraTS. Antonelli et al., "The Medical Segmentation Decathlon", Nature
Communications 13 (2022), 4128, https://doi.org/10.1038/s41467-022-30695-9.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from brats3d.files import MAX_BYTES, MAX_VOXELS, format_affine, ordinary_size, read_json, too_long
from brats3d.labels import MODALITIES

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
"""Names in ``dataset.json``, lower case and without signs -> BraTS 2020's."""

LABELS: Mapping[str, int] = {
    "background": 0,
    "nonenhancingtumor": 1,
    "edema": 2,
    "enhancingtumor": 4,
}
"""Names in ``dataset.json``, lower case, without signs and in American spelling -> BraTS 2020's values."""

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
"""What Task01's says beside its lists of cases."""


@dataclass(frozen=True)
class TaskCase:
    """One case as BraTS 2020 would hold it, on the task's own grid.

    Args:
        arrays: modality -> integers (X, Y, Z), float32 if they are not whole; seg: uint8 {0, 1, 2, 4}.
        affine: (4, 4) voxel -> RAS millimetres, the image's own.
        ambiguous: empty; nothing is.
    """

    arrays: Mapping[str, np.ndarray]
    affine: np.ndarray
    ambiguous: tuple[Any, ...] = ()


@dataclass(frozen=True)
class TaskFiles:
    """The files of one case.

    Args:
        case_id: the image's name without its suffix.
        image: 4-D.
        label: None in test cases.
        modalities: of the image's channels, in their order.
        labels: the task's value -> BraTS 2020's.
        source_bytes: size of the files.
    """

    case_id: str
    image: Path
    label: Path | None
    modalities: tuple[str, ...]
    labels: Mapping[int, int]
    source_bytes: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the files to write."""
        return (*MODALITIES, *(["seg"] if self.label else []))

    def read(self) -> TaskCase:
        """Read the case, one 3-D array a modality.

        Raises:
            ValueError: naming the file that is missing or damaged, or that holds what dataset.json does not say.
        """
        image, affine = _read_nifti(self.image)
        if image.ndim != 4 or image.shape[3] != len(self.modalities):
            raise ValueError(
                f"{self.image}: has shape {image.shape}; expected (X, Y, Z, {len(self.modalities)}) with "
                f"{', '.join(self.modalities)}, as dataset.json says; {_DOWNLOAD}"
            )
        image = _whole(image, self.image)
        arrays = {name: np.asfortranarray(image[..., self.modalities.index(name)]) for name in MODALITIES}
        if self.label:
            values, label_affine = _read_nifti(self.label)
            if values.shape != image.shape[:3] or not np.allclose(label_affine, affine, atol=1e-3):
                raise ValueError(
                    f"{self.label}: its grid ({values.shape}) is not that of {self.image.name} ({image.shape[:3]}), or "
                    f"its affine differs; expected the same; {_DOWNLOAD}"
                )
            arrays["seg"] = _relabel(values, self.labels, self.label)
        return TaskCase(arrays, affine)


def find_task_cases(dataset_json: Path) -> list[TaskFiles]:
    """The cases that a task's ``dataset.json`` lists, ``test`` included; no image is opened.

    Raises:
        ValueError: if the file cannot be read, if it does not name four known modalities and BraTS's labels, or if a
            path in it leads out of its folder.
    """
    try:
        description = read_json(dataset_json)
    except (OSError, ValueError) as error:
        raise ValueError(f"{dataset_json}: cannot be read as JSON ({error}); {_DOWNLOAD}") from None
    if not isinstance(description, dict):
        raise ValueError(f"{dataset_json}: holds a {type(description).__name__}; expected a JSON object; {_DOWNLOAD}")
    modalities = _modalities(description.get("modality"), dataset_json)
    labels = _labels(description.get("labels"), dataset_json)
    cases: dict[str, TaskFiles] = {}
    for image, label in _listed(description, dataset_json):
        if image.name.startswith("._"):  # what macOS leaves in archives
            continue
        case_id = re.sub(r"\.nii(\.gz)?$", "", image.name, flags=re.IGNORECASE)
        if not case_id or case_id.startswith("."):
            raise ValueError(
                f"{dataset_json}: lists the image {image.name!r:.200}; expected a name such as BRATS_001.nii.gz; "
                f"{_DOWNLOAD}"
            )
        if case_id in cases:
            raise ValueError(f"{dataset_json}: lists {case_id:.200} twice; expected every case once; remove one")
        size = sum(path.stat().st_size for path in (image, label) if path and path.is_file())
        cases[case_id] = TaskFiles(case_id, image, label, modalities, labels, size)
    if not cases:
        raise ValueError(f"{dataset_json}: lists no case under training or test; expected some; {_DOWNLOAD}")
    return [cases[case_id] for case_id in sorted(cases)]


_DOWNLOAD = "download it again"


def _listed(description: Mapping[str, Any], source: Path) -> list[tuple[Path, Path | None]]:
    """Image and segmentation of every case."""
    training, test = description.get("training", []), description.get("test", [])
    if not isinstance(training, list) or not isinstance(test, list):
        raise ValueError(f"{source}: training or test is no list; expected lists of cases; {_DOWNLOAD}")
    listed: list[tuple[Path, Path | None]] = []
    for entry in training:
        if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
            raise ValueError(f"{source}: training holds {entry!r:.200}; expected an image and a label; {_DOWNLOAD}")
        listed.append((_inside(entry["image"], source), _inside(entry["label"], source)))
    images = [entry.get("image") if isinstance(entry, dict) else entry for entry in test]
    return [*listed, *((_inside(image, source), None) for image in images)]


def _inside(text: object, source: Path) -> Path:
    """A listed path, which must not leave the folder of dataset.json."""
    windows = PureWindowsPath(str(text))  # splits at both kinds of slash
    foreign = not isinstance(text, str) or windows.anchor or ".." in windows.parts or "\0" in text
    if foreign or not windows.parts or too_long(str(text)):
        raise ValueError(
            f"{source}: lists the file {text!r:.200}; expected a path below its own folder, such as "
            "./imagesTr/BRATS_001.nii.gz; do not use a data set that you do not trust"
        )
    return source.parent / str(text)


def _modalities(names: object, source: Path) -> tuple[str, ...]:
    found = [MODALITY_NAMES.get(_plain(name)) for name in _numbered(names, "modality", source)]
    if sorted(map(str, found)) != sorted(MODALITIES):
        raise ValueError(
            f"{source}: modality is {names!s:.300}; expected FLAIR, T1w, t1gd and T2w, each once, numbered from 0; "
            "correct the names if they mean these"
        )
    return tuple(str(name) for name in found)


def _labels(names: object, source: Path) -> dict[int, int]:
    found = [LABELS.get(_plain(name)) for name in _numbered(names, "labels", source)]
    if None in found or sorted(str(value) for value in found) != sorted(str(value) for value in LABELS.values()):
        raise ValueError(
            f"{source}: labels are {names!s:.300}; expected background, edema, non-enhancing tumor and enhancing "
            "tumour, each once, numbered from 0; correct the names if they mean these"
        )
    return {i: value for i, value in enumerate(found) if value is not None}


def _numbered(names: object, what: str, source: Path) -> list[str]:
    """``{"0": "FLAIR", …}`` -> the names in the order of their numbers."""
    if isinstance(names, dict) and set(names) == {str(i) for i in range(len(names))}:
        return [str(names[str(i)]) for i in range(len(names))]
    raise ValueError(
        f'{source}: {what} is {names!r:.300}; expected names by number, such as {{"0": "{DATASET_JSON[what]["0"]}", …}}'
        f"; give the folder of the Decathlon's Task01_BrainTumour, or {_DOWNLOAD}"
    )


def _plain(name: str) -> str:
    """Lower case, letters and digits only, American spelling."""
    name = re.sub(r"[^a-z0-9]", "", name.lower())
    return name.replace("tumour", "tumor").replace("oedema", "edema")


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine."""
    import nibabel as nib

    try:
        ordinary_size(path)
        image = nib.load(path)
        _check_size(image)
        values, affine = np.asanyarray(image.dataobj), image.affine
    except FileNotFoundError:
        raise ValueError(f"{path}: is not there, although dataset.json lists it; {_DOWNLOAD}") from None
    # Whatever a damaged header makes nibabel, numpy and zlib raise: a case must not stop the others.
    except Exception as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be read ({what}); expected a NIfTI file; {_DOWNLOAD}") from error
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise ValueError(
            f"{path}: its affine {format_affine(affine)} places no voxel in space; expected an invertible one; "
            f"{_DOWNLOAD}"
        )
    return values, affine


def _check_size(image: Any) -> None:
    """Refuse what no case can be, before its voxels are read."""
    shape, size = image.shape, math.prod(image.shape) * image.get_data_dtype().itemsize
    if math.prod(shape) > MAX_VOXELS * len(MODALITIES) or size > MAX_BYTES:
        limits = f"{MAX_VOXELS:,} voxels a channel, {MAX_BYTES:,} bytes"
        raise ValueError(f"has shape {shape}, {size:,} bytes; at most {limits} are read")


def _whole(image: np.ndarray, path: Path) -> np.ndarray:
    """Integers as they are; whole-valued floats, and 64-bit integers, as int16, or int32 if need be; else float32."""
    if image.dtype.kind in "iu" and image.dtype.itemsize <= 4:
        return image
    if image.dtype.kind not in "iuf":
        raise ValueError(f"{path}: holds {image.dtype}; expected numbers; {_DOWNLOAD}")
    if not np.isfinite(image.sum(dtype=np.float64)):
        raise ValueError(f"{path}: holds NaN or Inf; expected finite intensities; {_DOWNLOAD}")
    low, high = image.min(), image.max()
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            whole = image.astype(dtype)
            return whole if np.array_equal(whole, image) else image.astype(np.float32)
    return image.astype(np.float32)


def _relabel(values: np.ndarray, labels: Mapping[int, int], path: Path) -> np.ndarray:
    """The task's values -> BraTS 2020's, uint8."""
    relabelled = np.zeros(values.shape, np.uint8)
    known = np.zeros(values.shape, bool)
    for value, target in labels.items():
        here = values == value
        known |= here
        relabelled[here] = target
    if not known.all():
        found = ", ".join(f"{v:g}" for v in np.unique(values[~known])[:10])
        raise ValueError(
            f"{path}: {np.count_nonzero(~known):,} voxel(s) have the label(s) {found}; expected "
            f"{', '.join(map(str, labels))}, as dataset.json says; {_DOWNLOAD}"
        )
    return relabelled
