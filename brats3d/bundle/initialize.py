"""Checks and preparations that ``initialize`` of the configs calls before anything is built."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from brats3d.bundle.monai_arguments import command_line_configs, command_line_options
from brats3d.bundle.overrides import misread_paths, unknown_ids
from brats3d.config_reader import installed_bundle
from brats3d.errors import UsageError
from brats3d.files import cause_of
from brats3d.knob_checks import check_knobs

logger = logging.getLogger("brats3d")


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
    if command_line_configs():
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
    options = dict(command_line_options())
    files = [file for file in command_line_configs() if Path(file).is_file()]
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


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    if (cause := cause_of(error)) is not error:
        print(f"\nbrats3d: error: {cause}", file=sys.stderr)
