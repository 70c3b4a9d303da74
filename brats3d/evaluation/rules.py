"""How a challenge counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Rules:
    """How a challenge counts.

    Args:
        name: of the challenge.
        missing_mm: HD95 where a region is empty in reference or prediction alone.
        dilation: steps by which lesions are dilated before it is asked what belongs together.
        least_mm3: a lesion must be larger.
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
"""``brats2023`` is that of GLI, SSA and PED, and the default; MEN and MET have their own. BraTS 2020 gave a missing
region the diagonal of the image, 373.1287 mm; it had no lesion-wise scores, which are counted as in 2023 with that
distance."""


def get_rules(name: str) -> Rules:
    """The rules of that name.

    Raises:
        ValueError: if there are none.
    """
    if name not in RULES:
        raise ValueError(f"convention: expected one of {', '.join(RULES)}, got {name!r}")
    return RULES[name]
