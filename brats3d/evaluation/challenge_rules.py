"""The scoring rules of the BraTS challenges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from brats3d.errors import UsageError


@dataclass(frozen=True)
class Rules:
    """The rules of a challenge.

    Args:
        name: the challenge.
        missing_mm: HD95 of a region that is empty in either reference or prediction.
        dilation: number of dilation steps of the reference before its connected components are taken as lesions.
        least_mm3: lesions up to this volume are ignored.
    """

    name: str
    missing_mm: float = 374
    dilation: int = 3
    least_mm3: float = 50


RULES: Mapping[str, Rules] = MappingProxyType(
    {
        rules.name: rules
        for rules in (
            Rules("brats2023"),
            Rules("brats2023-men", dilation=1),
            Rules("brats2023-met", dilation=1, least_mm3=2),
            Rules("brats2020", missing_mm=math.hypot(240, 240, 155)),
        )
    }
)
"""``brats2023`` is the default and applies to GLI, SSA and PED; MEN and MET have rules of their own. BraTS 2020 scored
a missing region with the diagonal of the image, 373.1287 mm. It had no lesion-wise scores; here they use the lesion
definition of 2023 and that distance."""


def get_rules(name: str, argument: str = "convention") -> Rules:
    """Return the rules of a challenge.

    Args:
        name: a key of :data:`RULES`.
        argument: name of the argument, for the error.

    Raises:
        UsageError: if there are no such rules.
    """
    if name not in RULES:
        raise UsageError(argument, expected=f"one of {', '.join(RULES)}", found=name)
    return RULES[name]
