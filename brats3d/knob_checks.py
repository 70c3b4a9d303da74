"""Check the knobs of a config before anything is built, and convert numbers that YAML reads as text.

YAML 1.1 reads ``1e-3`` as text, because it has no dot, and MONAI's command reads ``--amp false`` as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brats3d.config_reader import Knob, config_paths, current_parser, read_knobs
from brats3d.errors import UsageError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "none": None}
"""Text that stands for a bool or null, in any case."""


@dataclass(frozen=True)
class Range:
    """The valid numbers of a knob.

    Args:
        least, most: the smallest and the largest value.
        above, below: limits that are not valid themselves.
        integer: True if the number must be an integer.
        or_null: True if null is valid, too.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    integer: bool = False
    or_null: bool = False

    def __contains__(self, number: float) -> bool:
        """Return True if the number is valid."""
        inside = self.least <= number <= self.most and self.above < number < self.below
        return inside and (isinstance(number, int) or not self.integer)

    def __str__(self) -> str:
        limits = {"from": self.least, "above": self.above, "to": self.most, "and below": self.below}
        words = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        return " ".join(["an integer" if self.integer else "a number", *words])


COUNT = Range(1, integer=True)
FRACTION = Range(0, 1)

RANGES: Mapping[str, Range] = {
    "seed": Range(integer=True, or_null=True),
    "epochs": COUNT,
    "epoch_length": COUNT,
    "minutes": Range(above=0, or_null=True),
    "checkpoint_minutes": Range(above=0, or_null=True),
    "batch_size": COUNT,
    "patches_per_case": COUNT,
    "learning_rate": Range(0),
    "warmup": FRACTION,
    "weight_decay": Range(0),
    "max_norm": Range(above=0, or_null=True),
    "bce_weight": Range(0),
    "ema_decay": Range(0, below=1),
    "val_interval": COUNT,
    "full_every": Range(0, integer=True),
    "overlap": Range(0, below=1),
    "threshold": Range(above=0, below=1),
    "num_workers": Range(0, integer=True),
    "cache": FRACTION,
    "fold": Range(0, integer=True),
    "healthy": FRACTION,
    "all_present": FRACTION,
    "without_t1ce": FRACTION,
    "pool": COUNT,
    "patch_mix": FRACTION,
    "patches_per_phantom": Range(1),
    "tissue_weight": Range(0),
    "val_cases": COUNT,
}
"""The valid values of the knobs that are numbers."""

LISTS = ("overlap", "patch_mix")
"""Knobs that may be a list of three numbers, too."""

BY_REGION = ("threshold",)
"""Knobs that may be a mapping of each region to a number, too."""

PATHS = ("_dir", "checkpoint", "datalist")
"""Endings of the ids that are paths."""

_EXPONENT = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\s*")


def check_knobs(files: Sequence[str]) -> None:
    """Check the knobs of the config that is being resolved.

    Numbers with an exponent that YAML has read as text are replaced by numbers, in the whole config.

    Args:
        files: names of the config files with the knobs; see :func:`brats3d.config_reader.knob_values`.

    Raises:
        UsageError: naming every knob whose value has another type than its default or is outside its range.
        RuntimeError: if no config is being resolved.
    """
    parser = current_parser()
    _read_exponents(parser, parser.get())
    errors = []
    for knob in read_knobs(config_paths(parser, files)):
        given = parser.get(knob.name)
        try:
            value = check_value(knob, given)
        except UsageError as error:
            errors.append(error)
        else:
            if value is not given:
                _replace(parser, parser.get(), knob.name, knob.name, value)
    if errors:
        raise errors[0] if len(errors) == 1 else UsageError.of_many("knobs", list(map(str, errors)))


def check_value(knob: Knob, value: Any) -> Any:
    """Check the value of a knob, and convert text to the number, bool or None that it represents.

    Raises:
        UsageError: if the value has another type than the knob's default or is outside its range.
    """
    import yaml

    default = yaml.safe_load(knob.default)
    if isinstance(value, str):
        if value.startswith(("$", "@", "%")):  # computed later
            return value
        value = WORDS.get(value.strip().lower(), value)
    if knob.name in LISTS and isinstance(value, list | tuple) and len(value) == 3:
        return [check_value(knob, part) for part in value]
    if knob.name in BY_REGION and isinstance(value, dict):
        return {region: check_value(knob, part) for region, part in value.items()}
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UsageError(knob.name, expected="true or false", found=value)
        return value
    valid = RANGES.get(knob.name, Range(or_null=True))
    if (knob.name in RANGES or isinstance(default, int | float)) and not (value is None and valid.or_null):
        number = _number(value)
        if number is None or number not in valid:
            example = f", such as {default}" if isinstance(default, int | float) else ""
            raise UsageError(knob.name, expected=f"{valid}{example}", found=value)
        return number if valid.integer or isinstance(value, str) else value
    return value


def _number(value: Any) -> int | float | None:
    """Return a number, an integer if it is one; None if the value is not a finite number."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return int(number) if number == int(number) else number


def _read_exponents(parser: ConfigParser, config: Any, prefix: str = "") -> None:
    """Replace text such as ``1e-3`` by the number, in the config and in all that it contains."""
    for key, id_, value in list(parser.ref_resolver.iter_subconfigs(prefix, config)):
        if isinstance(value, dict | list):
            _read_exponents(parser, value, id_)
        elif isinstance(value, str) and _EXPONENT.fullmatch(value) and not id_.endswith(PATHS):
            _replace(parser, config, key, id_, float(value))


def _replace(parser: ConfigParser, config: Any, key: Any, id_: str, value: Any) -> None:
    """Change a value in the config, and where MONAI's parser has copied it to."""
    config[key] = value
    if (item := parser.ref_resolver.items.get(id_)) is not None:
        item.update_config(value)
    parser.ref_resolver.remove_resolved_content(id_)
