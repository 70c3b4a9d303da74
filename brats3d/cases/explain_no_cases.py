"""Explain why no case was found in a folder, and what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brats3d.cases.file_names import SEGMENTATION, parse_name
from brats3d.cases.nnunet import DATASET_JSON, raw_dataset_of, split_channel
from brats3d.cases.other_formats import count_other_formats
from brats3d.errors import DataError
from brats3d.files import MAX_FOLDER_DEPTH, is_image_name, walk_folders


class NoCasesError(DataError):
    """A folder contains no BraTS case. ``is_known_form`` is true if it contains a known form of a data set."""

    is_known_form = False


def no_cases(root: Path) -> NoCasesError:
    """Walk through the folder and return the error that explains what it contains instead of BraTS cases."""
    found = _Contents(root)
    for folder, files in walk_folders(root):
        if form := other_form(folder, files):
            error = NoCasesError(root, form.problem, expected=form.expected, advice=form.advice)
            error.is_known_form = True
            return error
        found.add(files)
    return found.explain()


@dataclass(frozen=True)
class OtherForm:
    """A known form of a data set that must be converted or completed first.

    Args:
        problem: what the folder contains.
        expected: what it should contain.
        advice: what to do.
    """

    problem: str
    expected: str
    advice: str


def other_form(folder: str | Path, files: Sequence[str] | dict[str, list[str]]) -> OtherForm | None:
    """Return the form of a data set that must be converted or completed first; None for other folders.

    Args:
        folder: the folder.
        files: the names of its files.
    """
    if h5 := next(filter(_H5_SLICE.fullmatch, files), ""):
        problem = f"contains HDF5 slices such as {h5}: Kaggle's HDF5 form of BraTS 2020"
        return OtherForm(problem, "NIfTI files", _convert(folder))
    channels = [name for name in files if split_channel(name)]
    if channels and not any(map(parse_name, files)):
        return _unusable_channels(folder, channels)
    task = next((at for at in (Path(folder), Path(folder).parent) if (at / DATASET_JSON).is_file()), None)
    images = Path(folder).name.startswith("images") and any(map(is_image_name, files))
    if task and not any(map(parse_name, files)) and (images or (task == Path(folder) and (task / "imagesTr").is_dir())):
        return _task(task)
    if images and Path(folder).name in ("imagesTr", "imagesTs") and not any(map(parse_name, files)):
        example = next(filter(is_image_name, files))
        problem = (
            f"contains images such as {example} in {folder} without the {DATASET_JSON} that states their sequences"
        )
        advice = "download it again with this file, then run brats3d convert"
        return OtherForm(problem, f"{Path(folder).parent / DATASET_JSON} of the Decathlon's task", advice)
    return None


def _task(task: Path) -> OtherForm | None:
    """Return the Decathlon's form, unless the images have nnU-Net's channels."""
    names = [image.name for folder in task.glob("images*") for image in folder.glob("*")]
    if any(map(split_channel, names)) or not any(map(is_image_name, names)):
        return None  # explained when the folder of the images is visited
    problem = f"contains a task of the Medical Segmentation Decathlon ({task}): all sequences in one file"
    return OtherForm(problem, "one file per sequence", _convert(task))


def _convert(folder: str | Path) -> str:
    return f"convert them with brats3d convert {shlex.quote(str(folder))} OUT, then pass OUT"


def _unusable_channels(folder: str | Path, channels: Sequence[str]) -> OtherForm | None:
    """Return nnU-Net's raw form if its dataset.json is missing or does not name the sequences."""
    raw = raw_dataset_of(folder)
    if raw and not raw.problem:
        return None
    example = '{"channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}}, in the order of your channels'
    problem = f"contains channels without names, such as {channels[0]} in {folder}: nnU-Net's raw form"
    above = Path(folder).parent if Path(folder).name.startswith("images") else Path(folder)
    expected = f"{above / DATASET_JSON} with {example}"
    if raw:
        return OtherForm(f"{problem}; {raw.problem}", "", f"correct {raw.file}")
    return OtherForm(problem, expected, "copy the dataset.json of the data set there, or write one with these lines")


@dataclass
class _Contents:
    root: Path
    n_files: int = 0
    example: str = ""
    others: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)

    def add(self, files: dict[str, list[str]]) -> None:
        self.n_files += len(files)
        self.example = self.example or next(iter(files), "")
        for name in files:
            if is_image_name(name):
                parsed = parse_name(name)
                (self.named if parsed and parsed.kind != SEGMENTATION else self.images).append(name)
            else:
                self.others.append(name)

    def explain(self) -> NoCasesError:
        return NoCasesError(
            self.root,
            f"no BraTS case here or up to {MAX_FOLDER_DEPTH} folders below: found {self._found()}",
            expected="folders such as BraTS20_Training_001 with BraTS20_Training_001_t1ce.nii[.gz], ...",
            advice="; ".join(self._advice()),
        )

    def _found(self) -> str:
        formats = count_other_formats(self.others)
        parts = [f"{_many(names)}{form.name} such as {names[0]}" for form, names in formats.items()]
        if self.images:
            parts.insert(0, f"{len(self.images):,} image(s) whose names state no sequence, such as {self.images[0]}")
        if self.named:
            parts.insert(0, f"{len(self.named):,} image(s) such as {self.named[0]}, but no two sequences of one case")
        if not parts and self.n_files:
            parts = [f"{self.n_files:,} file(s) such as {self.example}"]
        return ", ".join(parts) or "no file"

    def _advice(self) -> Iterator[str]:
        if self.named:
            yield "put the files of a case in one folder, under one name: X_t1, X_t1ce, X_t2 and X_flair"
        elif self.images:
            yield (
                "name the files after their sequences, such as X_t1.nii.gz, X_t1ce.nii.gz, X_t2.nii.gz and "
                "X_flair.nii.gz (docs/data.md lists other names that are read)"
            )
        else:
            formats = count_other_formats(self.others)
            if not formats:
                yield "pass the folder that contains them"
            for form in formats:
                yield f"{form.name} are not read: {form.advice}"


def _many(names: Sequence[str]) -> str:
    return f"{len(names):,} " if len(names) > 1 else ""


_H5_SLICE = re.compile(r"volume_\d+_slice_\d+\.h5")
