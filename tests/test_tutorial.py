"""docs/tutorial.ipynb: its outputs are those of a whole run, and it runs on phantoms and on both forms from Kaggle."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from brats3d.phantoms import write_phantoms
from tests.test_phantom_docs import script

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
PICTURES = 7
SMALL = {"CASES": 7, "EPOCHS": 1, "PATCH": 32, "SIZE": "small"}


@pytest.fixture(scope="module")
def committed() -> nbformat.NotebookNode:
    return nbformat.read(TUTORIAL, as_version=4)


@pytest.fixture(scope="module")
def kaggle_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both data sets attached, each with eight synthetic cases, of which one is not to be used."""
    root = tmp_path_factory.mktemp("kaggle") / "input"
    nifti = root / "brats20-dataset-training-validation" / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    write_phantoms(nifti, 8, size="small", progress=False)
    write_phantoms(root / "brats2020-training-data", 8, size="small", layout="h5", progress=False)
    return root


def texts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Return cell id -> its outputs as text, without pictures."""
    found = {}
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        parts = [out.get("text", "") for out in outputs]
        parts += [text for out in outputs for kind, text in out.get("data", {}).items() if kind.startswith("text/")]
        found[cell.id] = "\n".join(parts)
    return found


def check_outputs(notebook: nbformat.NotebookNode) -> None:
    """Assert that every cell ran, in order, that pictures were drawn, and that the tables have scores."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ran = [cell.execution_count for cell in code if "skip-execution" not in cell.metadata.get("tags", [])]
    assert ran == list(range(1, len(ran) + 1))
    outputs = [out for cell in code for out in cell.outputs]
    assert {out.output_type for out in outputs} <= {"stream", "display_data", "execute_result"}
    assert {out.name for out in outputs if out.output_type == "stream"} == {"stdout"}  # no warnings
    pictures = [out.data["image/jpeg"] for out in outputs if "image/jpeg" in out.get("data", {})]
    assert len(pictures) == PICTURES and min(map(len, pictures)) > 5000
    shown = texts(notebook)
    for table in ("score-table", "comparison"):
        for region in ("WT", "TC", "ET"):
            row = re.search(rf"^{region} (.*)$", shown[table], re.MULTILINE)
            assert row and all(0 <= float(dice) <= 1 for dice in row[1].split()), shown[table]
    assert "finished: best mean Dice" in shown["train"]


def test_the_outputs_in_the_repository_are_those_of_a_whole_run(committed: nbformat.NotebookNode) -> None:
    check_outputs(committed)


def test_the_outputs_contain_no_path_and_no_progress_bar(committed: nbformat.NotebookNode) -> None:
    for cell_id, text in texts(committed).items():
        assert not re.search(r"(?<![\w<.])/\w[\w.-]*/|[A-Z]:\\|\r|it/s|█", text), cell_id
    assert TUTORIAL.stat().st_size < 700_000


def test_links_to_files_are_valid(committed: nbformat.NotebookNode) -> None:
    prose = "\n".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", prose) if "://" not in link]
    assert len(links) > 3
    assert [link for link in links if not (TUTORIAL.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("data", ["phantoms", "kaggle-nifti", "kaggle-h5"])
def test_it_runs(data: str, kaggle_input: Path, tmp_path: Path) -> None:
    attached = sorted(kaggle_input.rglob("*"))
    notebook = script("run_tutorial").run_tutorial(tmp_path, DATA=data, KAGGLE_INPUT=str(kaggle_input), **SMALL)
    check_outputs(notebook)
    shown = texts(notebook)
    assert shown["cases"].startswith("7 cases, such as BraTS20_Training_001")
    assert sorted(kaggle_input.rglob("*")) == attached
    assert {path.name for path in tmp_path.iterdir()} == {"tutorial"}
