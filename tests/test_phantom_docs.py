"""The page about phantoms agrees with the code: its pictures, ranges, steps and links."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "phantoms.md"


def script(name: str) -> ModuleType:
    """Import a script of docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up annotations here
    spec.loader.exec_module(module)
    return module


def pictures_on(page: Path) -> list[tuple[str, Path]]:
    """Return alternative text and file of each picture on a page."""
    return [(text, page.parent / file) for text, file in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text())]


def test_every_picture_exists_and_is_described() -> None:
    shown = pictures_on(PAGE)
    for text, file in shown:
        assert file.is_file(), file
        assert len(text) > 15, file
    assert len({text for text, _ in shown}) == len(shown)
    made = {DOCS / "phantoms" / f"{name}.jpg" for name in script("phantom_pictures").names()}
    assert {file for _, file in shown} == made == set((DOCS / "phantoms").iterdir())


def test_the_pictures_are_small() -> None:
    assert sum(file.stat().st_size for file in (DOCS / "phantoms").iterdir()) < 2.5e6


def test_the_ranges_on_the_page_are_those_of_the_code() -> None:
    ranges = script("phantom_ranges")
    assert ranges.START + ranges.table() + ranges.END in PAGE.read_text(), "run python docs/phantom_ranges.py"


def test_every_step_named_on_the_page_exists() -> None:
    table = script("phantom_ranges").table()
    steps = PAGE.read_text().partition("## 1. The atlas")[2].partition("## The settings")[0]
    functions = {"place_head", "strip_skull", "move_ventricles", "place_foci", "push_tissue", "draw_contrast"}
    for name in re.findall(r"`(\w+)`", steps):
        assert name in functions or f"`{name}`" in table, name


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(((?!http|#)[^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target


@pytest.mark.slow
def test_the_pictures_can_be_made(tmp_path: Path) -> None:
    pictures = script("phantom_pictures")
    pictures.main(["--size", "small", "--output", str(tmp_path)])
    made = sorted(tmp_path.iterdir())
    assert sorted(file.stem for file in made) == sorted(pictures.names())
    for file in made:
        with Image.open(file) as picture:
            assert min(picture.size) > 100
            assert max(picture.convert("L").getextrema()) > 100
