"""Pair predictions with references by case identifier, even if tools have added words to the file names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from brats3d.cases import name_some, parse_file_name
from brats3d.errors import DataError


def pair_cases(preds: Sequence[str], refs: Sequence[str], pred_dir: str | Path, ref_dir: str | Path) -> dict[str, str]:
    """Pair case identifiers: first equal ones, then those that differ only in spelling or in words such as ``pred``.

    Later steps see only what earlier ones left unpaired: other separators or lower case; words of
    :data:`OUTPUT_WORDS` at either end; the name of a sequence after the identifier of a prediction, as MONAI's
    ``SaveImage`` writes (``X_flair_seg``); a channel's number there, as nnU-Net names images (``X_0000``).

    Args:
        preds: identifiers of the predictions.
        refs: identifiers of the references.
        pred_dir: folder of the predictions, for the error.
        ref_dir: folder of the references, for the error.

    Returns:
        Reference -> prediction, in the order of the references; at least one pair.

    Raises:
        DataError: if no case is in both, or if several predictions or references have the same form.
    """
    pairs = {case_id: case_id for case_id in set(refs) & set(preds)}
    for pred_form, ref_form in _STEPS:
        open_preds = _by_form(pred_form, set(preds) - set(pairs.values()))
        open_refs = _by_form(ref_form, set(refs) - pairs.keys())
        unclear = []
        for form in (form for form in open_refs if form in open_preds):
            pred_ids, ref_ids = open_preds[form], open_refs[form]
            pairs[ref_ids[0]] = pred_ids[0]
            if len(pred_ids) + len(ref_ids) > 2:
                names = [" and ".join(ids) for ids in (pred_ids, ref_ids)]
                unclear.append(f"{names[0]} could belong to {names[1]}")
        if unclear:
            advice = "keep one prediction for each case, named <case_id>.nii.gz as in the reference"
            raise DataError.of_many(
                pred_dir, [f"it is unclear which file belongs to a case: {x}" for x in unclear], advice
            )
    if not pairs:
        found, expected = name_some(preds), name_some(refs)
        problem = f"no case in common with {ref_dir}: the cases here are {found}, those of the reference {expected}"
        raise DataError(pred_dir, problem, advice=_how_to_rename(preds, refs))
    return {case_id: pairs[case_id] for case_id in refs if case_id in pairs}


def _how_to_rename(preds: Sequence[str], refs: Sequence[str]) -> str:
    """Return advice: the ending to remove, if all predictions have the same one after a reference's identifier."""
    endings = {pred.removeprefix(ref) for pred in preds for ref in refs if pred.startswith(ref)}
    if len(endings) == 1 and all(pred.endswith(tuple(endings)) for pred in preds):
        return f"remove {endings.pop()!r} from the names of the predictions"
    return "name the files by the case identifiers of the reference"


def has_case_id(name: str) -> bool:
    """Return False for the stem of a file name that has only words and sequences, such as ``pred``."""
    return bool(_without_sequence(name))


def is_prediction_name(name: str) -> bool:
    """Return True if the stem of a file name marks a prediction, such as ``X_pred``."""
    return any(part.startswith("pred") for part in _spelling(name)[-2:])


def describe_renamed(pairs: Mapping[str, str]) -> str:
    """Describe the pairs whose identifiers differ; an empty text if there are none."""
    renamed = [f"{pred} with {ref}" for ref, pred in pairs.items() if pred != ref]
    return f"paired although their names differ: {name_some(renamed, 2)}" if renamed else ""


OUTPUT_WORDS = (
    "(?:pred(?:s|icted|ictions?)?|seg(?:s|m|mented|mentations?)?|labels?|labelmap|masks?|gt|groundtruth|out(?:put)?|"
    "results?|trans|final|ensemble|fused|fusion|postprocessed|resampled|placed|tumou?r|lesion)"
)
"""Words that tools add to the name of a case, as a regular expression."""

_SEPARATOR = r"[\s._-]+"


def _spelling(name: str) -> tuple[str, ...]:
    """Return the parts of a name between its separators, in lower case."""
    return tuple(part for part in re.split(_SEPARATOR, name.casefold()) if part)


def _without_words(name: str) -> str:
    name = re.sub(rf"(?:(?:^|{_SEPARATOR}){OUTPUT_WORDS})+$", "", name, flags=re.IGNORECASE)
    return re.sub(rf"^(?:{OUTPUT_WORDS}{_SEPARATOR})+", "", name, flags=re.IGNORECASE)


def _without_sequence(name: str) -> str:
    name = _without_words(name)
    parsed = parse_file_name(f"{name}.nii")
    return _without_words(parsed[0]) if parsed else name


def _without_channel(name: str) -> str:
    return re.sub("_000[0-3]$", "", _without_sequence(name))


_STEPS = (
    (str, str),
    (_without_words, _without_words),
    (_without_sequence, _without_words),
    (_without_channel, _without_words),
)
"""Forms of predictions and references that are compared, one pair after the other."""


def _by_form(form_of: Callable[[str], str], case_ids: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    forms: dict[tuple[str, ...], list[str]] = {}
    for case_id in sorted(case_ids):
        if form := _spelling(form_of(case_id)):
            forms.setdefault(form, []).append(case_id)
    return forms
