"""The folder of the bundle, and the config files of each workflow."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from brats3d.bundle.monai_arguments import command_line_configs
from brats3d.config_reader import current_config_folder, installed_bundle as installed_bundle
from brats3d.errors import UsageError

WORKFLOWS: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("train.yaml", "pretrain.yaml"),
    "train": ("train.yaml",),
    "evaluate": ("train.yaml", "evaluate.yaml"),
    "predict": ("inference.yaml",),
    "crossval": ("train.yaml",),  # its knobs; brats3d.crossval runs "train" and "evaluate" for each fold
}
"""Config files of each workflow; later files override earlier ones."""

logger = logging.getLogger("brats3d")


def find_bundle_root() -> str:
    """Return the bundle whose config is being resolved: the folder above ``configs``, else the installed bundle.

    A config cannot know its own path, so the configs name this function as a ``_target_``. The path is that of the
    workflow, or else of the first ``--config_file`` on the command line.
    """
    workflow = current_config_folder()
    for folder in [*([workflow] if workflow else []), *(Path(file).parent for file in command_line_configs())]:
        if folder.resolve().name == "configs":
            return str(folder.resolve().parent)
    return str(installed_bundle())


def config_files(workflow: str, overlays: Iterable[str | Path] = ()) -> list[Path]:
    """Return the config files of a workflow, followed by the overlays.

    Raises:
        UsageError: if there is no such workflow.
    """
    if workflow not in WORKFLOWS:
        raise UsageError("workflow", expected=f"one of {', '.join(WORKFLOWS)}", found=workflow)
    own = [installed_bundle() / "configs" / name for name in WORKFLOWS[workflow]]
    return [*own, *map(Path, overlays)]


def find_configs(names: Iterable[str]) -> list[Path]:
    """Return the config files of ``--config``: a path, or a name in the bundle such as ``multi_gpu_train.yaml``.

    A warning is logged for a config that is not part of the bundle, since MONAI executes the expressions in it.

    Raises:
        UsageError: if there is no such file.
    """
    folder, found = installed_bundle() / "configs", []
    for name in names:
        path = next((path for path in (Path(name).expanduser(), folder / name) if path.is_file()), None)
        if path is None:
            own = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.yaml"))
            near = difflib.get_close_matches(name, own, n=1)
            raise UsageError("config", f"there is no file {name}", advice=f"did you mean {near[0]}?" if near else "")
        if not path.resolve().is_relative_to(folder.resolve()):
            logger.warning("%s is not part of brats3d; the expressions in it are executed", path)
        found.append(path)
    return found
