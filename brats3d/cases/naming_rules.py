"""Naming rules of the BraTS releases: their case identifiers, patients, file names and label conventions.

To support another release, add a :class:`Layout`; words in file names are in :mod:`brats3d.cases.file_names`.
Sources: the pages of the releases, listed in ``data/README.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from brats3d.cases.case_folders import folder_case_id
from brats3d.cases.file_names import SEGMENTATION, parse_file_name, parse_name
from brats3d.cases.name_words import has_number, is_numbered, without_times
from brats3d.cases.nnunet import raw_dataset_of, raw_modality_of, split_channel
from brats3d.cases.text import readable_name
from brats3d.files import strip_image_ending
from brats3d.labels import CONVENTIONS


@dataclass(frozen=True)
class Layout:
    """The naming rules of one release.

    Args:
        name: the layout's name.
        case_id: matches the whole case identifier; ``patient`` may use its named groups.
        convention: name of the label convention that the release uses; None if the names leave it open.
        conventions: the possible label conventions if the names leave it open.
        patient: format of the patient identifier, from ``case_id`` and the groups of the pattern. All time points of a
            patient have the same identifier, and so do the cases of a patient in releases with the same numbering.
        file: format of a modality's file name without its ending.
        modalities: modality -> its suffix, if it differs from BraTS 2020's.
        refused: why cases of this release cannot be used, if they cannot.
    """

    name: str
    case_id: re.Pattern[str]
    convention: str | None = "brats2020"
    conventions: tuple[str, ...] = ()
    patient: str = "{case_id}"
    file: str = "{case_id}_{modality}"
    modalities: tuple[tuple[str, str], ...] = ()
    refused: str = ""

    def patient_of(self, case_id: str) -> str:
        """Return the patient identifier of a case."""
        match = self.case_id.fullmatch(case_id)
        return self.patient.format(**{"case_id": case_id, **(match.groupdict() if match else {})})

    def file_name(self, case_id: str, modality: str) -> str:
        """Return the name, without ending, of the file of a modality, or of the segmentation (``seg``)."""
        return self.file.format(case_id=case_id, modality=dict(self.modalities).get(modality, modality))


_NAMES_OF_2023 = (("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"), ("flair", "t2f"))

_since_2023 = partial(Layout, patient="BraTS-{task}-{number}", file="{case_id}-{modality}", modalities=_NAMES_OF_2023)

ANY_LAYOUT = Layout("brats2020", re.compile(r".+"))
"""File names as in BraTS 2020 with an unknown case identifier, such as ``TCGA-DU-7294_t1ce.nii.gz``."""

ANY_LAYOUT_OF_2023 = _since_2023(
    "brats2023",
    re.compile(r".+"),
    patient="{case_id}",
    convention=None,
    conventions=("brats2023", "brats2024-gli", "brats2024-ped"),
)
"""File names as in BraTS 2023 with an unknown case identifier. The meaning of the labels is unknown."""

LAYOUTS = (
    Layout(
        "brats2015",
        re.compile(r"brats_(?P<patient>(2013|tcia)_pat\d+)_\d+", re.IGNORECASE),
        convention="brats2015",
        patient="{patient}",
    ),
    Layout("brats2017", re.compile(r"Brats17_(?P<patient>.+)_\d+", re.IGNORECASE), patient="{patient}"),
    Layout("brats2018", re.compile(r"Brats18_(?P<patient>.+)_\d+", re.IGNORECASE), patient="{patient}"),
    Layout("brats2019", re.compile(r"BraTS19_(?P<patient>.+)_\d+", re.IGNORECASE), patient="{patient}"),
    Layout("brats2020", re.compile(r"BraTS20_(Training|Validation)_\d+")),
    # The adult gliomas of 2023 are those of 2021 with the same numbers, and 2024 continues the numbering.
    Layout("brats2021", re.compile(r"BraTS2021_(?P<number>\d+)"), patient="BraTS-GLI-{number}"),
    Layout(
        "brats-men-rt",
        re.compile(r"BraTS-MEN-RT-\d+-\d+"),
        convention=None,
        refused="meningioma radiotherapy (MEN-RT) has one sequence and one label, in the scanner's own space",
    ),
    # Time points after treatment (2024) count from 100, those before it (2023) from 0.
    _since_2023(
        "brats2024",
        re.compile(r"BraTS-(?P<task>GLI)-(?P<number>\d+)-[1-9]\d\d"),
        convention="brats2024-gli",
    ),
    # Paediatric cases have the same names in 2023 and 2024, but different label values.
    _since_2023(
        "brats2023",
        re.compile(r"BraTS-(?P<task>PED)-(?P<number>\d+)-\d+"),
        convention=None,
        conventions=("brats2023", "brats2024-ped"),
    ),
    _since_2023(
        "brats2023",
        re.compile(r"BraTS-(?P<task>GLI|SSA|MET|MEN)-(?P<number>\d+)-\d+"),
        convention="brats2023",
    ),
    ANY_LAYOUT,
)
"""All layouts. The first one whose ``case_id`` matches is used, so new releases go before the last."""


def layout_of(case_id: str, files: Iterable[str | Path] = ()) -> Layout:
    """Return the layout of a case; for an unknown identifier it depends on the names of the case's files.

    The images of nnU-Net's raw form have a layout of their own, whose label convention comes from dataset.json.
    """
    path_of = {str(file).rpartition(os.sep)[2]: file for file in files}
    layout = next((layout for layout in LAYOUTS if layout.case_id.fullmatch(case_id)), ANY_LAYOUT)
    channel = next(filter(split_channel, path_of), "")
    if channel and (raw := raw_dataset_of(Path(path_of[channel]).parent)):
        choices = () if raw.convention else tuple(CONVENTIONS)
        # Copies need names that leave the labels open: without dataset.json, the option must state their meaning.
        open_names = replace(layout, file=ANY_LAYOUT_OF_2023.file, modalities=ANY_LAYOUT_OF_2023.modalities)
        return replace(open_names, name="nnunet", convention=raw.convention, conventions=choices)
    return ANY_LAYOUT_OF_2023 if layout is ANY_LAYOUT and any(map(_has_suffix_of_2023, path_of)) else layout


def parse_path(path: Path) -> tuple[str, str] | None:
    """Return case identifier and modality (or ``seg``) of an image file from its name or nnU-Net's dataset.json."""
    return parse_file_name(path.name) or raw_modality_of(path)


def modality_of(path: str | Path) -> str | None:
    """Return the modality that the name of an image file states, under BraTS 2020's name; None if it states none.

    In one form of Kaggle's archive a folder replaces each file (``X_flair.nii/00000057_brain.nii``). If the name of
    the file states no modality, the name of its folder is used.
    """
    path = Path(path)
    parsed = parse_path(path) or parse_file_name(path.parent.name)
    return parsed[1] if parsed and parsed[1] != SEGMENTATION else None


def case_id_of(path: Path) -> str:
    """Return the case identifier that a file's name or its folder's name states; by default, that of the folder.

    A file of all sequences (4-D) states none of them: its name is the identifier if it has a number. In a folder of
    such files, that of the folder would be the same for all.
    """
    if parsed := parse_path(path) or parse_file_name(path.parent.name):
        return parsed[0] or folder_case_id(path.parent)
    stem = readable_name(strip_image_ending(path.name))
    return stem if is_numbered(stem) or has_number(without_times(stem)) else folder_case_id(path.parent)


def _has_suffix_of_2023(name: str) -> bool:
    """Return True for suffixes such as ``-t1n``: BraTS 2023 renamed the sequences and renumbered the labels."""
    parsed = parse_name(name)
    return parsed is not None and parsed.word in dict(_NAMES_OF_2023).values()
