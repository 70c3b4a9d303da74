"""Choose the label convention of each case: what its names state, or the user's option where they state nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from brats3d.cases.case import Case
from brats3d.cases.label_evidence import describe_fits, fitting_conventions, gravity
from brats3d.cases.label_summary import LabelSummary, labelled_voxels, summarise_labels
from brats3d.cases.naming_rules import ANY_LAYOUT_OF_2023, layout_of
from brats3d.cases.text import name_some, natural_key
from brats3d.errors import UsageError
from brats3d.files import read_volume
from brats3d.labels import CONVENTIONS, get_convention


def with_convention(
    cases: Sequence[Case], label_convention: str | None, option: str = "label_convention"
) -> tuple[list[Case], list[str]]:
    """Return the cases with the convention of their labels, and remarks for the user.

    Raises:
        UsageError: as :func:`apply_convention` does, or if the convention of a case with a segmentation stays open.
            The error lists the conventions that have all labels in the segmentations, which are read for it.
    """
    cases, notes = apply_convention(cases, label_convention, option)
    if undecided := [case for case in cases if case.convention is None]:
        summaries = summarise_cases(undecided)
        possible = possible_conventions(undecided)
        raise UsageError(
            option,
            f"the names of {_names(undecided)} do not state the meaning of the labels; "
            f"{describe_fits(summaries, possible)}",
            expected=" or ".join(fitting_conventions(summaries, possible) or possible or CONVENTIONS),
            advice=f"pass --{option} NAME",
        )
    return cases, notes


def apply_convention(
    cases: Sequence[Case], label_convention: str | None, option: str = "label_convention"
) -> tuple[list[Case], list[str]]:
    """Fill in the label convention where the names of a case, or a datalist.json, do not state it.

    Cases that state another one keep it, unless their segmentations fit the option better, as in a release that was
    relabelled.

    Args:
        cases: the cases.
        label_convention: the user's option; None leaves the cases as they are.
        option: the name of the option, for messages.

    Returns:
        The cases, and remarks for the user.

    Raises:
        UsageError: if the option is unknown, or contradicts every case.
    """
    if label_convention is None:
        return list(cases), []
    name = get_convention(label_convention).name
    stated: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        if case.label and case.convention not in (None, name) and not case.convention_assumed:
            stated.setdefault((case.layout, str(case.convention)), []).append(case)
    found = {key: summarise_cases(group) for key, group in stated.items()}
    doubts = {key: gravity(each, CONVENTIONS[key[1]]) for key, each in found.items()}
    relabelled = {key for key, each in found.items() if gravity(each, CONVENTIONS[name]) < doubts[key]}
    kept = [(key, _names(stated[key])) for key in stated if key not in relabelled]
    if kept and sum(len(stated[key]) for key, _ in kept) == sum(case.label is not None for case in cases):
        raise UsageError.of_many(
            option,
            [
                f"{name} contradicts the names of {of}, which state {key[1]}; {describe_fits(found[key])}"
                for key, of in kept
            ],
            f"{'pass one that fits' if 2 in doubts.values() else f'omit --{option}'}; if these cases were relabelled, "
            "state the label_convention of each in a datalist.json",
        )
    notes = [
        f"{_names(stated[key])}: the names state {key[1]}, which the segmentations "
        f"contradict; {describe_fits(found[key])}: the labels are read as {name}"
        for key in sorted(relabelled)
    ]
    notes += [
        f"{of}: the names state {key[1]}, which is kept; {option} {name} applies to the others" for key, of in kept
    ]
    is_open = [
        case.convention is None or case.convention_assumed or (case.layout, case.convention) in relabelled
        for case in cases
    ]
    return [replace(case, convention=name) if yes else case for case, yes in zip(cases, is_open, strict=True)], notes


def possible_conventions(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the conventions that the names of cases leave open; an empty tuple if every convention is possible."""
    layouts = [layout_of(case.case_id, case.images.values()) for case in cases]
    if any(layout is ANY_LAYOUT_OF_2023 or not layout.conventions for layout in layouts):
        return ()
    return tuple(dict.fromkeys(name for layout in layouts for name in layout.conventions))


def summarise_cases(
    cases: Sequence[Case], enough: Callable[[Mapping[str, LabelSummary]], bool] | None = None
) -> dict[str, LabelSummary]:
    """Read the segmentations of cases. Files that cannot be read, or hold no labels, are skipped.

    Args:
        cases: the cases.
        enough: called after every few cases, which are read in a random order; True stops reading.

    Returns:
        case_id -> labels.
    """
    summaries: dict[str, LabelSummary] = {}
    mixed = random.Random(0).sample(list(cases), len(cases))
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(mixed), _READERS):
            chunk = mixed[start : start + _READERS]
            for case, summary in zip(chunk, pool.map(_summarise, chunk), strict=True):
                if summary is not None:
                    summaries[case.case_id] = summary
            if enough is not None and enough(summaries):
                break
    return summaries


_READERS = 2


def _names(cases: Iterable[Case]) -> str:
    return name_some(sorted((case.case_id for case in cases), key=natural_key))


def _summarise(case: Case) -> LabelSummary | None:
    try:
        return summarise_labels(labelled_voxels(read_volume(case.label).values)) if case.label else None
    except (ValueError, OSError):  # reported where the case is checked
        return None
