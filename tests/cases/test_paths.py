"""Paths that a user gives."""

from __future__ import annotations

import pytest

from brats3d.cases.paths import check_folder
from brats3d.errors import NotFoundError, UsageError


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert check_folder("data") == tmp_path / "data"


def test_a_folder_must_exist(tmp_path):
    with pytest.raises(NotFoundError) as error:
        check_folder(tmp_path / "nowhere")
    assert error.value.subject == "dataset_dir"


@pytest.mark.parametrize("folder", ["", " ", None, "file.zip", "a#b", "a::b", "$x", "@x", "%x"])
def test_a_file_and_a_path_that_monai_would_misread_are_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.zip").touch()
    for name in ("a#b", "a::b", "$x", "@x", "%x"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError) as error:
        check_folder(folder, "output")
    assert error.value.subject == "output"
