"""Check the config files of ``--config`` before anything is built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brats3d.bundle.overrides import unknown_ids
from brats3d.bundle.workflow_files import config_files
from brats3d.errors import DataError, UsageError

_RUN_BY_MONAI = frozenset(["initialize", "run", "finalize"])
_REFERENCE = re.compile(r"[@%](\w+)")


def check_overlays(files: Sequence[Path], overlays: Sequence[Path]) -> None:
    """Check that each overlay is a mapping of ids that have an effect.

    An id has one if the workflow has it too, if MONAI runs it, or if an expression of an overlay refers to it.

    Args:
        files: config files of the workflow.
        overlays: files that follow them.

    Raises:
        DataError: if an overlay is not YAML, or not a mapping.
        UsageError: naming every id that has no effect.
    """
    contents = {overlay: read_overlay(overlay) for overlay in overlays}
    used = {name for overlay in overlays for name in _REFERENCE.findall(overlay.read_text(encoding="utf-8"))}
    problems = []
    for overlay, content in contents.items():
        ids = [id_ for id_ in content if re.split("#|::", id_.removeprefix("+"))[0] not in used | _RUN_BY_MONAI]
        errors = unknown_ids(ids, files)
        if errors and not unknown_ids(ids, config_files("train")):
            unused = ", ".join(error.subject.removeprefix("--") for error in errors)
            problems.append(f"{overlay} is for trainings; {unused} would have no effect here; leave the file out")
            continue
        for error in errors:
            advice = f"; {error.advice.replace('--', '')}" if error.advice else ""
            problems.append(f"{overlay} has the unknown id {error.subject.removeprefix('--')}{advice}")
    if problems:
        raise UsageError.of_many("config", problems)


def read_overlay(overlay: Path) -> dict[str, Any]:
    """Return the ids of a config file and their values.

    Raises:
        DataError: if it is not YAML, or not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(overlay, "not a text file in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(overlay, f"not valid YAML: {error.problem}{line}") from error
    except yaml.YAMLError as error:
        raise DataError(overlay, f"not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise DataError(overlay, expected="ids and values, such as 'epochs: 100'", found=content)
    return content
