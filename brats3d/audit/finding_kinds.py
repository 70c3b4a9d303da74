"""The kinds of findings: severity, advice for the user, and what ``--repair`` does about them.

A new check needs a kind in :data:`KINDS` and a few lines in the ``check_*`` module for such data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from brats3d.errors import ExplainedError

SEVERITIES = ("error", "warning", "note")
"""error: training fails or learns something wrong; warning: check the data; note: for information."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Args:
        severity: one of :data:`SEVERITIES`.
        advice: what the user can do, an imperative.
        repair: what ``--repair`` does; empty if no finding of this kind can be repaired.
    """

    severity: str
    advice: str
    repair: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # Names of files and folders
        "missing sequence": Kind("error", "add the files, or pass --modalities to work without this sequence"),
        "duplicate files": Kind("error", "keep one of them", "keeps the first, if all are identical"),
        "ambiguous segmentation": Kind("error", "rename the correct file as expected, and move the others away"),
        "case in several folders": Kind("error", "keep one of the folders", "keeps the first, if all are identical"),
        "unsupported release": Kind("error", "move these cases out of the folder"),
        "misnamed segmentation": Kind("warning", "rename it: other tools will not find it", "uses the expected name"),
        "other file names": Kind("note", "rename files that are read wrongly, or not at all; see docs/data.md"),
        "no segmentation": Kind("note", "nothing to do: training skips these cases, prediction uses them"),
        # Whole files
        "unreadable file": Kind("error", "download or convert the file again"),
        "identical sequences": Kind("error", "download the case again: two of its sequences are the same image"),
        "image in several cases": Kind("error", "download these cases again: the image belongs to only one of them"),
        "copied case": Kind("error", "remove it, or it may be in both training and test data", "keeps the first case"),
        # Headers
        "different shape": Kind("error", "download the case again, or resample the file onto the others' grid"),
        "different orientation": Kind("error", "reorient the file like the others", "reorients it, without loss"),
        "different affine": Kind(
            "error",
            "download the case again, or register the file to the others",
            "uses the others' affine, if the voxels confirm it",
        ),
        "no affine": Kind("warning", "restore the affine: the header does not say where the voxels lie"),
        "invalid sform": Kind(
            "warning", "store the affine of the qform in it: other programs use the sform", "stores it there"
        ),
        "one frame": Kind("note", "nothing to do: a fourth axis of length 1 is dropped", "stores the file as 3-D"),
        "sform and qform differ": Kind("warning", "make them equal: some programs use the sform, others the qform"),
        "voxel spacing": Kind("warning", "resample the case to 1 mm, as BraTS preprocessing does"),
        # Images
        "NaN or Inf": Kind("error", "convert the file again, or set these voxels to 0", "sets them to 0, if few"),
        "NaN background": Kind("warning", "set the background to 0: other programs do not accept NaN", "sets it to 0"),
        "constant image": Kind("error", "download or convert the file again: it shows no anatomy"),
        "no positive voxels": Kind("error", "shift the background to 0", "subtracts the background value"),
        "saturated": Kind("warning", "convert the file again with a wider range: its brightest voxels are clipped"),
        "negative intensities": Kind("warning", "check the file: BraTS images have no negative intensities"),
        "ringing": Kind("note", "nothing to do: interpolation leaves small negative values", "sets them to 0"),
        "non-zero background": Kind("warning", "shift the background to 0", "subtracts the background value"),
        "whole head": Kind("warning", "strip the skull: the networks are trained on brains with a background of 0"),
        "small brain": Kind("warning", "check the brain mask: part of the brain may be missing"),
        "outliers": Kind(
            "warning", "clip these voxels: they would dominate the normalisation of the image", "clips them"
        ),
        "noisy background": Kind("warning", "strip the skull, and set all voxels outside the brain to 0"),
        # Segmentations
        "unknown label convention": Kind("error", "pass --label_convention NAME"),
        "unexpected labels": Kind("error", "check the release; if all cases are from it, pass --label_convention NAME"),
        "one label": Kind("error", "provide segmentations with edema, core and enhancing tumour"),
        "edema inside the core": Kind("error", "check the release, and pass --label_convention NAME"),
        "doubtful edema": Kind("warning", "check whether all cases have the labels of the same release"),
        "region in no case": Kind(
            "warning", "check the meaning of the labels, unless tumours without the region are expected"
        ),
        "labelled brain": Kind("error", "provide the segmentation of the tumour"),
        "fractional labels": Kind(
            "error", "provide labels, not probabilities or interpolated labels", "rounds them, if nearly whole"
        ),
        "labels outside the brain": Kind("warning", "check the registration and skull stripping", "sets them to 0"),
        "no tumour": Kind("warning", "check that the segmentation is finished and belongs to this case"),
        "empty region": Kind("note", "nothing to do: not every tumour has every region, and scores allow for it"),
        "tiny components": Kind("note", "nothing to do: lesion-wise scores count them as lesions"),
        # Patients and folds
        "unreadable name mapping": Kind("error", "correct it or download it again: splits by patient need it"),
        "spreadsheet mapping": Kind("warning", "save it as CSV in the same folder: splits by patient need it"),
        "no name mapping": Kind("warning", "add the name_mapping.csv of the release: splits by patient need it"),
        "invalid datalist": Kind("error", "correct datalist.json, or delete it to split the cases by patient"),
        "unknown case in patients.csv": Kind("warning", "correct the case_id: the row has no effect"),
        "too few patients": Kind("warning", "add segmented cases before training; ignore this for a validation set"),
        "several releases": Kind("warning", "do not test on one release after training on the other; splits are safe"),
        "several time points": Kind("note", "nothing to do: splits keep all cases of a patient in one fold"),
    }
)


@dataclass(frozen=True)
class Finding:
    """A problem of a data set, or something worth knowing.

    Args:
        kind: a key of :data:`KINDS`.
        severity: one of :data:`SEVERITIES`.
        case_id: the case; empty for a finding about the whole data set.
        file: the file or folder, if the finding is about one.
        problem: what was found and what was expected, on one line.
        advice: what the user can do.
        repair: what ``--repair`` does; empty if it cannot repair this.
    """

    kind: str
    severity: str
    case_id: str
    file: Path | None
    problem: str
    advice: str
    repair: str


def make_finding(
    kind: str, case_id: str, file: Path | None, problem: str | Exception, repairable: bool = True
) -> Finding:
    """Return a finding with the severity and the advice of its kind.

    Args:
        kind: a key of :data:`KINDS`.
        case_id: the case; empty for the whole data set.
        file: the file or folder; its path is removed from the beginning of ``problem``.
        problem: what was found and what was expected; the advice of an error is replaced by that of the kind.
        repairable: False if ``--repair`` cannot repair this finding, though it repairs others of its kind.
    """
    about = KINDS[kind]
    text = " ".join(str(problem).split()).removeprefix(f"{file}: ")
    if isinstance(problem, ExplainedError) and problem.advice:
        text = text.removesuffix(f"; {problem.advice}")
    return Finding(kind, about.severity, case_id, file, text, about.advice, about.repair if repairable else "")
