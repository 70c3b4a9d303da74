"""The knobs of a workflow: read from the YAML for ``--help``, and collected from a config that MONAI is resolving.

A knob is a top-level id on a single line with a comment::

    epochs: 300  # passes over the training cases

A line such as ``# --- data ---`` starts a group of knobs.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

_GROUP = re.compile(r"# --- (.+?) ---")
_KNOB = re.compile(r"(\w+): (\S.*?) +# (.+)")
_REFERENCE = re.compile(r"[@%](\w+(?:(?:#|::)\w+)*)")


@dataclass(frozen=True)
class Knob:
    """One knob.

    Args:
        name: its id.
        default: its value as written in the YAML.
        comment: what it does.
        group: heading of its group; may be empty.
    """

    name: str
    default: str
    comment: str
    group: str


def installed_bundle() -> Path:
    """Return the folder of the bundle: inside the package when installed, beside it in a checkout.

    Raises:
        FileNotFoundError: if it is in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_bundle", package.parent / "bundle"):
        if (folder / "configs" / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no bundle in {package} or beside it; reinstall brats3d")


def read_knobs(files: Iterable[str | Path]) -> list[Knob]:
    """Read the knobs of a config file and of the overlays that follow it.

    A later file replaces the default and the comment of a knob, and removes the knobs that its ``unused`` line names.
    """
    found: dict[str, Knob] = {}
    for file in files:
        group = ""
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            if heading := _GROUP.fullmatch(line):
                group = heading[1]
            elif line.startswith("unused: "):
                for name in re.findall(r"\w+", line.partition(":")[2].partition("#")[0]):
                    found.pop(name, None)
            elif match := _KNOB.fullmatch(line):
                name, default, comment = match.groups()
                group_of = found[name].group if name in found and not group else group
                found[name] = Knob(name, default, comment, group_of)
    return list(found.values())


def knob_values(files: Sequence[str]) -> dict[str, Any]:
    """Collect the knobs of the config that is being resolved; a config names this function as a ``_target_``.

    Args:
        files: names of the config files to read, in the ``configs`` folder of the bundle. If the bundle lacks a file,
            that of the installed bundle is read.

    Returns:
        Name -> value, in the order of the files.

    Raises:
        RuntimeError: if no config is being resolved.
    """
    parser = current_parser()
    return {knob.name: parser.get_parsed_content(knob.name) for knob in read_knobs(config_paths(parser, files))}


def config_paths(parser: ConfigParser, files: Sequence[str]) -> list[Path]:
    """Return the paths of config files: in the bundle that is being resolved, else in the installed one."""
    roots = [Path(str(parser.get_parsed_content("bundle_root"))), installed_bundle()]
    return [next(path for root in roots if (path := root / "configs" / name).is_file()) for name in files]


def config_text(ids: Sequence[str], values: Sequence[Any] = ()) -> str:
    """Return parts of the config that is being resolved as text.

    Two runs have the same parts if their texts are equal: the text includes overrides, and everything that the parts
    refer to.

    Args:
        ids: such as ``["preprocessing", "train#random_transforms"]``.
        values: further values that the text includes, such as those that a part of the config reads from a file.

    Raises:
        RuntimeError: if no config is being resolved.
    """
    parser = current_parser()
    parts: dict[str, Any] = {}
    left = [id_.replace("#", "::") for id_ in ids]
    while left:
        id_ = left.pop()
        if id_ not in parts:
            parts[id_] = parser.get(id_)
            left += [name.replace("#", "::") for name in _references(parts[id_])]
    content = {"config": parts, "values": values} if values else parts
    return json.dumps(content, sort_keys=True, default=str)


def plain_config(id_: str) -> dict[str, Any]:
    """Return the config of a component with the values of its arguments in place of expressions and references.

    The result is empty if the config is itself an expression or a reference.

    Args:
        id_: such as ``network_def``.

    Raises:
        RuntimeError: if no config is being resolved.
    """
    parser = current_parser()
    config = parser.get(id_)
    names = config if isinstance(config, dict) else ()
    return {name: parser.get_parsed_content(f"{id_}#{name}") for name in names}


def _references(config: Any) -> Iterable[str]:
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _references(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _references(value)
    elif isinstance(config, str) and config.startswith(("@", "$", "%")):
        yield from _REFERENCE.findall(config)


def current_parser() -> ConfigParser:
    """Return the parser that is resolving a config.

    It is searched for in the calling frames, because MONAI (1.6) gives a component no access to the rest of its config.
    """
    from monai.bundle import ConfigParser

    for caller in _callers():
        if isinstance(caller, ConfigParser):
            return caller
    raise RuntimeError("no config is being resolved: this function is a _target_ in a config file")


def current_config_folder() -> Path | None:
    """Return the folder of the config files of the workflow that is being resolved; None without a workflow."""
    from monai.bundle import ConfigWorkflow

    return next((Path(each.config_root_path) for each in _callers() if isinstance(each, ConfigWorkflow)), None)


def _callers() -> Iterator[Any]:
    """Yield the objects whose methods are being called, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame.f_locals.get("self")
        frame = frame.f_back
