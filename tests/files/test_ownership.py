"""Ownership of files: only what brats3d wrote, and what nobody changed since, may be replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from brats3d.errors import UsageError
from brats3d.files.ownership import (
    PREDICTIONS_NAME,
    RECORD_NAME,
    ChangedFileError,
    WrittenFiles,
    check_replaceable,
    write_owned,
)


def write(folder: Path, name: str, content: str, made_from: str = "x", record: str = PREDICTIONS_NAME) -> None:
    WrittenFiles(folder, record).write(folder / name, lambda file: file.write(content.encode()), made_from)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases, one of them with a preview, all made from x."""
    for name in ("a.nii.gz", "a.png", "b.nii.gz"):
        write(tmp_path, name, name)
    return tmp_path


def owned(folder: Path, name: str) -> bool:
    try:
        WrittenFiles(folder).check_replaceable([name])
    except UsageError as error:
        assert error.subject == "output_dir" and str(folder / name) in error.problem
        return False
    return True


def test_a_file_may_be_replaced_only_if_it_is_missing_or_unchanged(folder: Path) -> None:
    assert owned(folder, "a.png") and owned(folder, "new.png")
    (folder / "a.png").write_text("corrected by hand")
    (folder / "new.png").write_text("a.png ")
    (folder / "link.png").symlink_to(folder / "nowhere")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    assert not any(owned(folder, f"{name}.png") for name in ("a", "new", "link", "folder", "pipe"))
    (folder / "a.png").write_text("a.png")
    assert owned(folder, "a.png"), "its content is what was written"


def test_the_error_names_the_argument_and_distinguishes_changed_from_unknown_files(folder: Path) -> None:
    (folder / "a.png").write_text("changed")
    (folder / "c.png").write_text("unknown")
    for name, word in (("a.png", "changed"), ("c.png", "not written")):
        with pytest.raises(UsageError) as caught:
            check_replaceable(folder / name, "output")
        assert caught.value.subject == "output" and word in caught.value.problem


def test_a_single_file_is_recorded_in_a_hidden_file_of_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "scores" / "scores.json"
    check_replaceable(path, "output")
    assert write_owned(path, lambda file: file.write(b"1")) == path
    write_owned(path, lambda file: file.write(b"2"))
    check_replaceable(path, "output")
    assert sorted(file.name for file in path.parent.iterdir()) == [RECORD_NAME, "scores.json"]


def test_a_process_killed_before_the_rename_leaves_files_that_may_be_replaced(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for name in ("a.png", "c.png"):
        with pytest.raises(KeyboardInterrupt):
            write(folder, name, "new", "y")
    assert owned(folder, "a.png") and owned(folder, "c.png")
    files = WrittenFiles(folder)
    assert files.are_unchanged(["a.png"], "x") and not files.are_unchanged(["a.png"], "y")


def test_files_are_unchanged_if_they_were_written_from_the_same_input(folder: Path) -> None:
    files = WrittenFiles(folder)
    assert files.are_unchanged(["a.nii.gz", "a.png"], "x") and files.are_unchanged(["a.nii.gz"], "x")
    assert not files.are_unchanged(["a.nii.gz"], "y")
    assert not files.are_unchanged(["b.nii.gz", "b.png"], "x")
    (folder / "a.png").write_text("other")
    (folder / "b.nii.gz").unlink()
    assert not files.are_unchanged(["a.nii.gz", "a.png"], "x")
    assert not files.are_unchanged(["b.nii.gz"], "x")


def test_a_file_written_again_belongs_to_the_later_run(folder: Path) -> None:
    write(folder, "a.nii.gz", "new", "y")
    files = WrittenFiles(folder)
    assert files.are_unchanged(["a.nii.gz"], "y") and not files.are_unchanged(["a.nii.gz"], "x")
    assert not files.are_unchanged(["a.nii.gz", "a.png"], "y"), "the preview is of an earlier segmentation"


@pytest.mark.parametrize("cut", range(1, 120, 17))
def test_an_incomplete_line_is_ignored_and_the_next_one_is_read(cut: int, folder: Path) -> None:
    path = folder / PREDICTIONS_NAME
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert owned(folder, "a.png") and not owned(folder, "b.nii.gz")
    write(folder, "b.nii.gz", "b.nii.gz")
    assert owned(folder, "a.png") and owned(folder, "b.nii.gz")


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"notes\n", b"[1]\n", b'{"made_from": 1}\n', b"[" * 200_000])
def test_other_content_in_a_record_is_ignored(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_bytes(content)
    write(tmp_path, "a", "a", record=RECORD_NAME)
    assert owned(tmp_path, "a")


@pytest.mark.parametrize(
    ("name", "is_record"),
    [
        ("predictions-2-of-3.jsonl", True),
        (".brats3d-2-of-3.jsonl", True),
        ("predictions-2.jsonl", False),
        ("predictions_notes.jsonl", False),
    ],
)
def test_each_shard_has_its_own_record_and_all_records_are_read(name: str, is_record: bool, folder: Path) -> None:
    write(folder, "c.nii.gz", "c", record=name)
    assert "c.nii.gz" not in (folder / PREDICTIONS_NAME).read_text()
    assert owned(folder, "a.nii.gz") and owned(folder, "c.nii.gz") is is_record


def test_records_of_version_1_are_understood(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz", "a")
    line = json.loads((tmp_path / PREDICTIONS_NAME).read_text())
    (tmp_path / PREDICTIONS_NAME).write_text(json.dumps({"case_id": "a", **line}))
    assert owned(tmp_path, "a.nii.gz")


def test_a_file_changed_after_the_check_is_kept(folder: Path) -> None:
    files = WrittenFiles(folder, PREDICTIONS_NAME)
    files.check_replaceable(["a.nii.gz"])
    (folder / "a.nii.gz").write_text("corrected")
    with pytest.raises(ChangedFileError) as caught:
        files.write(folder / "a.nii.gz", lambda file: file.write(b"new"), "y")
    assert caught.value.subject == "output_dir" and files.changed(["a.nii.gz", "b.nii.gz"]) == ["a.nii.gz"]
    assert (folder / "a.nii.gz").read_text() == "corrected"
    assert not list(folder.glob(".*.tmp"))


def test_a_file_that_another_process_has_written_since_may_be_replaced(folder: Path) -> None:
    files = WrittenFiles(folder, PREDICTIONS_NAME)
    write(folder, "a.nii.gz", "of another shard", "y", "predictions-2-of-3.jsonl")
    files.write(folder / "a.nii.gz", lambda file: file.write(b"new"), "y")
    assert (folder / "a.nii.gz").read_text() == "new"


def test_the_source_of_a_file_is_recorded(folder: Path) -> None:
    files = WrittenFiles(folder)
    files.write(folder / "a.nii.gz", lambda file: file.write(b"new"), "y", {"folder": "d"})
    read = WrittenFiles(folder)
    assert [version.source for version in read.versions("a.nii.gz")] == [{"folder": "d"}]
    (folder / "a.nii.gz").write_text("corrected")
    assert sorted(version.made_from for version in read.versions("a.nii.gz")) == ["x", "y"]
    assert read.versions("none") == [] and not WrittenFiles(folder / "empty").has_record
