"""Write BraTS cases in nnU-Net v2's raw form: links where possible, consecutive labels, regions, and the folds.

https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats3d.cases import (
    DATALIST_NAME,
    Case,
    case_to_item,
    check_labels,
    check_segmentations,
    find_cases,
    load_folds,
    require_sound_headers,
    whole_labels,
)
from brats3d.convert.conversion import check_output
from brats3d.errors import UsageError
from brats3d.files import (
    explain_full_disk,
    image_ending,
    link_or_copy,
    read_volume,
    remove_leftovers,
    whole_folder,
    writable_folder,
    write_json,
    write_nifti,
)
from brats3d.labels import (
    BRATS2023,
    MODALITIES,
    REGION_NAMES,
    REGIONS_TO_READ,
    LabelConvention,
    get_convention,
    order_modalities,
)

CHANNEL_NAMES = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}
"""Modality -> name of its channel. nnU-Net treats CT in a special way, and z-scores all other channels."""


@dataclass(frozen=True)
class NnunetDataset:
    """The data set that was written.

    Args:
        folder: its folder.
        training: number of cases in ``imagesTr``.
        test: number of cases in ``imagesTs``.
        folds: number of folds in ``splits_final.json``; 0 without training cases.
        convention: the label convention of ``labelsTr``.
        linked, written: number of files that are links, and that were written or copied.
    """

    folder: Path
    training: int
    test: int
    folds: int
    convention: str
    linked: int
    written: int

    def summary(self) -> list[str]:
        """Return lines to print: the counts, and what to do next in nnU-Net."""
        number, raw = int(self.folder.name[7:10]), shlex.quote(str(self.folder.parent))
        cases = f"{self.training} training and {self.test} test cases in {self.folder}"
        lines = [f"{cases}: {self.linked} files linked, {self.written} written; labels of {self.convention}"]
        if self.folds:
            lines += [
                f"Next: nnUNet_raw={raw} nnUNetv2_plan_and_preprocess -d {number}",
                f"Then copy splits_final.json, with {self.folds} folds, to {self.folder.name} in nnUNet_preprocessed",
            ]
        return lines


def convert_to_nnunet(
    src: str | Path,
    out: str | Path,
    datalist: str | Path | None = None,
    modalities: Sequence[str] = MODALITIES,
    label_convention: str | None = None,
    progress: bool = True,
) -> NnunetDataset:
    """Write a data set in nnU-Net's raw form. Cases with a segmentation, and their folds, are those of ``train``.

    Images and segmentations are links to the originals if all images are ``.nii``, or are ``.nii.gz``; others are
    written as ``.nii.gz``. nnU-Net needs consecutive labels: segmentations of a release without them, or of several
    releases, are written with BraTS 2023's. Cases without a segmentation become test cases, unless there is a datalist.

    Args:
        src: a folder as downloaded; see :func:`brats3d.cases.find_cases`.
        out: the folder to write, new or empty, such as ``nnUNet_raw/Dataset137_BraTS``.
        datalist: a datalist.json whose folds are used. Defaults to the one in ``src``, else the split by patient.
        modalities: the sequences to write, as channels in the order of :data:`brats3d.labels.MODALITIES`.
        label_convention: the meaning of the labels. Defaults to the one that the case names state.
        progress: show a progress bar.

    Raises:
        UsageError: if an argument is wrong.
        DataError: if the data set cannot be used for training. Nothing is written.
    """
    from tqdm import tqdm

    folder = _check_folder(src, out)
    listed = datalist is not None or Path(src, DATALIST_NAME).expanduser().is_file()
    found = [] if listed else find_cases(src, modalities)
    test = [case for case in found if not case.label]
    folds = load_folds(src, modalities, datalist, label_convention) if len(test) < len(found) or listed else []
    training = [case for fold in folds for case in fold]
    require_sound_headers([*training, *test], "cases")
    check_segmentations([case_to_item(case) for case in training])
    convention = _common_convention(training)
    endings = {image_ending(image.name) for case in (*training, *test) for image in case.images.values()}
    ending = ".nii" if endings == {".nii"} else ".nii.gz"
    remove_leftovers(folder.parent)
    with explain_full_disk(folder), whole_folder(folder) as hidden:
        for name in ("imagesTr", "labelsTr", *(["imagesTs"] if test else [])):
            (hidden / name).mkdir()
        links: list[bool] = []
        for case in tqdm([*training, *test], unit="case", disable=not progress):
            links += _write_case(case, hidden, ending, convention)
        content = dataset_json(len(training), order_modalities(modalities), convention, ending)
        write_json(hidden / "dataset.json", content)
        if folds:
            write_json(hidden / "splits_final.json", splits(folds))
    linked = sum(links)
    return NnunetDataset(folder, len(training), len(test), len(folds), convention.name, linked, len(links) - linked)


def dataset_json(cases: int, modalities: Sequence[str], convention: LabelConvention, ending: str) -> dict[str, Any]:
    """Return the content of nnU-Net's dataset.json, with overlapping regions from the outermost to the innermost.

    Args:
        cases: number of training cases.
        modalities: of the channels.
        convention: meaning of the labels, which must be consecutive. Those outside all regions are further classes.
        ending: of the files' names.
    """
    regions = {name: convention.regions[name] for name in REGIONS_TO_READ}
    inside = {value for values in regions.values() for value in values}
    others = {name: value for value, name in convention.labels.items() if value not in inside}
    labels = {REGION_NAMES[name]: list(values) for name, values in regions.items()}
    return {
        "channel_names": {str(i): CHANNEL_NAMES[modality] for i, modality in enumerate(modalities)},
        "labels": {"background": 0, **labels, **others},
        "regions_class_order": [*(convention.own_values[name] for name in regions), *others.values()],
        "numTraining": cases,
        "file_ending": ending,
    }


def splits(folds: Sequence[Sequence[Case]]) -> list[dict[str, list[str]]]:
    """Return the content of nnU-Net's splits_final.json: the training and validation cases of each fold."""
    names = [[case.case_id for case in fold] for fold in folds]
    return [
        {"train": sorted(name for k, others in enumerate(names) if k != fold for name in others), "val": sorted(val)}
        for fold, val in enumerate(names)
    ]


_FOLDER = re.compile(r"Dataset\d{3}_[\w-]+")


def _check_folder(src: str | Path, out: str | Path) -> Path:
    check_output(src, out)
    folder = Path(out).expanduser().absolute()
    if not _FOLDER.fullmatch(folder.name):
        raise UsageError("out", expected="a folder named like Dataset137_BraTS, as nnU-Net requires", found=str(out))
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError("out", expected="a new or an empty folder", found=str(out))
    writable_folder(folder.parent, "out")
    return folder


def _common_convention(cases: Sequence[Case]) -> LabelConvention:
    """Return the convention of all cases if its labels are consecutive, else BraTS 2023's."""
    names = {str(case.convention) for case in cases}
    convention = get_convention(names.pop()) if len(names) == 1 else BRATS2023
    return convention if sorted(convention.labels) == list(range(1, len(convention.labels) + 1)) else BRATS2023


def _write_case(case: Case, out: Path, ending: str, convention: LabelConvention) -> Iterator[bool]:
    """Write the files of a case; yield True for each link."""
    images = out / ("imagesTr" if case.label else "imagesTs")
    for channel, image in enumerate(case.images.values()):
        yield _write_image(image, images / f"{case.case_id}_{channel:04d}{ending}")
    if case.label:
        target = out / "labelsTr" / f"{case.case_id}{ending}"
        own = get_convention(str(case.convention))
        yield _write_image(case.label, target) if own is convention else _translate(case.label, own, convention, target)


def _write_image(source: Path, target: Path) -> bool:
    """Link a file, or write it in the target's form; return True for a link."""
    if image_ending(source.name) == image_ending(target.name):
        return link_or_copy(source, target)
    volume = read_volume(source)
    write_nifti(target, volume.values, volume.header.affine)
    return False


def _translate(source: Path, own: LabelConvention, convention: LabelConvention, target: Path) -> bool:
    """Write a segmentation with the labels of another convention; return False, since it is no link."""
    volume = read_volume(source)
    check_labels(volume.values, own, str(source))
    table = np.zeros(max(own.values) + 1, np.uint8)
    for value, translated in own.translate_to(convention).items():
        table[value] = translated
    write_nifti(target, table[whole_labels(volume.values).astype(np.uint8)], volume.header.affine)
    return False
