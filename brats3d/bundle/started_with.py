"""The config files and values, other than knobs, that a run was started with.

A run records them, so that the report can state the command that repeats the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.bundle.monai_arguments import command_line_configs, command_line_options
from brats3d.bundle.overrides import MONAI_ARGUMENTS
from brats3d.bundle.workflow_files import WORKFLOWS
from brats3d.config_reader import read_knobs


def describe_start(files: Sequence[str | Path], overrides: Mapping[str, Any], overlays: Iterable[str | Path]) -> str:
    """Return what a run was started with as text: MONAI would resolve expressions in a mapping.

    Args:
        files: the config files that have the knobs.
        overrides: id -> value, of knobs and of other ids.
        overlays: the config files that follow those of the workflow.

    Returns:
        JSON, ``{"overlays": [file, ...], "overrides": {id: value, ...}}``.
    """
    knobs = {knob.name for knob in read_knobs(files)} | MONAI_ARGUMENTS | {"bundle_root"}
    others = {name: value for name, value in overrides.items() if name not in knobs}
    text = json.dumps({"overlays": [str(file) for file in overlays], "overrides": others}, default=str)
    return text.replace("#", r"\u0023")  # MONAI replaces it by "::" in every text of a config


def command_line_start() -> str:
    """Describe the start by ``python -m monai.bundle run``; train.yaml names this function as a ``_target_``."""
    own = {name for names in WORKFLOWS.values() for name in names}
    files = [Path(file) for file in command_line_configs()]
    overlays = [file for file in files if file.name not in own]
    options = dict(command_line_options()) if files else {}
    return describe_start([file for file in files if file.name in own], options, overlays)


def read_start(settings: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the overlays and the overrides from the settings of a run; none if the settings do not have them."""
    start = settings.get("started_with")
    match start:
        case {"overlays": list() as overlays, "overrides": dict() as overrides}:
            return [str(file) for file in overlays], overrides
    return [], {}
