"""Two phantoms in the forms that can be converted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from brats3d.phantoms import write_phantoms


@pytest.fixture(scope="package")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same two phantoms as NIfTI, HDF5 slices and Decathlon task. Read only."""
    root = tmp_path_factory.mktemp("originals")
    for layout in ("brats2020", "h5", "msd"):
        write_phantoms(root / layout, 2, 3, "small", layout=layout, setting="plain", progress=False)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def h5(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the HDF5 slices, in a folder whose path has spaces and letters beyond ASCII."""
    return shutil.copytree(originals["h5"], tmp_path / "Kaggle Dätä" / "BraTS 2020")
