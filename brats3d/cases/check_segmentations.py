"""Check before a run that its segmentations agree with their label convention."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from brats3d.cases.case import item_to_case
from brats3d.cases.label_convention import summarise_cases
from brats3d.cases.label_evidence import is_sound, label_doubts
from brats3d.errors import DataError
from brats3d.labels import get_convention

logger = logging.getLogger("brats3d")


def check_segmentations(items: Sequence[Mapping[str, Any]], warn: bool = True) -> None:
    """Check the segmentations of a run together: masks of one label, exchanged labels, regions that no case has.

    The segmentations of each convention are read in a random order until they leave no doubt, usually fewer than ten;
    ``StandardLabelsd`` checks the values of every file later.

    Args:
        items: datalist items, as returned by :func:`brats3d.cases.load_fold`.
        warn: log a warning for doubts that do not stop the run.

    Raises:
        DataError: if training would learn something wrong.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        if item.get("label") and item.get("label_convention"):
            groups.setdefault(str(item["label_convention"]), []).append(item)
    for group in groups.values():
        cases = [item_to_case(item) for item in group]
        convention = get_convention(str(cases[0].convention))
        summaries = summarise_cases(cases, partial(is_sound, convention=convention))
        for doubt in label_doubts(summaries, convention):
            if doubt.serious:
                files = [case.label for case in cases if case.case_id in doubt.cases]
                raise DataError(files[0] or "" if files else "segmentations", doubt.problem, advice=doubt.advice)
            if warn:
                logger.warning("%s", doubt)
