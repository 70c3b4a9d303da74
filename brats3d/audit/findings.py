"""What can be wrong with a data set: a table of kinds, and the record of one finding. Facts only.

What to do about each kind, and what ``--repair`` does about it, stands here alone; the three ``*_checks`` modules find
them in files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

SEVERITIES = ("error", "warning", "note")
"""error: training fails or learns something wrong; warning: look at it; note: a fact about the data."""


@dataclass(frozen=True)
class Kind:
    """One thing that can be wrong.

    Args:
        severity: one of :data:`SEVERITIES`.
        todo: what to do about it by hand.
        repair: what ``--repair`` does about it, where it can; empty if it never can.
    """

    severity: str
    todo: str
    repair: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # names
        "missing": Kind("error", "add the files, or leave the sequence out everywhere with --modalities"),
        "double": Kind("error", "keep one of them", "keeps the first of files that are equal"),
        "ambiguous": Kind("error", "keep the right one under the expected name"),
        "case twice": Kind("error", "keep one of the folders", "keeps the first of folders that are equal"),
        "unusable": Kind("error", "move it out of the folder"),
        "misnamed": Kind("warning", "rename it: brats3d reads it, other tools do not", "gives it the proper name"),
        "no segmentation": Kind("note", "nothing: training leaves the case out, predict takes it"),
        "name mapping": Kind("error", "download the mapping again, or correct it: splits group patients by it"),
        "releases without mapping": Kind(
            "warning", "put the mapping that came with them beside the cases, so that splits group patients by it"
        ),
        "datalist": Kind("error", "correct datalist.json, or remove it to have the cases split by patient"),
        "too few patients": Kind(
            "warning", "nothing where the folder is for validation; add cases with segmentations to train on it"
        ),
        "spreadsheet": Kind("warning", "save the mapping as CSV beside it, so that splits can group patients by it"),
        # files
        "unreadable": Kind("error", "download or convert the file again"),
        "one sequence twice": Kind("error", "download the case again: two sequences are one file"),
        "same file": Kind("error", "download both cases again: it can be right in one of them only"),
        "same case": Kind("error", "remove one of them, or it is trained on and tested on", "keeps the first of them"),
        # headers
        "shape": Kind("error", "download the case again, or resample the file onto the others' grid"),
        "orientation": Kind("error", "bring all files into one orientation", "reorients it; no voxel is changed"),
        "affine": Kind(
            "error",
            "download the case again, or register the file to the others",
            "takes the others' header, if the voxels show that the images lie on each other",
        ),
        "header lost": Kind("warning", "restore the affine: the file does not say where its voxels lie"),
        "two affines": Kind("warning", "make sform and qform agree: programs differ in which of them they read"),
        "spacing": Kind("warning", "resample the case to 1 mm, as BraTS's preprocessing does"),
        # images
        "NaN or Inf": Kind("error", "convert the file again, or set these voxels to 0", "sets them to 0, where few"),
        "constant": Kind("error", "download or convert the file again: it shows nothing"),
        "nothing above 0": Kind(
            "error",
            "make the background 0 and the brain positive: what is not above 0 is taken for background",
            "subtracts the background's value",
        ),
        "saturated": Kind("warning", "convert the file again with a wider range: its brightest parts are cut off"),
        "negative": Kind("warning", "look at the file: a network trained on BraTS expects intensities above 0"),
        "ringing": Kind("note", "nothing: interpolation leaves such values", "sets them to 0"),
        "background": Kind("warning", "subtract the background's value", "subtracts the background's value"),
        "noisy background": Kind("warning", "remove the skull, and set everything outside the brain to 0"),
        # segmentations
        "label convention": Kind("error", "pass --label_convention NAME"),
        "label values": Kind("error", "check which release the case is of; --label_convention NAME says it"),
        "fractional labels": Kind("error", "give the segmentation itself", "rounds labels that nearly are whole"),
        "labels outside the brain": Kind(
            "warning", "look at the case: registration or skull-stripping", "removes them"
        ),
        "no tumour": Kind("warning", "make sure that the segmentation is the case's, and finished"),
        "empty region": Kind("note", "nothing: not every tumour enhances; scores follow BraTS's rule for it"),
        "tiny components": Kind("note", "nothing: they count in lesion-wise scores"),
        # patients
        "other release": Kind("warning", "splits group them; never test on one release after training on the other"),
        "time points": Kind("note", "nothing: splits group them by patient"),
    }
)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or worth knowing.

    Args:
        kind: a key of :data:`KINDS`.
        severity: one of :data:`SEVERITIES`.
        case_id: whose; empty for the whole data set.
        file: the file or folder, if it is about one.
        what: found and expected, on one line.
        todo: what to do.
        repair: what ``--repair`` does about it; None if it cannot.
    """

    kind: str
    severity: str
    case_id: str
    file: Path | None
    what: str
    todo: str
    repair: str | None


def make_finding(kind: str, case_id: str, file: Path | None, what: str, repairable: bool = True) -> Finding:
    """A finding of that kind; ``repairable=False`` where this one cannot be mended though others of the kind can."""
    facts = KINDS[kind]
    what = what.removeprefix(f"{file}: ")
    return Finding(kind, facts.severity, case_id, file, what, facts.todo, facts.repair or None if repairable else None)
