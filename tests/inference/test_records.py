"""Records of what was segmented: only what is whole, and made from the same, counts as done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats3d.inference.records import RECORDS_NAME, Predictions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recorded cases, one of them with a preview."""
    for name in ("a.nii.gz", "a.png", "b.nii.gz"):
        (tmp_path / name).write_text(name)
    predictions = Predictions(tmp_path)
    predictions.add("a", "x", ["a.nii.gz", "a.png"])
    predictions.add("b", "x", ["b.nii.gz"])
    return tmp_path


def test_a_case_is_done_if_its_files_are_what_was_recorded_and_made_from_the_same(folder: Path) -> None:
    read = Predictions(folder)
    assert read.names == {"a.nii.gz", "a.png", "b.nii.gz"}
    assert read.is_done("a", "x", ["a.nii.gz", "a.png"]) and read.is_done("a", "x", ["a.nii.gz"])
    assert not read.is_done("a", "y", ["a.nii.gz"])
    assert not read.is_done("b", "x", ["b.nii.gz", "b.png"])
    assert not read.is_done("c", "x", ["a.nii.gz"])
    (folder / "a.png").write_text("other")
    (folder / "b.nii.gz").unlink()
    assert not read.is_done("a", "x", ["a.nii.gz", "a.png"])
    assert not read.is_done("b", "x", ["b.nii.gz"])


def test_the_last_record_of_a_case_counts(folder: Path) -> None:
    (folder / "a.nii.gz").write_text("new")
    Predictions(folder).add("a", "y", ["a.nii.gz"])
    read = Predictions(folder)
    assert read.is_done("a", "y", ["a.nii.gz"]) and not read.is_done("a", "x", ["a.nii.gz"])
    assert not read.is_done("a", "y", ["a.nii.gz", "a.png"]), "the preview is of an earlier segmentation"


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_torn_record_does_not_count_and_does_not_spoil_the_next(cut: int, folder: Path) -> None:
    path = folder / RECORDS_NAME
    path.write_bytes(path.read_bytes()[: -1 - cut])
    torn = Predictions(folder)
    assert torn.is_done("a", "x", ["a.nii.gz"]) and not torn.is_done("b", "x", ["b.nii.gz"])
    torn.add("b", "x", ["b.nii.gz"])
    read = Predictions(folder)
    assert read.is_done("a", "x", ["a.nii.gz"]) and read.is_done("b", "x", ["b.nii.gz"])


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"notes\n", b"[1]\n", b'{"case_id": 1}\n', b'{"case_id": "a"}'])
def test_what_is_no_record_is_passed_over(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORDS_NAME).write_bytes(content)
    assert Predictions(tmp_path).names == set()
    assert not Predictions(tmp_path).is_done("a", "x", [])


def test_a_file_that_is_not_there_is_not_recorded(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"c\.nii\.gz"):
        Predictions(folder).add("c", "x", ["c.nii.gz"])
    assert {json.loads(line)["case_id"] for line in (folder / RECORDS_NAME).read_text().split("\n") if line} == {
        "a",
        "b",
    }


def test_runs_of_a_share_record_in_files_of_their_own_and_read_all(folder: Path) -> None:
    (folder / "c.nii.gz").write_text("c")
    Predictions(folder, "predictions-2-of-3.jsonl").add("c", "x", ["c.nii.gz"])
    assert "c.nii.gz" not in (folder / RECORDS_NAME).read_text()
    assert (folder / "predictions-2-of-3.jsonl").is_file()
    for name in (RECORDS_NAME, "predictions-1-of-3.jsonl", "predictions-2-of-3.jsonl"):
        read = Predictions(folder, name)
        assert read.is_done("a", "x", ["a.nii.gz"]) and read.is_done("c", "x", ["c.nii.gz"])
        assert read.names == {"a.nii.gz", "a.png", "b.nii.gz", "c.nii.gz"}


@pytest.mark.parametrize("name", ["predictions_notes.jsonl", "predictions-1.jsonl", "predictions-1-of-2.jsonl"])
def test_a_file_of_another_name_is_not_read_and_nothing_in_one_stops_a_run(name: str, folder: Path) -> None:
    record = json.dumps({"case_id": "z", "made_from": "x", "files": {"z.nii.gz": ""}})
    (folder / name).write_text("[" * 200_000 + "\n" + record + "\n")
    assert ("z.nii.gz" in Predictions(folder).names) == ("-of-" in name)


def test_of_two_files_that_record_a_case_the_one_counts_that_tells_its_content(folder: Path) -> None:
    for suffix, content in (("-1-of-2", "new"), ("-2-of-2", "newest"), ("-1-of-3", "new")):
        (folder / "a.nii.gz").write_text(content)
        Predictions(folder, f"predictions{suffix}.jsonl").add("a", content, ["a.nii.gz"])
    read = Predictions(folder)
    assert [read.is_done("a", made_from, ["a.nii.gz"]) for made_from in ("x", "newest", "new")] == [False, False, True]
