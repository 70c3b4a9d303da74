"""Bundle runs on the smallest phantoms, with a network small enough for seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from brats3d.bundle import config_files, installed_bundle
from brats3d.phantoms import write_phantoms

TINY: dict[str, Any] = {
    "patch_size": [32, 32, 32],
    "network_def#channels": [4, 8, 8, 8, 8],
    "epochs": 2,
    "amp": False,  # the same numbers on every CPU
    "device": "cpu",
}

NOT_KNOBS = {"predict": ("patch_size", "epochs"), "pretrain": ("epochs",)}
"""Knobs among these that a workflow does not have."""


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small cases: three train, one validates."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=4, seed=3, size="small", progress=False)
    return folder


@pytest.fixture(scope="session")
def workflow() -> Callable[..., ConfigWorkflow]:
    """``workflow("train", dataset_dir=..., epochs=...)``: an initialised workflow of the bundle, tiny by default.

    An overlay may have another network, which is as large as its overrides make it.
    """

    def make(name: str, *overlays: Path, **overrides: Any) -> ConfigWorkflow:
        others = (*NOT_KNOBS.get(name, ()), *(["network_def#channels"] if overlays else []))
        tiny = {k: v for k, v in TINY.items() if k not in others}
        made = ConfigWorkflow(
            config_file=[str(file) for file in config_files(name, overlays)],
            workflow_type="infer" if name == "predict" else "train",
            logging_file=False,
            bundle_root=str(installed_bundle()),
            **{**tiny, **{k: str(v) if isinstance(v, Path) else v for k, v in overrides.items()}},
        )
        made.initialize()
        return made

    return make


@pytest.fixture(scope="session")
def trained(phantoms: Path, workflow: Callable[..., ConfigWorkflow], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished training of two epochs."""
    output = tmp_path_factory.mktemp("runs") / "fold0"
    workflow("train", dataset_dir=phantoms, output_dir=output).run()
    return output
