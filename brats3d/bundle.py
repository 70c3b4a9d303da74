"""Where the bundle is, which config files a workflow takes, and whether overrides name what exists.

Nothing heavy is imported here: MONAI and torch come in when a workflow runs.
"""

from __future__ import annotations

import ast
import difflib
import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

WORKFLOWS: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("pretrain.yaml",),
    "train": ("train.yaml",),
    "evaluate": ("train.yaml", "evaluate.yaml"),
    "predict": ("inference.yaml",),
}
"""Workflow -> its config files, later ones laid over earlier ones."""

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
"""What ``python -m monai.bundle run`` takes besides ids of the config."""

logger = logging.getLogger("brats3d")


def installed_bundle() -> Path:
    """The bundle folder that belongs to this package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_bundle", package.parent / "bundle"):
        if (folder / "configs" / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"{package}: the bundle's configs are missing; install brats3d again")


def find_bundle_root() -> str:
    """Folder of the bundle that the command line runs: above its first ``--config_file``; else the installed one."""
    for path in _command_line_configs():
        folder = Path(path).resolve().parent
        if folder.name == "configs":
            return str(folder.parent)
    return str(installed_bundle())


def config_files(workflow: str) -> list[Path]:
    """The config files of ``pretrain``, ``train``, ``evaluate`` or ``predict``.

    Raises:
        ValueError: if there is no such workflow.
    """
    if workflow not in WORKFLOWS:
        raise ValueError(f"workflow: expected one of {', '.join(WORKFLOWS)}, got {workflow!r}")
    return [installed_bundle() / "configs" / name for name in WORKFLOWS[workflow]]


def check_overrides(overrides: Mapping[str, Any], files: Sequence[str | Path]) -> list[str]:
    """What is wrong with overrides: ids that no config has, and values that MONAI reads as syntax.

    Args:
        overrides: id -> value, as given on the command line.
        files: the config files that they are laid over.

    Returns:
        One line a problem; none where all is well.
    """
    import yaml

    config: dict[str, Any] = {}
    for file in files:
        config.update(yaml.safe_load(Path(file).read_text()) or {})
    known = set(_ids(config)) | {key.removeprefix("+").replace("::", "#") for key in config}
    problems = []
    for id_, value in overrides.items():
        name = id_.removeprefix("+").replace("::", "#")
        parent = _at(config, name.rpartition("#")[0]) if "#" in name else None
        if (
            name not in known
            and name not in MONAI_ARGUMENTS
            and not (isinstance(parent, dict) and "_target_" in parent)
        ):
            near = difflib.get_close_matches(name, known, n=1)
            problems.append(f"unknown id --{id_}" + (f"; did you mean --{near[0]}?" if near else ""))
        if name.endswith(("_dir", "checkpoint", "datalist")):
            problems += [why for path in _paths(value) if (why := _syntax(path, id_))]
    return problems


def check_command_line() -> None:
    """Called by the configs themselves: warn of ids in ``python -m monai.bundle run ...`` that no config has.

    MONAI keeps unknown ids silently, so that ``--epochz 9`` trains for 300 epochs.

    Raises:
        ValueError: if a path holds what MONAI reads as syntax.
    """
    files = [file for file in _command_line_configs() if Path(file).is_file()]
    if not files:
        return
    # Who types the plain command may mean an expression or a reference; a folder of that name is none.
    overrides = {name: "" if value.startswith(("$", "@")) else value for name, value in _command_line_options()}
    for problem in check_overrides(overrides, files):
        if not problem.startswith("unknown id"):
            raise ValueError(problem)
        logger.warning("%s: it has no effect", problem)


def command_line(workflow: str, overrides: Mapping[str, Any]) -> str:
    """The ``python -m monai.bundle run`` line that does the same."""
    files = [str(file) for file in config_files(workflow)]
    parts = ["python", "-m", "monai.bundle", "run", *(["training"] if workflow in ("train", "pretrain") else [])]
    parts += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for name, value in overrides.items():
        parts += [f"--{name}", value if isinstance(value, str) else str(value)]
    return " ".join(map(_quoted, parts))


def _quoted(text: str) -> str:
    """For a shell; in double quotes where single ones stand inside and nothing else that a shell would change."""
    return f'"{text}"' if "'" in text and not set('"$`!\\') & set(text) else shlex.quote(text)


def run_workflow(workflow: str, overrides: Mapping[str, Any]) -> None:
    """Run a workflow of the installed bundle in this process.

    Args:
        workflow: ``pretrain``, ``train``, ``evaluate`` or ``predict``.
        overrides: id -> value, checked by :func:`check_overrides` before.
    """
    files = config_files(workflow)
    from monai.bundle import ConfigWorkflow

    run = ConfigWorkflow(
        config_file=[str(file) for file in files],
        workflow_type="infer" if workflow == "predict" else "train",
        bundle_root=str(installed_bundle()),
        **overrides,
    )
    run.initialize()
    run.run()
    run.finalize()


def _command_line_options() -> Iterator[tuple[str, str]]:
    """(name, value) of every ``--name value`` and ``--name=value`` of this process."""
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            yield name.replace("-", "_"), value if equals else next(arguments, "")  # fire takes either


def _command_line_configs() -> list[str]:
    value = dict(_command_line_options()).get("config_file", "")
    if value.startswith(("[", "(")):
        try:
            return [str(file) for file in ast.literal_eval(value)]
        except (ValueError, SyntaxError):
            return []
    return [file for file in value.split(",") if file]


def _ids(config: Any, prefix: str = "") -> Iterator[str]:
    """Every id that a config has, nested ones joined by '#'."""
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


def _syntax(path: str, name: str) -> str | None:
    """Why MONAI cannot be given this path."""
    from brats3d.cases import check_path_syntax

    try:
        check_path_syntax(path, name)
    except ValueError as error:
        return str(error)
    return None


def _paths(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]
