"""Words in the names of cases and folders that state a time, a processing step or a place, but no patient."""

from __future__ import annotations

import re
from functools import lru_cache

TIMES = (
    r"baseline|bl|follow[ _.-]?ups?|fu|time[ _.-]?points?|tp|sessions?|sess?|visits?|days?|weeks?|wks?|months?|mon|mo|"
    r"years?|yrs?|date|initial|first|second|third|latest|last|early|late|before|after|prior|current|diagnosis|dx|"
    r"recurren(?:ce|t)|progression|relapse|nadir|(?:pre|post|intra)(?:[ _.-]?(?:operat(?:ive|ion)|op|surg(?:ery|ical)|"
    r"resection|treatment|treat|therapy|tx|rt|radio(?:therapy)?|radiation|chemo|biopsy))?|"
    r"(?<![^\W_])\d+(?:days?|weeks?|wks?|months?|mo|years?|yrs?|[dmwy]|st|nd|rd|th)|verlauf[^\W\d_]*|kontrolle|pr(?:ä|ae)|suivi|apr[eè]s"
)
"""Words for a time point; a number may follow: ``FU016d``, ``ses-01``, ``week-044-1``."""

COUNTED = (
    r"scans?|exams?|examinations?|stud(?:y|ies)|runs?|rep|repeat|retest|rescan|series|acq|mri?s?|mrt|irm|images?|imgs?"
)
"""Words that are numbered within a patient as well as across patients."""

STEPS = (
    r"n[34](?:itk|bfc|bias)?|bias(?:field)?(?:[ _.-]?corr(?:ect(?:ed|ion))?)?|bfc|corr(?:ected)?|(?:hd[ _.-]?)?bet\d?|"
    r"brain(?:[ _.-]?(?:extract(?:ed|ion)|only|masked))?|ss|skull[ _.-]?strip(?:ped)?|strip(?:ped)?|norm(?:ali[sz]ed)?|"
    r"z[ _.-]?scored?|standardi[sz]ed|whitestripe|nyul|hist(?:[ _.-]?match(?:ed)?)?|(?:co)?reg(?:istered)?|aligned|"
    r"warped|resampled?|resliced|iso(?:tropic)?|(?<!\d)\d(?:\.\d)?mm|sri(?:24)?|mni(?:152)?|atlas|native|space|denoised?|nlm|"
    r"smooth(?:ed)?|filtered|blur(?:red)?|nois[ey]|aug(?:mented|mentation)?|flip(?:ped)?(?:[ _.-]?(?:lr|ud|[xyz]))?|"
    r"rot(?:ated?)?|mirror(?:ed)?|elastic|scaled?|shift(?:ed)?|gamma|crop(?:ped)?|pad(?:ded)?|defaced?|masked|clean(?:ed)?|"
    r"anon(?:ymi[sz]ed)?|raw|orig(?:inal)?|(?:pre|post)?[ _.-]?proc(?:essed)?|converted|nifti|nii|dicom|dcm|anat|final|"
    r"cop(?:y|ie)(?:[ _]of)?|kopie|backup|bak|dup(?:licate)?|old|new|manual|edited|version|ver|rev|synth(?:etic)?|"
    r"ax(?:ial)?|sag(?:ittal)?|cor(?:onal)?|(?<!\d)[123]d|(?<!\d)[137]t|\(\d+\)"
)
"""Words for a step of processing or a copy; a number may follow: ``N4``, ``registered``, ``aug_2``, ``(1)``."""

SITES = (
    r"sites?|cent(?:er|re)s?|hosp(?:ital)?s?|inst(?:itut(?:ion|e))?s?|clinics?|cohorts?|batch(?:es)?|folds?|parts?|sets?|"
    r"groups?|scanners?|vendors?|datasets?|tasks?|releases?|challenges?|chunks?|disks?|phases?|exp(?:eriment)?s?|proj(?:ect)?s?"
)
"""Words for a site or another group of patients; its number or letter may follow: ``Site3``, ``batch_2``."""

COLLECTIONS = (
    r"data|patients?|pat|subjects?|subj|sub|cases?|persons?|participants?|ids?|train\w*|valid\w*|val|test\w*|images\w*|"
    r"labels\w*|brats\w*|hgg|lgg|gbm|glio\w*|astro\w*|oligo\w*|mening\w*|mets?|metast\w*|tumou?rs?|lesions?|brains?|all|"
    r"unknown|inputs?|outputs?|home|users?|root|te?mp|work\w*|mnt|media|scratch|nas|downloads?|desktop|documents|src|"
    r"public|private|tcia|tcga|upenn|ucsf|kaggle|nnunet\w*|derivatives|sourcedata|rawdata"
)
"""Words for a collection, a disease or a kind of person: alone, they identify no patient."""

_END = r"(?![^\W_])"
_NUMBER = r"(?:[ _.-]?(?:\d+(?:[.-]\d)?[a-z]?|[a-h]))?"
_MONTH = r"[-_. ]?(?:jan|feb|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*[-_. ]?"
_DATE = (
    r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])|\d\d[-_.]\d\d[-_.](?:19|20)\d\d|"
    rf"\d\d?{_MONTH}(?:19|20)\d\d|(?:19|20)\d\d{_MONTH}\d\d)"
    r"(?:[T_-]?\d{6})?(?!\d)"
)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_DATES = _compile(rf"{_DATE}|(?<![^\W_])(?:19|20)\d\d[-_.](?:0[1-9]|1[0-2])(?!\d)")
_WITH_NUMBERS = _compile(
    rf"{_DATE}|(?<![^\W\d_])(?:(?:{TIMES}|{COUNTED}|{STEPS}){_NUMBER}|[tvmwy]\d{{1,3}}|d\+?\d{{1,5}}){_END}"
)
_WITHOUT_NUMBERS = _compile(rf"{_DATE}|(?<![^\W\d_])(?:{TIMES}|{STEPS})(?![^\W\d_])")
_OTHER_THAN_COUNTED = _compile(rf"{_DATE}|(?<![^\W\d_])(?:{TIMES}|{STEPS}){_NUMBER}{_END}")
_SITE = _compile(rf"(?<![^\W\d_])(?:{SITES})(?:[ _.-]?\d{{1,2}}|[ _.-]?[a-z])?{_END}")
_COLLECTION = _compile(rf"(?<![^\W\d_])(?:{COLLECTIONS})(?![^\W\d_])")
_PERSON = _compile(
    r"(?:.*[\W_])?(?:patients?(?:[ _-]?id)?|pat|pt|subjects?|subj|sub|case|person|participant|id|p)[ _-]?\d+[a-z]?"
)
_BIDS = _compile(r"(?:.*[\W_])?sub-[^\W_]+(?=_|$)")


@lru_cache(maxsize=10_000)
def without_times(name: str, numbers: bool = True) -> str:
    """Return a name without its dates and without its words for time points and processing.

    Args:
        name: the name of a case or folder.
        numbers: remove the numbers of these words too: ``P01_FU2`` becomes ``P01``. Otherwise ``FU_012`` becomes
            ``012``.
    """
    if numbers and (subject := _BIDS.match(name)):  # the rest of a BIDS name is session, run and so on
        name = subject[0]
    date = _DATES.search(name)
    if numbers and date and has_number(name[: date.start()]):  # what follows a date describes the scan
        name = name[: date.start()]
    return _tidy((_WITH_NUMBERS if numbers else _WITHOUT_NUMBERS).sub("_", name))


def starts_with_date(name: str) -> bool:
    """Return True for names such as ``2001-02-03-MRI``."""
    return _DATES.match(name) is not None


def is_numbered(name: str) -> bool:
    """Return True if a name is only a short number, or a counted word such as ``scan3``: it identifies no patient."""
    if without_times(name):
        return re.fullmatch(r"\d{1,3}", name) is not None
    return bool(_tidy(_OTHER_THAN_COUNTED.sub("", name))) and re.fullmatch(COUNTED, name, re.IGNORECASE) is None


def states_patient(name: str) -> bool:
    """Return True if the name of a case or folder can identify a patient."""
    rest = without_times(name)
    return (has_number(rest) or has_words(rest)) and not is_numbered(name)


def is_person(name: str) -> bool:
    """Return True if a name is that of a numbered patient, such as ``P01``, ``sub-01`` or ``Patient_003``."""
    return _PERSON.fullmatch(name) is not None


def is_site(name: str) -> bool:
    """Return True if a name is only that of a site or another group of patients, such as ``SiteA``."""
    return _SITE.fullmatch(name) is not None


def has_number(name: str) -> bool:
    """Return True if a name has a number other than that of a site."""
    return re.search(r"\d", _SITE.sub("", name)) is not None


def has_words(name: str) -> bool:
    """Return True if a name has a word that is neither a site nor a collection: perhaps the name of a person."""
    return re.search(r"[^\W\d_]{2}", _COLLECTION.sub("", _SITE.sub("", name))) is not None


def _tidy(name: str) -> str:
    """Remove repeated separators, and separators at both ends."""
    return re.sub(r"([\W_])[\W_]+", r"\1", name).strip(" _.-()")
