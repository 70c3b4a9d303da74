"""The command line of ``python -m monai.bundle run``, which a config cannot see."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator


def command_line_options() -> Iterator[tuple[str, str]]:
    """Yield (name, value) of every ``--name value`` and ``--name=value`` of this process."""
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            yield name.replace("-", "_"), value if equals else next(arguments, "")


def command_line_configs() -> list[str]:
    """Return the files of ``--config_file``."""
    value = dict(command_line_options()).get("config_file", "")
    if value.startswith(("[", "(")):
        try:
            return [str(file) for file in ast.literal_eval(value)]
        except (ValueError, SyntaxError):
            return []
    return [file for file in value.split(",") if file]
