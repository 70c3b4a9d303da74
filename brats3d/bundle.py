"""The bundle: its folder, the config files of each workflow, overrides of their ids, and running a workflow.

MONAI and torch are imported only when a workflow runs.
"""

from __future__ import annotations

import ast
import difflib
import logging
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from brats3d.config_reader import current_config_folder, installed_bundle as installed_bundle, read_knobs
from brats3d.errors import UsageError
from brats3d.files import cause_of
from brats3d.knob_checks import PATHS, check_knobs

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

WORKFLOWS: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("train.yaml", "pretrain.yaml"),
    "train": ("train.yaml",),
    "evaluate": ("train.yaml", "evaluate.yaml"),
    "predict": ("inference.yaml",),
}
"""Config files of each workflow; later files override earlier ones."""

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

logger = logging.getLogger("brats3d")


def find_bundle_root() -> str:
    """Return the bundle whose config is being resolved: the folder above ``configs``, else the installed bundle.

    A config cannot know its own path, so the configs name this function as a ``_target_``. The path is that of the
    workflow, or else of the first ``--config_file`` on the command line.
    """
    workflow = current_config_folder()
    for folder in [*([workflow] if workflow else []), *(Path(file).parent for file in _command_line_configs())]:
        if folder.resolve().name == "configs":
            return str(folder.resolve().parent)
    return str(installed_bundle())


def config_files(workflow: str, overlays: Iterable[str | Path] = ()) -> list[Path]:
    """Return the config files of ``pretrain``, ``train``, ``evaluate`` or ``predict``, and then the overlays.

    Raises:
        UsageError: if there is no such workflow.
    """
    if workflow not in WORKFLOWS:
        raise UsageError("workflow", expected=f"one of {', '.join(WORKFLOWS)}", found=workflow)
    own = [installed_bundle() / "configs" / name for name in WORKFLOWS[workflow]]
    return [*own, *map(Path, overlays)]


def find_configs(names: Iterable[str]) -> list[Path]:
    """Return the config files of ``--config``: a path, or a name in the bundle such as ``multi_gpu_train.yaml``.

    A config that is not of the bundle is named in the log, since MONAI executes the expressions in it.

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


def check_config(files: Sequence[str]) -> None:
    """Check the command line and the knobs before anything is built. Called first by ``initialize`` of the configs.

    Under ``python -m monai.bundle run``, the cause of an error is repeated after the traceback, in which MONAI's own
    message comes last.

    Args:
        files: names of the config files with the knobs, such as ``["train.yaml"]``.

    Raises:
        UsageError: if the value of a knob has a wrong type or is outside its range, or MONAI would read a path of the
            command line as syntax.
    """
    if _command_line_configs():
        explain_errors()
    check_command_line()
    check_knobs(files)


def explain_errors() -> None:
    """Repeat the cause of an uncaught error after its traceback, in which MONAI's own message comes last."""
    sys.excepthook = _print_error


def check_command_line() -> None:
    """Warn about ids in ``python -m monai.bundle run ...`` that no config has.

    MONAI ignores unknown ids silently: ``--epochz 9`` trains for 300 epochs.

    Raises:
        UsageError: if MONAI would read a path as syntax; or if MONAI's own settings for MLflow are used, which expect
            a trainer whose output is a list.
    """
    options = dict(_command_line_options())
    files = [file for file in _command_line_configs() if Path(file).is_file()]
    if not files:
        return
    if (tracking := options.get("tracking", "")) == "mlflow":
        settings = installed_bundle() / "configs" / "mlflow.yaml"
        raise UsageError("tracking", "MONAI's settings do not fit this training", advice=f"use --tracking {settings}")
    files += [tracking] if Path(tracking).is_file() else []
    # MONAI's own command accepts expressions and references as values.
    for error in misread_paths({name: value for name, value in options.items() if not value.startswith(("$", "@"))}):
        raise error
    for error in unknown_ids(options, files):
        logger.warning("%s (it has no effect)", error)


def prepare_run(
    device: Any,
    window: str | Sequence[int],
    patch_size: Sequence[int] | None = None,
    seed: int | None = None,
    augment_on_device: bool = False,
    num_workers: int = 0,
) -> None:
    """Prepare the process before anything is built. Called by ``initialize`` of the configs.

    Args:
        device: the device of the run. The value is not used. A distributed run joins its process group when MONAI
            resolves this argument, which must happen before the processes are counted.
        window: ``brain``, or the voxels of a sliding window.
        patch_size: voxels of a training crop; None if nothing is trained.
        seed: random seed; None leaves the random number generators as they are.
        augment_on_device: crop and augment on the device.
        num_workers: processes for augmentation.

    Raises:
        UsageError: if a knob is outside its range.
    """
    from monai.utils import set_determinism

    from brats3d.files import use_huge_pages
    from brats3d.networks import check_flag, check_window

    use_huge_pages()
    if patch_size is not None:
        check_window("patch_size", patch_size)
    check_window("window", window, or_brain=True)
    if check_flag("augment_on_device", augment_on_device) and num_workers:  # forked processes cannot use a GPU
        raise UsageError("num_workers", expected="0 with augment_on_device", found=num_workers)
    if seed is not None:
        set_determinism(seed)


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

    Knobs at their defaults are omitted, and so are knobs whose default is computed, because it depends on the machine.

    Args:
        workflow: ``pretrain``, ``train`` or ``evaluate``.
        settings: knob -> value, with the output_dir. Names that are not knobs are ignored.
    """
    import yaml

    defaults = {knob.name: yaml.safe_load(knob.default) for knob in read_knobs(config_files(workflow))}
    changed = {}
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(default, str) and default.startswith("@"):  # the value of another knob
            default = settings.get(default[1:])
        computed = isinstance(default, str) and default.startswith("$")
        if name in defaults and name not in ("dataset_dir", "output_dir") and not computed and value != default:
            changed[name] = value
    words = ["brats3d", workflow]
    if workflow != "pretrain":
        folder = settings.get("dataset_dir") or "DATASET_DIR"
        if not isinstance(folder, str):  # brats3d accepts one folder, the configs several
            return command_line(workflow, {"dataset_dir": folder, "output_dir": settings["output_dir"], **changed})
        words.append(folder)
    words += ["--output", settings["output_dir"]]
    plain = {None: "null", True: "true", False: "false"}
    for name, value in changed.items():
        words += [f"--{name}", plain[value] if value is None or isinstance(value, bool) else str(value)]
    return " ".join(map(_quoted, words))


def run_workflow(workflow: str, overrides: Mapping[str, Any], overlays: Iterable[str | Path] = ()) -> ConfigWorkflow:
    """Run a workflow of the installed bundle in this process.

    Args:
        workflow: ``pretrain``, ``train``, ``evaluate`` or ``predict``.
        overrides: id -> value; they are not checked.
        overlays: config files that follow those of the workflow.

    Returns:
        MONAI's workflow, after it has run.
    """
    files = config_files(workflow, overlays)
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
    return run


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    if (cause := cause_of(error)) is not error:
        print(f"\nbrats3d: error: {cause}", file=sys.stderr)


def _quoted(text: str) -> str:
    """Quote a word for a shell: in double quotes if it contains single quotes and nothing that a shell would expand."""
    return f'"{text}"' if "'" in text and not set('"$`!\\') & set(text) else shlex.quote(text)


def _command_line_options() -> Iterator[tuple[str, str]]:
    """Yield (name, value) of every ``--name value`` and ``--name=value`` of this process."""
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            yield name.replace("-", "_"), value if equals else next(arguments, "")


def _command_line_configs() -> list[str]:
    value = dict(_command_line_options()).get("config_file", "")
    if value.startswith(("[", "(")):
        try:
            return [str(file) for file in ast.literal_eval(value)]
        except (ValueError, SyntaxError):
            return []
    return [file for file in value.split(",") if file]


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
