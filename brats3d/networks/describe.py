"""What the parts of a run were made with, in words that can be kept and compared."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import Transform
from torch import nn

MAX_DEPTH = 8
"""Of parts within parts; what lies deeper is named by its class alone."""


def describe_part(part: object) -> str:
    """A transform, a loss or an optimizer, nearly as it would be written in Python.

    Shown is what was given when it was made and is kept under the same name, and the parts that it holds; not what
    changes while it is used, such as the random numbers that a transform has drawn. The same text does not prove that
    two parts are the same; another text says that they differ.

    Args:
        part: any object; what is shown of others than these three depends on how they are written.
    """
    return _described(part, 0)


def _described(part: object, depth: int) -> str:
    kind = type(part)
    if depth == MAX_DEPTH:
        return kind.__qualname__
    if isinstance(part, torch.optim.Optimizer):
        shown = dict(part.defaults)
    else:
        given = inspect.signature(kind).parameters
        kept = {**getattr(part, "__dict__", {}), **getattr(part, "_modules", {})}
        shown = {n: v for n, v in kept.items() if n in given or _is_part(v) or _is_parts(v)}
    return f"{kind.__qualname__}({', '.join(f'{n}={_shown(v, depth + 1)}' for n, v in sorted(shown.items()))})"


def _shown(value: Any, depth: int) -> str:
    if _is_part(value):
        return _described(value, depth)
    if isinstance(value, enum.Enum):
        return repr(value.value)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_shown(v, depth)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(v, depth) for v in value) + "]"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _is_part(value: Any) -> bool:
    return isinstance(value, Transform | nn.Module)


def _is_parts(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(map(_is_part, value))
