"""Read the arguments of a workflow: folders and ``--knob value`` pairs; and describe the knobs for ``--help``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brats3d.bundle import REPLACED
from brats3d.config_reader import Knob
from brats3d.errors import UsageError
from brats3d.knob_checks import WORDS


def dataset_override(workflow: str, paths: Sequence[str]) -> dict[str, Any]:
    if workflow == "pretrain":
        if paths:
            raise UsageError("DIR", "pretrain reads no cases", found=paths, advice="use brats3d train")
        return {}
    if not paths:
        raise UsageError("DIR", expected="a folder of cases")
    if len(paths) > 1 and workflow != "predict":
        raise UsageError("DIR", expected="one folder of cases", found=paths)
    return {"dataset_dir": paths[0] if len(paths) == 1 else list(paths)}


def parse_knobs(arguments: Sequence[str], knobs: Sequence[Knob]) -> tuple[list[str], dict[str, Any]]:
    """Return the positional arguments, and the ``--id value`` pairs with their values as MONAI's command reads them.

    A knob that is true or false needs no value: ``--preview`` is ``--preview True``.
    """
    from fire.parser import DefaultParseValue

    flags = {knob.name for knob in knobs if knob.default in ("true", "false")}
    paths, overrides = [], {}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith("--"):
            paths.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")  # as MONAI's command does
        if name in REPLACED:  # before the next word is read as its value
            raise UsageError(f"--{name}", "unknown id", advice=REPLACED[name])
        if not equals:
            if name in flags and (not left or left[0].lower() not in ("true", "false")):
                value = "true"
            elif not left or left[0].startswith("--"):
                raise UsageError(f"--{name}", expected="a value")
            else:
                value = left.pop(0)
        overrides[name] = WORDS[value.lower()] if value.lower() in WORDS else DefaultParseValue(value)
    return paths, overrides


def describe_knob(knob: Knob) -> str:
    default = knob.default.strip("\"'")
    if default.startswith(("$", "{_target_")):  # an expression, which the comment explains
        return knob.comment
    return f"{knob.comment} (default: {default.removeprefix('@')})"
