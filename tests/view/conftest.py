"""A run with a prediction and a reference of each case, and an output folder of predict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats3d.files import WrittenFiles
from tests.report.conftest import build_run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four cases, whose data set is beside it; tests must not change it."""
    return build_run(tmp_path_factory.mktemp("viewed"))


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """An output folder of ``predict --stats`` with two of the cases."""
    folder = tmp_path / "out"
    files = WrittenFiles(folder, "predictions.jsonl")
    for number, path in enumerate(sorted((built / "segmentations").glob("*.nii.gz"))[:2]):
        folder.mkdir(exist_ok=True)
        case_id = path.name.removesuffix(".nii.gz")
        source = {"folder": str(built.parent / "data" / case_id), "images": {"flair": "0"}}
        files.write(folder / path.name, lambda file, path=path: file.write(path.read_bytes()), "x", source)
        regions = {region: {"predicted_dice": 0.9 - number / 2} for region in ("WT", "TC", "ET")}
        (folder / f"{case_id}.json").write_text(json.dumps({"regions": regions}))
    return folder
