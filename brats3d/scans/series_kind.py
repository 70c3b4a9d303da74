"""Tell the sequences of an MR study apart, from what the headers of DICOM series state or from names of files.

Words decide first, as a technician wrote them: series description, protocol, the scanner's name of the sequence. Where
they do not, echo, repetition and inversion times do. Their ranges are wide ones around those that textbooks give, such
as Bitar et al., MR pulse sequences: what every radiologist wants to know but is afraid to ask, RadioGraphics 2006.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from brats3d.cases import SEGMENTATION, modality_of, parse_file_name
from brats3d.files import strip_image_ending
from brats3d.scans.dicom_headers import SeriesTags


@dataclass(frozen=True)
class SeriesKind:
    """The sequence that a series shows.

    Args:
        modality: ``"t1"``, ``"t1ce"``, ``"t2"`` or ``"flair"``; None if it is none of them.
        reason: why it is none of them, in a few words.
    """

    modality: str | None
    reason: str = ""


def kind_of_series(tags: SeriesTags) -> SeriesKind:
    """Return what a DICOM series shows."""
    if tags.modality != "MR":
        return SeriesKind(None, f"{tags.modality or 'no modality'}, not MR")
    if "MR Image Storage" not in tags.object_kind:
        return SeriesKind(None, f"no MR image ({tags.object_kind.removesuffix(' Storage')})")
    for value in tags.image_type:
        if reason := _reason(_IMAGE_TYPES, value):
            return SeriesKind(None, reason)
    for text in tags.words:
        kind = _kind_of_words(text)
        if kind.reason or kind.modality:
            break
    else:
        kind = _kind_of_times(tags)
    if kind.modality == "t1" and _has_contrast(tags):
        return SeriesKind("t1ce")
    return kind


def kind_of_name(name: str) -> SeriesKind:
    """Return what an image file shows, from its name.

    Args:
        name: a name that :mod:`brats3d.cases` reads, or that of a converted series, such as ``003_AX_T1_POST.nii.gz``.
    """
    stem, parsed = strip_image_ending(name), parse_file_name(name)
    if (parsed and parsed[1] == SEGMENTATION) or _MASK.search(stem.lower()):
        return SeriesKind(None, "segmentation or mask")
    kind = kind_of_series(SeriesTags(words=(stem,)))
    modality = modality_of(name)
    if modality == "flair" and kind.modality in ("t1", "t1ce"):  # "T1 FLAIR"
        return kind
    return SeriesKind(modality) if modality and (kind.modality or kind.reason == _NOT_STATED) else kind


def is_original(tags: SeriesTags) -> bool:
    """Return True unless a series was computed from another one, such as a reformatted volume."""
    return not {"DERIVED", "SECONDARY", "MPR", "REFORMATTED"} & set(tags.image_type)


_SKIPPED = {
    "localiser": r"loc|locali[sz]ers?|scout|survey|(?:3|tri)[\W_]*pl\w*|planning|aahead|scano(?:gram)?|topogram",
    "diffusion": (
        r"dwi?|diff(?:usion)?|dti|e?adc|trace\w*|tensor|(?:col(?:our|or)?)?fa(?![\W_]*\d)|ivim|dki|b[\W_]*[1-9]\d?[05]0"
    ),
    "perfusion": r"perf(?:usion)?|pwi|dsc|dce|p?c?asl|r?cb[vf]|mtt|ttp|tmax|ktrans|dyn(?:amic)?",
    "projection": r"mip|minip|proj(?:ection)?s?|vrt?|volume[\W_]*rend\w*",
    "subtraction": r"subtr\w*|subs?(?=[\W_]*$)|subs?[\W_]+t1",
    "susceptibility": r"swi?|swan|susc\w*|gre[\W_]*t2|t2w?[\W_]*(?:\*|star|gre|ffe|fl[23]d|hemo)\w*|hemo\w*|venobold",
    "angiography": r"mr[av]|tof|angio\w*|veno(?:gr)?\w*|pca?|inhance",
    "functional imaging": r"f?mri?[\W_]*rest\w*|rest(?:ing)?[\W_]*state|bold|fmri|task",
    "echo-planar imaging": r"ep2d\w*|epi",
    "spectroscopy": r"spectr\w*|mrs|csi|svs|press",
    "map or calibration": r"(?:t[12][\W_]*)?map(?:s|ping)?|calib\w*|cal|asset|shim|field[\W_]*map|phase|b[01][\W_]*map",
    "picture or report": r"screen\w*|capture\w*|reports?|results?|summary|key[\W_]*images?|presentation|dose",
    "another part of the body": r"[ctl]?[\W_]?spine|cervical|thoracic|lumbar|orbits?|iacs?|pituitary|sella|tmj",
    "short-tau inversion recovery": r"stir",
}
"""Reason why a series is skipped -> pattern of the words that indicate it."""

_MASK = re.compile(r"(?<![a-z])(?:seg(?:m\w*)?|labels?|rois?|gtv)(?![a-z])|mask(?!ed)")
"""Words of segmentations and masks in the names of image files."""

_IMAGE_TYPES = {
    "localiser": r"LOCALI[SZ]ER",
    "diffusion": r"E?ADC|FA|TRACEW?|DIFFUSION|DWI|TENSOR",
    "perfusion": r"PERFUSION|R?CB[VF]|MTT|TTP|TMAX|ASL",
    "projection": r"PROJECTION IMAGE|MIP|MINIP|MNIP|CSA MIP",
    "subtraction": r"SUB(?:TRACT(?:ION|ED)?)?",
    "map or calibration": r"(?:.* )?MAP|PHASE|P|REAL|R|IMAGINARY|I",
    "mosaic": r"MOSAIC",
    "picture or report": r"SCREEN ?S(?:AVE|HOT)|CSA REPORT|CSA RESULT",
}
"""The same for values of DICOM's image type, each of which must match as a whole."""

_GLUED = r"(?:(?<![a-z0-9])|(?<=ax)|(?<=sag)|(?<=cor)|(?<=tra)|(?<=obl)|(?<=[23]d)|(?<=iso)|(?<=(?<![a-z])[se]))"
"""Prefixes that may directly precede t1 or t2: a plane, as in ``AXT1``, or Philips's s or e, as in ``sT1W_3D``."""

_T1 = re.compile(rf"{_GLUED}t1(?!\d)|mp[\W_]*rage|bravo|spgr|vibe|tfl3d")
_T2 = re.compile(rf"{_GLUED}t2(?!\d)")
_FLAIR = re.compile(r"flair|da(?:rk)?[\W_]*fl|tirm.*dark")
_PROTON_DENSITY = re.compile(r"(?<![a-z])(?:pdw?|proton\w*)(?![a-z])")

_TREATED = r"(?![\W_]*(?:op|surg|treat|rt|radi|chemo|tx|resect|biops))"
"""Words after pre or post that refer to the treatment, not to the contrast agent."""

_WITHOUT_CONTRAST = re.compile(
    rf"(?<![a-z])(?:pre{_TREATED}(?![a-z])|pre[\W_]*(?:gd|gad|contrast)|non?[\W_]*(?:gd|gad|contrast|enh)|without|w/?o"
    r"|unenhanced|plain|nativ|native|ohne|vor|[ov]\.?[\W_]*km|sans|zonder)(?![a-z])"
    r"|(?<![a-z])(?:(?:pre|non?|sin|sem|senza)[\W_]*(?:gad|contrast|mdc)|c-(?![a-z\d]))"
)
_WITH_CONTRAST = re.compile(
    rf"(?<![a-z])(?:ce|gd|c\+|m?km|contrast[eo]?|mdc|inj|enh|enhanced|with|w/|post{_TREATED}|postgd)(?![a-z])"
    rf"|t1w?[\W_]*(?:post{_TREATED}|c[em]?|gd)(?![a-z])"
    r"|(?<![a-z])(?:gad|post[\W_]*(?:gad|contrast)|kontrast|dotarem|clariscan|magnevist|prohance|multihance)"
    r"|\+[\W_]*(?:c[em]?|gd|gad\w*|km)(?![a-z])|\+(?![\W_]*[a-z])"
)
_WITH_AND_WITHOUT = re.compile(
    r"(?<![a-z\d])(?:(?:w|with)[\W_]*(?:and)?[\W_]*(?:w/?o|without)|(?:w/?o|without)[\W_]*(?:and)?[\W_]*(?:w|with)"
    r"|pre[\W_]*(?:and)?[\W_]*post)(?![a-z])"
)
"""Words of a protocol that has both, such as ``BRAIN W/WO CONTRAST``: they say nothing about one series."""

_NO_AGENT = re.compile(r"(?:no|none|n/?a|n|without|0|-|unknown|nil)(?:\W.*)?", re.IGNORECASE)


_NOT_STATED = "its sequence is not stated"


def _reason(reasons: Mapping[str, str], value: str) -> str:
    return next((reason for reason, pattern in reasons.items() if re.fullmatch(pattern, value)), "")


def _kind_of_words(text: str) -> SeriesKind:
    """Return what a description says; neither modality nor reason if it says nothing."""
    text = text.lower()
    for reason, pattern in _SKIPPED.items():
        if re.search(rf"(?<![a-z])(?:{pattern})(?![a-z])", text):
            return SeriesKind(None, reason)
    is_t1, is_t2, is_flair = (pattern.search(text) is not None for pattern in (_T1, _T2, _FLAIR))
    if is_flair and not (is_t1 and not is_t2):
        return SeriesKind("flair")
    if is_t1 != is_t2:
        return SeriesKind("t1" if is_t1 else "t2")  # "T1 FLAIR" is GE's name of a T1-weighted sequence
    return SeriesKind(None, "proton density" if _PROTON_DENSITY.search(text) and not is_t2 else "")


def _kind_of_times(tags: SeriesTags) -> SeriesKind:
    """Return what echo, repetition and inversion times say."""
    echo, repetition, inversion = tags.echo_ms, tags.repetition_ms, tags.inversion_ms or 0
    if "EP" in tags.scanning:
        return SeriesKind(None, "echo-planar imaging")
    if echo is None or repetition is None:
        return SeriesKind(None, _NOT_STATED)
    if inversion >= 1500 and echo >= 70:
        return SeriesKind("flair")
    if inversion < 300 and repetition >= 2000:
        return SeriesKind("t2") if echo >= 70 else SeriesKind(None, "proton density or another weighting")
    is_gradient_echo = "GR" in tags.scanning and "SE" not in tags.scanning
    if echo <= (10 if is_gradient_echo else 30) and (repetition <= 1200 or (500 <= inversion <= 1400)):
        return SeriesKind("t1")
    return SeriesKind(None, "its sequence is not clear")


def _has_contrast(tags: SeriesTags) -> bool:
    """Return True if a T1-weighted series was acquired after the contrast agent was given.

    The words decide first: some scanners keep the agent's tag from the start of the study.
    """
    for text in map(str.lower, tags.words):
        if _WITH_AND_WITHOUT.search(text):
            continue
        if _WITHOUT_CONTRAST.search(text):
            return False
        if _WITH_CONTRAST.search(text):
            return True
    return bool(tags.contrast) and not _NO_AGENT.fullmatch(tags.contrast)
