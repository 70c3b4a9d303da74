"""The documentation: its links are valid, and the commands and options in it exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from brats3d.bundle import WORKFLOWS, config_files
from brats3d.cli import cli
from brats3d.config_reader import read_knobs

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    ROOT / "bundle" / "docs" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
COMMAND = re.compile(r"^(?:\$ )?brats3d (\w+)(.*)$", re.MULTILINE)


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_to_files_are_valid(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_to_other_sites_are_well_formed(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]*://[^)\s]*)", page.read_text(encoding="utf-8")):
        url = urlsplit(link)
        assert url.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+", url.netloc), link


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, rest in COMMAND.findall(text):
        command = cli.commands.get(name)
        assert isinstance(command, click.Command), f"brats3d {name}"
        known = {option for parameter in command.params for option in parameter.opts}
        if name in WORKFLOWS:
            known |= {f"--{knob.name}" for knob in read_knobs(config_files(name))}
        for option in re.findall(r"(?<!\S)--[\w-]+", rest.partition("#")[0]):
            assert option in known or "#" in rest.partition(option)[2][:1], f"brats3d {name} {option}"


def test_the_tables_of_knobs_name_knobs() -> None:
    for page, workflow in (("training", "train"), ("inference", "predict")):
        knobs = {knob.name for knob in read_knobs(config_files(workflow))}
        named = re.findall(r"^\| `--(\w+)", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert len(named) >= 5
        assert set(named) <= knobs


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_contributing_describes_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "brats3d").glob("*/__init__.py")}
    assert {name for name in packages if f"`{name}/`" not in text} == set()
