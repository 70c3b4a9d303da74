"""The commands of the site's first pages run, in their order, on small synthetic cases and with short trainings.

A comment ``<!-- set up: COMMAND -->`` is run as well; a block after ``<!-- not run: REASON -->`` is not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from brats3d.bundle import installed_bundle

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "get-started.md", *sorted((DOCS / "howto").glob("*.md"))]
STEP = re.compile(
    r"<!-- set up: (?P<setup>.+?) -->|(?P<skip><!-- not run: .+? -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
SHORT = {"--epochs": "1", "--patch_size": "[32,32,32]", "--device": "cpu"}

WRAPPER = f"""#!{sys.executable}
import subprocess, sys
arguments, short = sys.argv[1:], {SHORT}
if arguments[0] in ("train", "evaluate", "crossval"):
    for name, value in short.items():
        if name in arguments:
            arguments[arguments.index(name) + 1] = value
        else:
            arguments += [name, value]
sys.exit(subprocess.call([sys.executable, "-m", "brats3d", *arguments]))
"""


def steps(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of what is to be run."""
    found = []
    for step in STEP.finditer(page.read_text(encoding="utf-8")):
        if step["setup"]:
            found.append(("sh", step["setup"]))
        elif not step["skip"]:
            found.append((step["language"], step["code"]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    assert {language for language, _ in steps(page)} <= {"sh", "python"}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "brats3d").write_text(WRAPPER)
    (tmp_path / "bin" / "brats3d").chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "bundle").symlink_to(installed_bundle())
    path = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    for language, code in steps(page):
        command = ["sh", "-e", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(
            command,
            cwd=tmp_path / "work",
            env={**os.environ, "PATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
