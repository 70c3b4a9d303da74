"""Doubts about the meaning of labels, from all segmentations of a data set.

In gliomas, edema surrounds the tumour core. Under a convention that exchanges the two, it would lie inside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from brats3d.cases.label_summary import LabelSummary
from brats3d.cases.text import name_some, natural_key
from brats3d.labels import CONVENTIONS, HD_GLIO, LabelConvention

MARGIN = 0.3
"""Difference of :func:`edema_margin` from 0 that counts as evidence.

Measured on 9 cases of BraTS and TCGA and 66 phantoms: read correctly, they lie between -0.23 and 0.95, 39 above 0.25;
with edema and core exchanged, between -1 and 0.13, 42 below -0.25.
"""

MIN_FACES = 30
"""Smallest number of voxel faces that counts as a surface."""

MIN_MASKS = 3
"""Smallest number of cases that are refused if their segmentations all have the same single label."""


@dataclass(frozen=True)
class LabelDoubt:
    """A reason to doubt what the labels of a data set mean.

    Args:
        kind: a key of :data:`brats3d.audit.finding_kinds.KINDS`: an error there if serious, else a warning.
        serious: True if training would learn something wrong; False if the labels may be right.
        problem: what was found.
        advice: what to do.
        cases: those that show it, if not all do.
    """

    kind: str
    serious: bool
    problem: str
    advice: str
    cases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.problem}; {self.advice}"


def label_doubts(summaries: Mapping[str, LabelSummary], convention: LabelConvention) -> list[LabelDoubt]:
    """Return the reasons to doubt that all segmentations of a data set follow a convention.

    Args:
        summaries: case_id -> labels, of cases with the same convention.
        convention: the convention.
    """
    labelled = {case_id: summaries[case_id] for case_id in sorted(summaries, key=natural_key)}
    labelled = {case_id: summary for case_id, summary in labelled.items() if summary.voxels}
    if not labelled:
        problem = f"none of {len(summaries)} segmentations has any label"
        doubt = LabelDoubt("region in no case", False, problem, "check that they are finished and belong to the images")
        return [doubt] if len(summaries) > 1 else []
    for find in (_single_label, _foreign_labels, _edema_inside):
        if doubts := find(labelled, convention):
            return doubts
    return _absent_regions(labelled, convention)


def is_sound(summaries: Mapping[str, LabelSummary], convention: LabelConvention) -> bool:
    """Return True if these cases leave no doubt, so that no others need to be read."""
    agree, contradict = _vote(summaries, convention)
    return len(agree) >= max(3, 10 * len(contradict)) and not label_doubts(summaries, convention)


def gravity(summaries: Mapping[str, LabelSummary], convention: LabelConvention) -> int:
    """Return 2 for a serious doubt that all segmentations follow the convention, 1 for another doubt, 0 for none."""
    return max((1 + doubt.serious for doubt in label_doubts(summaries, convention)), default=0)


def fitting_conventions(summaries: Mapping[str, LabelSummary], possible: Collection[str] = ()) -> list[str]:
    """Return the names of all conventions that have every label of the cases, the most plausible first.

    Args:
        summaries: case_id -> labels.
        possible: consider no others if one of these fits.
    """
    values = _values(summaries.values())
    names = [name for name, convention in CONVENTIONS.items() if convention.values >= values]
    names = [name for name in names if name in possible] or names
    return sorted(names, key=lambda name: _implausibility(summaries, CONVENTIONS[name]))


def describe_fits(summaries: Mapping[str, LabelSummary], possible: Collection[str] = ()) -> str:
    """Return a clause such as ``labels 1, 2, 4 fit brats2020 (best) or brats2015``; see :func:`fitting_conventions`."""
    names = fitting_conventions(summaries, possible)
    labels = ", ".join(map(str, sorted(_values(summaries.values()))))
    if not labels:
        return "no labels were found"
    if not names:
        return f"labels {labels} fit no known convention"
    ranks = [_implausibility(summaries, CONVENTIONS[name]) for name in names]
    best = " (best)" if len(names) > 1 and ranks[0] < ranks[1] else ""
    return f"labels {labels} fit {' or '.join([names[0] + best, *names[1:]])}"


def edema_margin(summary: LabelSummary, convention: LabelConvention) -> float | None:
    """Return how much more of the edema's surface than of the core's touches healthy tissue, from -1 to 1.

    Faces between two labels of the core do not count. None if edema and core do not touch, or if one is tiny.
    """
    core = set(convention.regions["TC"])
    edema = set(convention.regions["WT"]) - core
    between = _faces(summary, edema, core)
    edema_outside, core_outside = _faces(summary, edema, {0}), _faces(summary, core, {0})
    if not between or between + min(edema_outside, core_outside) < MIN_FACES:
        return None
    return edema_outside / (edema_outside + between) - core_outside / (core_outside + between)


def _foreign_labels(labelled: Mapping[str, LabelSummary], convention: LabelConvention) -> list[LabelDoubt]:
    foreign = {case_id: values for case_id, s in labelled.items() if (values := set(s.voxels) - convention.values)}
    if not foreign:
        return []
    found = ", ".join(map(str, sorted(set().union(*foreign.values()))))
    problem = (
        f"{len(foreign)} of {len(labelled)} segmentations have labels that {convention.name} does not have ({found}): "
        f"{name_some(list(foreign))}"
    )
    if fitting_conventions(labelled):
        advice = f"{describe_fits(labelled)}: pass --label_convention NAME if that is their meaning"
    else:
        advice = "correct them; brats3d audit lists the labels of each"
    return [LabelDoubt("unexpected labels", True, problem, advice, tuple(foreign))]


def _single_label(labelled: Mapping[str, LabelSummary], convention: LabelConvention) -> list[LabelDoubt]:
    """Find sets whose segmentations all have the same single label, except a whole lesion in HD-GLIO's convention."""
    values = _values(labelled.values())
    if len(values) != 1 or len(labelled) < MIN_MASKS or (convention is HD_GLIO and values == {1}):
        return []
    (value,) = values
    meaning = convention.labels.get(value, "none")
    problem = (
        f"all {len(labelled)} segmentations have only label {value}, {meaning} in {convention.name}: "
        "masks of the whole tumour or of the brain?"
    )
    store = "" if value == 1 else "store it as 1 and "
    advice = (
        "provide segmentations with edema, core and enhancing tumour; to train on whole tumours alone, "
        f"{store}pass --label_convention hd-glio"
    )
    return [LabelDoubt("one label", True, problem, advice)]


def _edema_inside(labelled: Mapping[str, LabelSummary], convention: LabelConvention) -> list[LabelDoubt]:
    agree, contradict = _vote(labelled, convention)
    if len(contradict) < max(2, (len(agree) + len(contradict)) // 10):
        return []
    clear = len(agree) + len(contradict)
    problem = (
        f"under {convention.name}, the edema lies inside the tumour core in {len(contradict)} of {clear} clear cases, "
        f"such as {contradict[0]}"
    )
    if len(contradict) < 4 * len(agree):
        problem = problem.removesuffix(f", such as {contradict[0]}") + f": {name_some(contradict)}"
        advice = "if they have the labels of another release, state their label_convention in a datalist.json"
        return [LabelDoubt("doubtful edema", False, problem, advice, tuple(contradict))]
    for name in fitting_conventions(labelled):
        agree, contradict = _vote(labelled, CONVENTIONS[name])
        if len(agree) > 4 * len(contradict):
            problem += f"; under {name}, it lies around the core in {len(agree)} of {len(agree) + len(contradict)}"
            return [LabelDoubt("edema inside the core", True, problem, f"pass --label_convention {name}")]
    return [LabelDoubt("doubtful edema", False, problem, "check the meaning of the labels")]


def _absent_regions(labelled: Mapping[str, LabelSummary], convention: LabelConvention) -> list[LabelDoubt]:
    """Find a region that no case has: enhancing tumour, or edema or core that another convention would give."""
    doubts = []
    for region, name in _PARTS.items():
        if _cases_with(labelled, convention, region):
            continue
        # Implausible conventions are not offered; the last number only counts labels that do not occur.
        others = [c for c in fitting_conventions(labelled) if not any(_implausibility(labelled, CONVENTIONS[c])[:-1])]
        if len(labelled) < 2 or (region != "ET" and not others):
            continue
        problem = f"none of {len(labelled)} cases has {name} under {convention.name}"
        advice = "check the labels, unless tumours without it are expected"
        if others:
            count = len(_cases_with(labelled, CONVENTIONS[others[0]], region))
            problem += f"; under {others[0]}, {count} have it"
            advice = f"pass --label_convention {others[0]} if that is the meaning of the labels"
        doubts.append(LabelDoubt("region in no case", False, problem, advice))
    return doubts[:1]


_PARTS: Mapping[str, str] = {"ET": "enhancing tumour", "TC": "a tumour core", "edema": "edema"}


def _cases_with(labelled: Mapping[str, LabelSummary], convention: LabelConvention, part: str) -> list[str]:
    values = set(convention.regions["WT" if part == "edema" else part])
    values -= set(convention.regions["TC"]) if part == "edema" else set()
    return [case_id for case_id, summary in labelled.items() if values & set(summary.voxels)]


def _vote(summaries: Mapping[str, LabelSummary], convention: LabelConvention) -> tuple[list[str], list[str]]:
    """Return the cases whose edema clearly lies around the core, and those whose edema clearly lies inside it."""
    margins = {case_id: edema_margin(summary, convention) for case_id, summary in summaries.items()}
    clear = {case_id: margin for case_id, margin in margins.items() if margin is not None and abs(margin) >= MARGIN}
    return [each for each, m in clear.items() if m > 0], [each for each, m in clear.items() if m < 0]


def _contradicts(summaries: Mapping[str, LabelSummary], convention: LabelConvention) -> bool:
    agree, contradict = _vote(summaries, convention)
    return len(contradict) > len(agree)


def _implausibility(summaries: Mapping[str, LabelSummary], convention: LabelConvention) -> tuple[float, ...]:
    return (
        bool(_single_label(summaries, convention)),
        _contradicts(summaries, convention),
        *(not _cases_with(summaries, convention, part) for part in _PARTS),
        len(convention.labels.keys() - _values(summaries.values())),
    )


def _values(summaries: Iterable[LabelSummary]) -> set[int]:
    return {value for summary in summaries for value in summary.voxels}


def _faces(summary: LabelSummary, labels: set[int], others: set[int]) -> int:
    return sum(summary.faces.get((label, other), 0) for label in labels for other in others)
