"""The commands and the Python code of the site's pages run, in their order, on small synthetic cases.

Phantoms are small and trainings short (``SHORT``). A comment ``<!-- set up: COMMAND -->`` is run as well; a block after
``<!-- not run: REASON -->`` is not.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from brats3d.bundle import installed_bundle
from tests.forked_commands import run_python

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    *(README, ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", ROOT / "bundle" / "docs" / "README.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]
STEP = re.compile(
    r"<!-- set up: (?P<setup>.+?) -->"
    r"|(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RUN = {"sh", "python"}
SHOWN = {"text", "json", "yaml"}
COMMAND = re.compile(r"^(?:\$ )?(?:brats3d|python3?|pip|torchrun|make|docker) ", re.MULTILINE)
README_SETUP = [
    "mkdir -p .venv/bin && touch .venv/bin/activate",
    "brats3d phantom DIR --cases 2 --size small",
    "mkdir CASE_OR_DIR cases && cp -r DIR/BraTS20_Training_001 CASE_OR_DIR && cp -r DIR/BraTS20_Training_002 cases",
]
README_NOT_RUN = {"make demo": "the continuous integration runs both"}
TRAINING = {"--epochs": "1", "--patch_size": "[32,32,32]"}
SHORT = {
    "phantom": {"--size": "small"},
    **dict.fromkeys(("train", "evaluate", "crossval"), TRAINING),
}
"""Options that the tests change, or add, by command."""


def steps(page: Path) -> list[tuple[str, str, str]]:
    """Return the language, the text and the reason not to run it ("" if it is run) of each block, set-ups included."""
    found = [("sh", command, "") for command in README_SETUP] if page == README else []
    for step in STEP.finditer(page.read_text(encoding="utf-8")):
        if step["setup"]:
            found.append(("sh", step["setup"], ""))
        elif page == README:
            reasons = [reason for start, reason in README_NOT_RUN.items() if step["code"].startswith(start)]
            found.append((step["language"] or "sh", step["code"], *(reasons or [""])))
        elif not step["language"].startswith("{"):
            found.append((step["language"], step["code"], step["reason"] or ""))
    return found


def is_run(language: str, code: str, reason: str) -> bool:
    return language in RUN and not reason


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix().removesuffix(".md")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for language, code, reason in steps(page):
        assert language in RUN | SHOWN, code
        assert language in RUN or not (COMMAND.search(code) or reason), code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_reasons_name_tests_and_pages_that_exist(page: Path) -> None:
    for *_, reason in steps(page):
        for file in re.findall(r"[\w/-]+\.(?:py|md)\b", reason):
            assert (ROOT / file).is_file(), reason


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(is_run(*step) for step in steps(page))], ids=name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "bundle").symlink_to(installed_bundle())
    (work / "docs").symlink_to(ROOT / "docs")
    for language, code, _ in filter(lambda step: is_run(*step), steps(page)):
        if language == "python":
            run(["python", "-c", code], work)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                run(shlex.split(line, comments=True), work, line)


def run(words: list[str], work: Path, line: str = "") -> None:
    """Run a command in the folder, with the options of ``SHORT``, and without starting Python anew if possible."""
    log = work.parent / "log"
    if words[:1] == ["brats3d"]:
        words = ["python", "-m", *words]
    if words[:1] == ["torchrun"]:
        words = [re.sub("(?<=--nproc_per_node=).*", "2", word) for word in words]
    words = shortened(words)
    if words[:1] == ["python"] and not re.search(r"[$|>]|&&", line):
        code = run_python(words[1:], work, log)
    else:
        command = shlex.join(words) if words[:1] == ["torchrun"] else line
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        with log.open("w") as file:
            code = subprocess.run(
                ["bash", "-e", "-c", command],
                cwd=work,
                env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=file,
                timeout=600,
            ).returncode
    assert code == 0, f"{line or words}\n{log.read_text()}"


def shortened(words: list[str]) -> list[str]:
    command = words[3] if words[1:3] == ["-m", "brats3d"] else "train" if "train.yaml" in " ".join(words) else ""
    words = list(words)
    for option, value in SHORT.get(command, {}).items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words
