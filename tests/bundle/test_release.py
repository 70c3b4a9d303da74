"""The source distribution and the context of the container are complete; the files that state the version agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

import brats3d

ROOT = Path(__file__).parents[2]
VERSIONED = {
    "CHANGELOG.md": r"## \[",
    "docs/deploy/README.md": "--tag brats3d:",
    "docs/deploy/app.yaml": "version: ",
}
"""The text before the version, for each file."""


def test_the_source_distribution_contains_every_tracked_file(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, capture_output=True, check=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in tracked if name and name not in names} == set()


def test_the_citation_states_the_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == brats3d.__version__


def test_the_changelog_and_the_pages_state_the_version() -> None:
    for name, before in VERSIONED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(before + r"(\d+\.\d+\.\d+)", text)[1] == brats3d.__version__, name


def test_the_context_of_the_container_suffices_to_build_the_wheel(tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    names = [line[1:] for line in lines if line.startswith("!")]
    apptainer = (ROOT / "brats3d.def").read_text(encoding="utf-8")
    assert [name for name in names if f" {name} /opt/brats3d/{name}\n" not in apptainer] == []
    context = tmp_path / "context"
    context.mkdir()
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, context / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(context)]
    subprocess.run(build, capture_output=True, check=True)
    assert len(list(tmp_path.glob("*.whl"))) == 1
