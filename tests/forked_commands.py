"""Run Python commands in forks of a process that has imported torch and MONAI, which takes longer than most of them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["brats3d.training.run", "brats3d.inference.run", "brats3d.report.make", "monai.bundle"]
)


def run_python(arguments: Sequence[str], folder: Path, log: Path) -> int:
    """Run ``python ARGUMENTS`` (``-m MODULE ...`` or ``-c CODE``) in the folder, and return its exit code.

    What it prints is written to the log.
    """
    process = _CONTEXT.Process(target=_run, args=(list(arguments), folder, log))
    process.start()
    process.join(timeout=600)
    assert process.exitcode is not None, "timeout"
    return process.exitcode


def _run(arguments: list[str], folder: Path, log: Path) -> None:
    option, program, *rest = arguments
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.argv = [program, *rest]
    if option == "-c":
        exec(program, {"__name__": "__main__"})
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
