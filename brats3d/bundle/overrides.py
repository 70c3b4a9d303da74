"""Check the ids of a config that a command line overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats3d.errors import UsageError
from brats3d.knob_checks import PATHS

MONAI_ARGUMENTS = frozenset(
    [
        "run_id",
        "init_id",
        "final_id",
        "meta_file",
        "config_file",
        "logging_file",
        "tracking",
        "args_file",
        "workflow_type",
        "properties_path",
    ]
)
"""Arguments of ``python -m monai.bundle run`` that are not ids of the config."""

REPLACED: Mapping[str, str] = {
    "one_pass": 'use --window brain, the default, or --window "[128,128,128]" for sliding windows',
    "roi_size": 'use --window "[96,96,96]" for sliding windows of that size, or --window brain, the default',
}
"""Ids of earlier versions, and what to use now."""


def unknown_ids(ids: Iterable[str], files: Sequence[str | Path]) -> list[UsageError]:
    """Return an error, with the nearest known id, for each id that no config file has.

    An argument of a component counts as known even if the config does not set it. Knobs that an overlay lists as
    ``unused`` count as unknown. A file may also hold settings for MONAI's ``tracking``, with ids under ``configs``.
    """
    import yaml

    config: dict[str, Any] = {}
    for file in files:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
        config.update(content["configs"] if "handlers_id" in content else content)
    known = set(_ids(config)) | {key.removeprefix("+").replace("::", "#") for key in config}
    known -= set(config.get("unused", ()))
    errors = []
    for id_ in ids:
        name = id_.removeprefix("+").replace("::", "#")
        parent = _at(config, name.rpartition("#")[0]) if "#" in name else None
        is_argument = isinstance(parent, dict) and "_target_" in parent
        if name not in known and name not in MONAI_ARGUMENTS and not is_argument:
            near = difflib.get_close_matches(name, known, n=1)
            advice = REPLACED.get(name) or (f"did you mean --{near[0]}?" if near else "")
            errors.append(UsageError(f"--{id_}", "unknown id", advice=advice))
    return errors


def misread_paths(overrides: Mapping[str, Any]) -> list[UsageError]:
    """Return an error for each path in the overrides that MONAI's config parser would read as syntax."""
    from brats3d.cases import check_path_syntax

    errors = []
    for name, value in overrides.items():
        if not name.endswith(PATHS):
            continue
        for path in value if isinstance(value, list | tuple) else [value]:
            try:
                check_path_syntax(str(path), name)
            except UsageError as error:
                errors.append(error)
    return errors


def _ids(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield every id of a config; nested ids are joined by '#'."""
    pairs = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in pairs:
        yield f"{prefix}{key}"
        yield from _ids(value, f"{prefix}{key}#")


def _at(config: Any, id_: str) -> Any:
    for key in id_.split("#"):
        try:
            config = config[int(key)] if isinstance(config, list) else config[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return config
