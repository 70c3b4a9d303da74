"""Random contrasts: grey matter, white matter and fluid in any order of brightness.

Networks transfer best if part of their training images look like no sequence at all: SynthSeg (Billot et al. 2023,
https://doi.org/10.1016/j.media.2023.102789).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from brats3d.phantoms.random_numbers import RandomStream

MIN_DIFFERENCE = 0.1
"""Tissues that differ by less look alike: texture has a standard deviation of up to 0.07."""

_TISSUE = {"t1": (0.4, 1.0), "t2": (0.2, 0.8), "flair": (0.2, 0.8)}
_FLUID = (0.05, 1.3)
_CSF, _GM, _WM, _CORE, _EDEMA, _ENHANCING, _CYST, _BLOOD = range(8)  # as in contrast.TISSUES


def draw_random_contrast(rng: RandomStream, ordered: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Draw healthy tissues anew in every sequence, without the order that defines it.

    Tumours keep what tells them from other patches. They are brighter than both grey and white matter in T2 and darker
    in T1, and edema is brighter in FLAIR, by as much as in the ordered contrast. Core and edema differ from fluid in
    two of T1, T2 and FLAIR, because training hides some of the sequences. T1ce repeats T1 except in enhancing tissue,
    which is brighter than core and edema but not always brighter than healthy tissue.

    Args:
        ordered: sequence -> brightness of :data:`brats3d.phantoms.contrast.TISSUES`.

    Returns:
        The same with other values.
    """
    values = {name: _shift_tumour(rng, name, ordered[name]) for name in _TISSUE}
    while not _differ_from_fluid(values.values()):
        for tissues in values.values():
            tissues[_CSF] = rng.uniform(*_FLUID)
    for name, tissues in values.items():
        tissues[_CYST] = max(tissues[_CSF] + ordered[name][_CYST] - ordered[name][_CSF], 0.02)
    t1ce = [max(value + rng.normal(0.03), 0.02) for value in values["t1"]]
    uptake = max(ordered["t1ce"][_ENHANCING] - ordered["t1ce"][_CORE], MIN_DIFFERENCE)
    t1ce[_ENHANCING] = max(t1ce[_CORE], t1ce[_EDEMA], t1ce[_ENHANCING]) + uptake
    return {"t1": values["t1"], "t1ce": t1ce, "t2": values["t2"], "flair": values["flair"]}


def _shift_tumour(rng: RandomStream, name: str, ordered: Sequence[float]) -> list[float]:
    """Draw healthy tissues of a sequence, and keep the distance of tumours from grey or white matter."""
    grey, white = rng.uniform(*_TISSUE[name]), rng.uniform(*_TISSUE[name])
    edge = min(grey, white) if name == "t1" else max(grey, white)
    tissues = [rng.uniform(*_FLUID), grey, white, *(edge + value - ordered[_GM] for value in ordered[_CORE:])]
    if name == "t2":
        tissues[_CORE:_ENHANCING] = [max(value, edge + MIN_DIFFERENCE) for value in tissues[_CORE:_ENHANCING]]
    return [max(value, 0.02) for value in tissues]


def _differ_from_fluid(sequences: Collection[Sequence[float]]) -> bool:
    return all(sum(abs(v[tissue] - v[_CSF]) >= MIN_DIFFERENCE for v in sequences) >= 2 for tissue in (_CORE, _EDEMA))
