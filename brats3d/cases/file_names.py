"""Names of image files: the case, the sequence or segmentation, and the processing that they state. Nothing is opened.

BraTS's names are ``<case>_<sequence>``; other pipelines use other words for the sequences and append what they did to
the image. To accept another word, add it to one of the tables; docs/data.md lists them for users.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from brats3d.cases.text import readable_name
from brats3d.files import strip_image_ending

SEGMENTATION = "seg"


@dataclass(frozen=True)
class FileName:
    """The meaning of an image file's name.

    Args:
        case_id: the case; empty if the name does not state it (``t1.nii.gz``).
        kind: a modality under BraTS 2020's name, or ``seg``.
        word: the name of the sequence or segmentation as written, in lower case.
        form: words that describe the processing, in lower case, such as ``to_sri_brain``; empty if there are none.
    """

    case_id: str
    kind: str
    word: str
    form: str = ""


@lru_cache(maxsize=2**16)
def parse_name(name: str) -> FileName | None:
    """Return the meaning of an image file's name; None if it states no sequence and no segmentation."""
    stem = strip_image_ending(name)
    if stem == name:
        return None
    stem = readable_name(stem)
    if of_2015 := _NAME_OF_2015.fullmatch(stem):
        return _parse(of_2015["sequence"] or SEGMENTATION)
    bids = _BIDS.fullmatch(stem)
    return _parse_bids(bids) if bids else _parse(stem)


def parse_file_name(name: str) -> tuple[str, str] | None:
    """Return case identifier and modality (or ``seg``) from the name of an image file; None if it states no modality.

    The identifier is empty for a bare ``t1.nii.gz``.
    """
    parsed = parse_name(name)
    return (parsed.case_id, parsed.kind) if parsed else None


def may_be_segmentation(name: str) -> bool:
    """Return True if an image file that is not recognised could be a segmentation, of the tumour or of another part."""
    return re.search(r"seg|mask|label|tumou?r|lesion|truth|roi|gtv", name, re.IGNORECASE) is not None


def shows_other_than_tumour(name: str) -> bool:
    """Return True for segmentations of the brain, its tissues and its parts, and for predictions."""
    without_tumour = re.sub(r"brain[_-]?(?=tumou?r|lesion)", "", name, flags=re.IGNORECASE)
    return _NOT_TUMOUR.search(without_tumour) is not None


def form_rank(form: str) -> tuple[int, int]:
    """Return a sort key for copies of one image: without skull first, with skull last, else the least processed.

    Args:
        form: as in :class:`FileName`.
    """
    words = re.split(r"[_-]", form) if form else []
    skull = 0 if _WITHOUT_SKULL.search(form) else 2 if {"skull", "raw", "orig", "original"} & set(words) else 1
    return skull, len(words)


def without_processing(case_id: str) -> str:
    """Return a case identifier without words for the processing at its end: ``X`` for ``X_brain``."""
    return re.sub(rf"[_-](?:{_WORDS})$", "", case_id, flags=re.IGNORECASE)


def segmentation_rank(word: str) -> int:
    """Return a sort key for segmentations of a case: BraTS's ``seg``, manual, tumour, unspecified, automatic."""
    if word == SEGMENTATION:
        return 0
    return next(rank for rank, pattern in enumerate(_SEGMENTATION_RANKS, 1) if re.search(pattern, word))


# Sequences. A "-" stands for an optional separator: "t1-ce" is t1ce, t1_ce and t1-ce.
_SEQUENCES = {
    "t1ce": "t1c t1-ce t1-gd t1-gad t1-gado t1-gadolinium t1-post t1-contrast t1-km t1-ct ct1 ce-t1 ct1w ce-t1w gd-t1 "
    "t1wc t1w-ce t1w-gd t1w-gad t1w-post t1w-contrast t1-post-contrast t1w-post-contrast t1-postcontrast "
    r"t1\+c t1\+gd t1c\+ t1-enhanced t1-weighted-ce t1-weighted-gd t1-weighted-post",
    "t1": "t1 t1n t1w t1-pre t1w-pre t1-native t1-pre-contrast t1-precontrast t1-weighted",
    "t2": "t2 t2w t2-weighted",
    "flair": "flair fla fl t2f t2-flair t2w-flair t2-fla flair-t2 dark-fluid t2-dark-fluid t2-tirm-dark-fluid",
}

# Processing: words after the sequence, as regular expressions for their variants.
_SPACES = (
    r"(?:to|2|in)[_-]?(?:sri(?:24)?|mni(?:152)?|t1(?:ce|c|w|n|gd)?|t2w?|flair|atlas|brats|template)",
    r"r?sri(?:24)?(?:[_-]?space)?|mni(?:152)?|lps|ras|rai|r2s|atlas|iso|1mm(?:[_-]?iso)?|brats(?:[_-]?space)?",
    r"(?:co)?reg(?:istered)?(?:[_-]?(?:to|2)[_-]?[a-z0-9]+)?|registration|aligned|warped|resampled?|reoriented|cropped",
)
_PROCESSING = (
    *_SPACES,
    # brain extraction
    r"(?:de)?skull[_-]?strip(?:ped)?|stripped|ss|(?:no|without|with)[_-]?skull|skull|skullstripping",
    r"brain(?:[_-]?(?:only|extracted|extraction))?|(?:hd[_-]?)?bet|hdbet|synthstrip|masked|ssfinal",
    # intensity
    r"bias(?:[_-]?(?:corr|corrected|correction|field[_-]?corrected))?|bfc|n4(?:itk)?|n3|corr(?:ected)?|denoised?|restored?",
    r"norm(?:ali[sz]ed)?|normali[sz]ation|z[_-]?scored?|histmatch(?:ed)?|rescaled|standardi[sz]ed",
    # any
    r"pre[_-]?proc(?:essed)?|processed|pp|final|raw|orig(?:inal)?|unprocessed",
    r"(?:space|desc|res|acq|rec|run)-[a-z0-9]+",
)

# Segmentations.
_TUMOUR = r"(?:brain[_-]?)?(?:tumou?r|lesion|glioma|gbm)s?"
_ORIGIN = r"manual(?:ly)?(?:[_-]?corrected)?|corrected|expert|final|auto(?:mated|matic)?|approx|ground[_-]?truth|gt"
_SEGMENTATIONS = (
    SEGMENTATION,
    rf"(?:(?:{_ORIGIN})[_-])*(?:{_TUMOUR}[_-])?(?:seg(?:m(?:entations?|ented)?)?|labels?|dseg)(?:[_-](?:{_ORIGIN}))*",
    rf"(?:(?:{_ORIGIN})[_-])*{_TUMOUR}[_-]?(?:mask|roi)s?(?:[_-](?:{_ORIGIN}))*",
    r"(?:seg|segm|segmentation|label)[_-]?(?:mask|label|map)",
    r"ground[_-]?truth|truth|gt",
    r"glistrboost(?:[_-]?manuallycorrected)?",  # TCGA-GBM and TCGA-LGG on TCIA
)
_SEGMENTATION_RANKS = (
    r"manual|corrected|expert|truth|gt",
    rf"^(?!.*(?:auto|approx)).*{_TUMOUR}",
    r"^(?!.*(?:auto|approx|glistr))",
    "",
)

_WITHOUT_SKULL = re.compile(r"brain|bet|strip|(?:no|without)[_-]?skull|masked|(?:^|_)ss(?:_|$)")

_NOT_TUMOUR = re.compile(
    r"brain|skull|head|tissue|parenchyma|ventric|hippocamp|cerebell|vessel|aparc|aseg|parcell|synthseg|pred"
    r"|(?:^|[^a-z])(?:wm|gm|csf|bet|hdbet|fast|pve|eyes?|organs?)(?![a-z])",
    re.IGNORECASE,
)


def _alternatives(words: str) -> str:
    return "|".join(word.replace("-", "[_-]?") for word in sorted(words.split(), key=len, reverse=True))


_KINDS = {**{kind: _alternatives(words) for kind, words in _SEQUENCES.items()}, SEGMENTATION: "|".join(_SEGMENTATIONS)}


def _repeated(patterns: Sequence[str]) -> str:
    return rf"(?:{'|'.join(patterns)})(?:[_-](?:{'|'.join(patterns)}))*"


_WORDS = _repeated(_PROCESSING)

# The shortest identifier wins: X_T2_FLAIR is the FLAIR of X, not that of X_T2.
_NAMES = {
    kind: re.compile(
        rf"(?:(?P<case_id>.+?)[_-])??(?P<word>{names})"
        rf"(?:[_-](?P<form>{_repeated(_SPACES if kind == SEGMENTATION else _PROCESSING)}))?",
        re.IGNORECASE,
    )
    for kind, names in _KINDS.items()
}

_BARE_CONTRAST = re.compile(r"(pre|post)[_-]?t1w?", re.IGNORECASE)
"""After a case's name, pre and post are time points: ``P01_post_t1`` is the T1 of P01_post, beside ``P01_post_t2``."""

_NAME_OF_2015 = re.compile(r"VSD\.Brain.*\.(?:MR_(?P<sequence>T1c?|T2|Flair)|OT)\.\d+", re.IGNORECASE)

_BIDS = re.compile(
    r"(?P<case_id>sub-[^_]+(?:_ses-[^_]+)?)(?P<entities>(?:_(?!ses-)[a-z]+-[^_]+)+)_(?P<suffix>[a-z0-9]+)",
    re.IGNORECASE,
)
_BIDS_CONTRAST = re.compile(r"_(?:ce-(?!no|pre)|acq-(?:ce|gd|gad|post))", re.IGNORECASE)
_BIDS_TUMOUR = re.compile(rf"_(?:label|desc|seg)-[a-z0-9]*{_TUMOUR}", re.IGNORECASE)


def _parse(stem: str) -> FileName | None:
    if match := _BARE_CONTRAST.fullmatch(stem):
        return FileName("", "t1" if match[1].lower() == "pre" else "t1ce", stem.lower())
    found = []
    for kind, pattern in _NAMES.items():
        if match := pattern.fullmatch(stem):
            case_id = match["case_id"] or ""
            found.append(FileName(case_id, kind, match["word"].lower(), (match["form"] or "").lower()))
    if not found:
        return None
    name = min(found, key=lambda each: len(each.case_id))
    if name.kind != SEGMENTATION and re.fullmatch(_WORDS, name.case_id, re.IGNORECASE):  # brain_t1.nii.gz
        return FileName("", name.kind, name.word, "_".join(filter(None, (name.case_id.lower(), name.form))))
    return name


def _parse_bids(match: re.Match[str]) -> FileName | None:
    """Parse names such as ``sub-01_ses-02_ce-gadolinium_T1w``: only subject and session identify the case."""
    entities, suffix = match["entities"].lower(), match["suffix"].lower()
    if suffix in ("mask", "dseg", "roi"):
        if _BIDS_TUMOUR.search(entities):
            return FileName(match["case_id"], SEGMENTATION, f"tumor_{suffix}")
        described = re.search("_(?:label|desc)-", entities) or suffix != "dseg"
        return None if described else FileName(match["case_id"], SEGMENTATION, suffix)
    name = _parse(suffix)
    if name is None:
        return None
    kind = "t1ce" if name.kind == "t1" and _BIDS_CONTRAST.search(entities) else name.kind
    form = "_".join(part for part in entities[1:].split("_") if not part.startswith("ce-"))
    return FileName(match["case_id"], kind, suffix, form)
