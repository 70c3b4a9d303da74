"""The reference of errors lists the messages and the advice of the code."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from brats3d.labels import CONVENTIONS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    """Return the advice of each message."""
    spec = importlib.util.spec_from_file_location("raised_errors", DOCS / "raised_errors.py")
    assert spec and spec.loader
    module = sys.modules["raised_errors"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {error.message: error.advice for error in module.raised_errors()}


def test_advice_of_the_raise_is_listed_with_its_message(errors: dict[str, str]) -> None:
    assert errors["dataset_dir: not given; expected a folder with BraTS cases"] == "pass --dataset_dir DIR"
    assert errors["onnx: is not installed"] == 'pip install "brats3d[onnx]"'


def test_constants_and_local_variables_are_filled_in(errors: dict[str, str]) -> None:
    assert f"label_convention: expected one of {', '.join(CONVENTIONS)}" in errors
    (advice,) = [advice for message, advice in errors.items() if "its label convention is unknown" in message]
    assert advice == "pass --ref-labels NAME"
    assert errors["…: lists no case under training or test"] == "download it again"


def test_what_varies_is_an_ellipsis(errors: dict[str, str]) -> None:
    assert errors["output_dir: … holds a run, and resume is 'never'"].startswith("choose another --output_dir")
    assert not [message for message in errors if re.search(r"…\w|[{}]{2}|None", message)]


def test_messages_of_nearly_every_raise_have_words(errors: dict[str, str]) -> None:
    raises = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "brats3d").rglob("*.py"))
    assert len(errors) > 0.8 * len(re.findall(r"\b(?:Usage|NotFound|Data)Error(?:\.of_many)?\(", raises))
