"""Domain facts: how each BraTS release names its cases and files, and what follows from a name. Nothing is opened.

Sources: the releases' own pages, listed in ``data/README.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from brats3d.labels import MODALITIES, MODALITY_ALIASES

SEGMENTATION = "seg"


@dataclass(frozen=True)
class Layout:
    """How one release names its cases, and what follows from that.

    Args:
        name: the layout's name.
        case_id: matches the whole of a case's identifier; its named groups serve ``patient``.
        convention: name of the label convention that the release uses; None where the names do not decide.
        conventions: those that it may be where the names do not decide.
        patient: the patient's identifier, made from ``case_id`` and the groups of the pattern. It is the same for all
            time points of a patient, and for one patient's names in releases that number alike.
        file: name of a modality's file without its suffix.
        modalities: modality -> its name in the file's name, for those that differ from BraTS 2020's.
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
        """The patient's identifier, from a case's."""
        match = self.case_id.fullmatch(case_id)
        return self.patient.format(**{"case_id": case_id, **(match.groupdict() if match else {})})

    def file_name(self, case_id: str, modality: str) -> str:
        """A file's name without its suffix; ``seg`` is the segmentation's modality."""
        return self.file.format(case_id=case_id, modality=dict(self.modalities).get(modality, modality))


_NAMES_OF_2023 = (("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"), ("flair", "t2f"))

_since_2023 = partial(Layout, patient="BraTS-{task}-{number}", file="{case_id}-{modality}", modalities=_NAMES_OF_2023)

ANY_LAYOUT = Layout("brats2020", re.compile(r".+"))
"""BraTS 2020's form of file name under any other identifier, such as ``TCGA-DU-7294_t1ce.nii.gz``."""

ANY_LAYOUT_OF_2023 = _since_2023(
    "brats2023",
    re.compile(r".+"),
    patient="{case_id}",
    convention=None,
    conventions=("brats2023", "brats2024-gli", "brats2024-ped"),
)
"""BraTS 2023's form of file name under any other identifier: what the labels mean is not known."""

LAYOUTS = (
    Layout("brats2017", re.compile(r"Brats17_(?P<patient>.+)_\d+", re.IGNORECASE), patient="{patient}"),
    Layout("brats2018", re.compile(r"Brats18_(?P<patient>.+)_\d+", re.IGNORECASE), patient="{patient}"),
    Layout("brats2019", re.compile(r"BraTS19_(?P<patient>.+)_\d+", re.IGNORECASE), patient="{patient}"),
    Layout("brats2020", re.compile(r"BraTS20_(Training|Validation)_\d+")),
    # 2023's adult gliomas are 2021's under the same numbers, and 2024's go on with them: one patient.
    Layout("brats2021", re.compile(r"BraTS2021_(?P<number>\d+)"), patient="BraTS-GLI-{number}"),
    Layout(
        "brats-men-rt",
        re.compile(r"BraTS-MEN-RT-\d+-\d+"),
        convention=None,
        refused="meningioma radiotherapy (MEN-RT) has one sequence and one label, in the scanner's own space",
    ),
    # After treatment (2024) the time points are counted from 100, before it (2023) from 0.
    _since_2023(
        "brats2024",
        re.compile(r"BraTS-(?P<task>GLI)-(?P<number>\d+)-[1-9]\d\d"),
        convention="brats2024-gli",
    ),
    # 2023 and 2024 name children's cases alike and number their labels differently.
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
"""Every layout that is understood; the first whose ``case_id`` matches decides. New releases go before the last."""


def layout_of(case_id: str, files: Iterable[str | Path] = ()) -> Layout:
    """The layout that a case's identifier follows; an unknown identifier's follows from the names of its files."""
    found = next((layout for layout in LAYOUTS if layout.case_id.fullmatch(case_id)), ANY_LAYOUT)
    return ANY_LAYOUT_OF_2023 if found is ANY_LAYOUT and any(map(names_of_2023, files)) else found


def names_of_2023(path: str | Path) -> bool:
    """Whether a file's modality is written as since BraTS 2023 (``-t1n``, not ``_t1``), when labels were renumbered."""
    match = _FILE.fullmatch(Path(path).name)
    return match is not None and match["modality"].lower() in dict(_NAMES_OF_2023).values()


def parse_file_name(name: str) -> tuple[str, str] | None:
    """Case identifier and modality (or ``seg``) that the name of a NIfTI file states; None if it states none.

    A bare ``t1.nii.gz`` states no case: the identifier is empty then.
    """
    match = _FILE.fullmatch(name)
    return (match["case_id"] or "", _standard(match["modality"])) if match else None


def modality_of(path: str | Path) -> str | None:
    """The modality that a file's name states, under BraTS 2020's name, or None if it states none.

    One form of Kaggle's archive has a folder in each file's place (``X_flair.nii/00000057_brain.nii``): where the
    file's own name says nothing, its folder's does.
    """
    path = Path(path)
    parsed = parse_file_name(path.name) or parse_file_name(path.parent.name)
    return parsed[1] if parsed and parsed[1] != SEGMENTATION else None


def case_id_of(path: Path) -> str:
    """Return the case identifier that a file's name or its folder's name states; by default, the folder's name."""
    parsed = parse_file_name(path.name) or parse_file_name(path.parent.name)
    return (parsed[0] if parsed else "") or path.parent.name


_NAMES = "|".join((*MODALITIES, *MODALITY_ALIASES, SEGMENTATION))

_FILE = re.compile(rf"((?P<case_id>.+)[_-])?(?P<modality>{_NAMES})\.nii(\.gz)?", re.IGNORECASE)


def _standard(modality: str) -> str:
    return MODALITY_ALIASES.get(modality.lower(), modality.lower())
