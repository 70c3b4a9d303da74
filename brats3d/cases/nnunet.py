"""nnU-Net's raw form: ``imagesTr/<case>_0000.nii.gz``, ``labelsTr/<case>.nii.gz``, and a dataset.json above them.

Only dataset.json states which sequence a channel (``_0000``) is and what the labels mean.
https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from brats3d.cases.file_names import SEGMENTATION, parse_name
from brats3d.cases.text import readable_name
from brats3d.files import IMAGE_ENDINGS, read_json, strip_image_ending
from brats3d.labels import CONVENTIONS

DATASET_JSON = "dataset.json"


@dataclass(frozen=True)
class RawDataset:
    """The content of nnU-Net's dataset.json.

    Args:
        file: the dataset.json.
        channels: number of a channel, such as ``0000`` -> its modality.
        convention: the label convention; None if the names of the labels do not determine it.
        problem: the reason why the channels cannot be used; empty if they can.
    """

    file: Path
    channels: Mapping[str, str] = field(default_factory=dict, hash=False)
    convention: str | None = None
    problem: str = ""


@lru_cache(maxsize=2**16)
def split_channel(name: str) -> tuple[str, str] | None:
    """Return case identifier and channel of a file's name such as ``case_0000.nii.gz``; None for other names."""
    match = _CHANNEL.fullmatch(stem) if (stem := strip_image_ending(name)) != name else None
    return (readable_name(match["case_id"]), match["channel"]) if match else None


def raw_dataset_of(folder: str | Path) -> RawDataset | None:
    """Return the data set to which a folder of images belongs; None if there is no dataset.json above or in it."""
    for file in (Path(folder).parent / DATASET_JSON, Path(folder) / DATASET_JSON):
        try:
            return _read(file, file.stat().st_mtime_ns)
        except OSError:
            continue
    return None


def raw_modality_of(path: Path) -> tuple[str, str] | None:
    """Return case identifier and modality of an image in nnU-Net's form; None for other files."""
    parts = split_channel(path.name)
    dataset = raw_dataset_of(path.parent) if parts else None
    modality = dataset.channels.get(parts[1]) if dataset and parts else None
    return (parts[0], modality) if parts and modality else None


def raw_convention_of(labels: Path) -> str | None:
    """Return the label convention of a folder ``labelsTr`` beside ``imagesTr``; None for other folders."""
    raw = raw_dataset_of(labels) if labels.name.startswith("labels") else None
    return raw.convention if raw else None


def find_raw_label(image: str) -> str | None:
    """Return the segmentation of the case of ``imagesTr/<case>_0000.nii.gz``, if there is one in ``labelsTr``."""
    path = Path(image)
    if not path.parent.name.startswith("images"):
        return None
    labels = path.parent.with_name(f"labels{path.parent.name.removeprefix('images')}")
    stem = strip_image_ending(path.name).rpartition("_")[0]
    found = (file for ending in IMAGE_ENDINGS if (file := labels / f"{stem}{ending}").is_file())
    return next(map(str, found), None)


_CHANNEL = re.compile(r"(?P<case_id>.+)_(?P<channel>\d{4})")

_MEANINGS = (
    (r"edema|oedema|snfh|flair|whole|infiltrat|^(ed|wt)$", ("WT",)),
    (r"non_?enhanc", ("WT", "TC")),
    (r"enhanc|^(et|at)$", ("WT", "TC", "ET")),
    (r"core|necro|cyst|^(ncr|net|netc|nc|cc|tc)$", ("WT", "TC")),
    (r"background|cavity|resection|^rc$", ()),
)
"""Pattern of a label's name -> the regions that it belongs to. The first match counts: the hyperintensity around a
tumour is called non-enhancing too."""


@lru_cache(maxsize=64)
def _read(file: Path, mtime: int) -> RawDataset:
    try:
        content = read_json(file)
    except ValueError as error:
        return RawDataset(file, problem=f"{file} cannot be read as JSON ({error})")
    content = content if isinstance(content, dict) else {}
    key = "channel_names" if "channel_names" in content else "modality"
    names = content.get(key)
    names = names if isinstance(names, dict) else {}
    channels = {f"{number!s:>04}": modality for number, name in names.items() if (modality := _modality(str(name)))}
    problem = ""
    if not channels or len(set(channels.values())) < len(channels):
        problem = (
            f"{key} in {file} must name the sequence of each channel once, such as "
            f'{{"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}}; found {names!r:.100}'
        )
    return RawDataset(file, {} if problem else channels, _convention(content.get("labels")), problem)


def _modality(name: str) -> str | None:
    words = re.sub(r"[^a-z0-9]+|weighted|mri", " ", name.lower()).split()
    parsed = parse_name(f"{'_'.join(words)}.nii")
    return parsed.kind if parsed and parsed.kind != SEGMENTATION else None


def _convention(labels: Any) -> str | None:
    """Return the label convention that the names of the labels define.

    Args:
        labels: ``{"edema": 1, ...}`` or ``{"whole tumor": [1, 2, 3], ...}``; in nnU-Net v1, ``{"1": "edema", ...}``.
    """
    if not isinstance(labels, dict):
        return None
    regions: dict[str, set[int]] = {"WT": set(), "TC": set(), "ET": set()}
    values = {0}
    for key, value in labels.items():
        name, numbers = (value, [int(key)]) if key.isdecimal() and isinstance(value, str) else (key, value)
        numbers = numbers if isinstance(numbers, list) else [numbers]
        name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        known = next((inside for pattern, inside in _MEANINGS if re.search(pattern, name)), None)
        if known is None or not all(isinstance(number, int) for number in numbers):
            return None
        values.update(numbers)
        for region in known:
            regions[region].update(numbers)
    for convention in CONVENTIONS.values():
        same_regions = all(regions[region] == set(inside) for region, inside in convention.regions.items())
        if same_regions and values == convention.values:
            return convention.name
    return None
