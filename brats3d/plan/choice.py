"""The value of a knob, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """The value of a knob, and the reason for it in words."""

    value: Any
    reason: str
