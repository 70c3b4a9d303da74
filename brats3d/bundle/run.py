"""Run a workflow, or state the command that runs it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats3d.bundle.card_network import add_card_network
from brats3d.bundle.check_overlays import read_overlay
from brats3d.bundle.started_with import describe_start, read_start
from brats3d.bundle.workflow_files import config_files
from brats3d.config_reader import installed_bundle, read_knobs
from brats3d.errors import DataError

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow


def command_line(workflow: str, overrides: Mapping[str, Any], overlays: Iterable[str | Path] = ()) -> str:
    """Return the equivalent ``python -m monai.bundle run`` line."""
    files = [str(file) for file in config_files(workflow, overlays)]
    parts = ["python", "-m", "monai.bundle", "run", *(["training"] if workflow in ("train", "pretrain") else [])]
    parts += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for name, value in overrides.items():
        parts += [f"--{name}", value if isinstance(value, str) else str(value)]
    return " ".join(map(_quoted, parts))


def repeat_command(workflow: str, settings: Mapping[str, Any]) -> str:
    """Return the command that runs a workflow with the settings of an earlier run.

    Knobs at their defaults, or at their values in a config file of the run, are omitted, and so are knobs whose default
    is computed, because it depends on the machine.

    Args:
        workflow: ``pretrain``, ``train``, ``evaluate`` or ``crossval``.
        settings: knob -> value, with the output_dir. Names that are not knobs are ignored. For an evaluation, they are
            those of the training.
    """
    overlays, overrides = read_start(settings)
    changed = {**_changed_knobs(workflow, settings, overlays), **overrides}
    words = ["brats3d", workflow]
    if workflow != "pretrain":
        folder = settings.get("dataset_dir") or "DATASET_DIR"
        if not isinstance(folder, str):  # brats3d accepts one folder, the configs several
            given = {"dataset_dir": folder, "output_dir": settings["output_dir"], **changed}
            return command_line(workflow, given, overlays)
        words.append(folder)
    words += ["--output", settings["output_dir"], *(f"--config={_short(file)}" for file in overlays)]
    plain = {None: "null", True: "true", False: "false"}
    for name, value in changed.items():
        words += [f"--{name}", plain[value] if value is None or isinstance(value, bool) else str(value)]
    return " ".join(map(_quoted, words))


def build_workflow(workflow: str, overrides: Mapping[str, Any], overlays: Iterable[str | Path] = ()) -> ConfigWorkflow:
    """Build a workflow of the installed bundle, with the network of the checkpoint's card, without initialising it.

    Args:
        workflow: ``pretrain``, ``train``, ``evaluate`` or ``predict``.
        overrides: id -> value; they are not checked.
        overlays: config files that follow those of the workflow.
    """
    files = config_files(workflow, overlays)
    from monai.bundle import ConfigWorkflow

    start = {}
    if workflow in ("train", "pretrain"):
        start["state#started_with"] = describe_start(config_files(workflow), overrides, overlays)
    return ConfigWorkflow(
        config_file=[str(file) for file in files],
        workflow_type="infer" if workflow == "predict" else "train",
        bundle_root=str(installed_bundle()),
        **start,
        **add_card_network(workflow, overrides, overlays),
    )


def run_workflow(workflow: str, overrides: Mapping[str, Any], overlays: Iterable[str | Path] = ()) -> ConfigWorkflow:
    """Run a workflow of the installed bundle in this process.

    Args:
        workflow, overrides, overlays: as for :func:`build_workflow`.

    Returns:
        MONAI's workflow, after it has run.
    """
    run = build_workflow(workflow, overrides, overlays)
    run.initialize()
    run.run()
    run.finalize()
    return run


def _changed_knobs(workflow: str, settings: Mapping[str, Any], overlays: Iterable[str]) -> dict[str, Any]:
    """Return the knobs of an earlier run that are neither at their defaults nor at their values in an overlay."""
    import yaml

    files = config_files("train" if workflow == "evaluate" else workflow)
    defaults = {knob.name: yaml.safe_load(knob.default) for knob in read_knobs(files)}
    names = defaults.keys() - {"dataset_dir", "output_dir"}
    for overlay in overlays:
        with suppress(OSError, DataError):  # it has moved: the values of the run are stated one by one
            defaults |= read_overlay(Path(overlay))
    changed = {}
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(default, str) and default.startswith("@"):  # the value of another knob
            default = settings.get(default[1:])
        computed = str(default).startswith("$") or (isinstance(default, Mapping) and "_target_" in default)
        if name in names and not computed and value != default:
            changed[name] = value
    return changed


def _short(overlay: str) -> str:
    """Return the name of a config of the bundle, and the path of any other."""
    folder, path = (installed_bundle() / "configs").resolve(), Path(overlay).resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else overlay


def _quoted(text: str) -> str:
    """Quote a word for a shell: in double quotes if it contains single quotes, unless the shell may still expand it."""
    if "'" not in text or "!" in text:  # an interactive shell expands ! in double quotes
        return shlex.quote(text)
    return '"' + re.sub(r'(["$`\\])', r"\\\1", text) + '"'
