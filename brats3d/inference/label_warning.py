"""Warn if the labels to write have another meaning in the release of the input."""

from __future__ import annotations

from collections.abc import Iterable

from brats3d.cases import ANY_LAYOUT, ANY_LAYOUT_OF_2023, Case, layout_of, name_some
from brats3d.labels import REGIONS, LabelConvention, get_convention


def label_warning(cases: Iterable[Case], written: LabelConvention) -> str:
    """Return a warning that names the labels and the convention of the release, or an empty string.

    Args:
        cases: the cases to segment.
        written: the label convention of the segmentations.
    """
    concerned: dict[str, list[str]] = {}
    for case in cases:
        layout = layout_of(case.case_id, case.images.values())
        if layout not in (ANY_LAYOUT, ANY_LAYOUT_OF_2023):
            own = [layout.convention] if layout.convention else layout.conventions
            for name in own if written.name not in own else ():
                if _conflicts(written, get_convention(name)):
                    concerned.setdefault(name, []).append(case.case_id)
    if not concerned:
        return ""
    labels = ", ".join(f"{value} = {name}" for value, name in written.labels.items())
    others = "; ".join(
        f"in {name}, the release of {name_some(case_ids)}, "
        + ", ".join(f"{v} = {get_convention(name).labels[v]}" for v in _conflicts(written, get_convention(name)))
        for name, case_ids in concerned.items()
    )
    advice = " or ".join(f"--label_convention {name}" for name in concerned)
    return (
        f"the segmentations have the labels of {written.name}: {labels}; {others}; pass {advice} to write the "
        "release's own labels"
    )


def _conflicts(written: LabelConvention, own: LabelConvention) -> list[int]:
    """Return the labels that belong to other regions in the other convention."""
    return [
        value
        for value in written.labels
        if value in own.labels
        and any((value in written.regions[region]) != (value in own.regions[region]) for region in REGIONS)
    ]
