"""The check of all segmentations before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brats3d.cases import label_convention
from brats3d.cases.check_segmentations import check_segmentations
from brats3d.cases.load import load_fold
from brats3d.cases.split import split_dataset
from brats3d.errors import DataError
from brats3d.files import read_volume


def change_labels(root: Path, write_nifti, table: dict[int, int]) -> None:
    for path in root.rglob("*_seg.nii.gz"):
        values = read_volume(path).values
        write_nifti(path, np.vectorize(lambda v: table.get(int(v), int(v)))(values).astype(np.uint8))


@pytest.fixture
def cases(tmp_path: Path, write_case) -> Path:
    """Five cases whose names leave the convention open."""
    for number in range(5):
        write_case(tmp_path / "data" / f"P{number}", seed=number)
    return tmp_path / "data"


def items(root: Path, **options) -> list[dict]:
    return load_fold(root, "training", **options) + load_fold(root, "validation", **options)


def test_a_sound_set_is_read_only_in_part_and_logs_nothing(cases, monkeypatch, log) -> None:
    read = []
    monkeypatch.setattr(label_convention, "read_volume", lambda path: read.append(path) or read_volume(path))
    check_segmentations(items(cases))
    assert len(read) == 4
    assert log.messages == []


@pytest.mark.parametrize(
    ("table", "convention", "text"),
    [
        ({2: 1, 4: 1}, None, "hd-glio"),
        ({1: 2, 4: 2}, None, "hd-glio"),
        ({1: 2, 2: 1, 4: 3}, "brats2023", "decathlon"),
        ({4: 3}, None, "brats2023"),
        ({1: 255, 2: 255, 4: 255}, None, "255"),
    ],
    ids=str,
)
def test_labels_with_another_meaning_are_refused_in_training_and_split(
    cases, write_nifti, table: dict[int, int], convention: str | None, text: str
) -> None:
    change_labels(cases, write_nifti, table)
    with pytest.raises(DataError, match=text):
        check_segmentations(items(cases, label_convention=convention))
    with pytest.raises(DataError, match=text):
        split_dataset(cases, cases.parent / "a.json", label_convention=convention, progress=False)
    assert not (cases.parent / "a.json").exists()


def test_the_convention_in_the_advice_is_accepted(cases, write_nifti, log) -> None:
    change_labels(cases, write_nifti, {1: 2, 2: 1, 4: 3})
    check_segmentations(items(cases, label_convention="decathlon"))
    split = split_dataset(cases, cases.parent / "a.json", label_convention="decathlon", progress=False)
    assert log.messages == [] and split.notes == ()


def test_a_set_without_enhancing_tumour_is_a_warning(cases, write_nifti, log) -> None:
    change_labels(cases, write_nifti, {4: 1})
    check_segmentations(items(cases))
    (message,) = log.messages
    assert "enhancing tumour" in message
    log.clear()
    check_segmentations(items(cases), warn=False)
    assert log.messages == []
    (note,) = split_dataset(cases, cases.parent / "a.json", progress=False).notes
    assert "enhancing tumour" in note


def test_a_segmentation_of_the_whole_brain_is_refused_by_split(cases, write_nifti) -> None:
    path = cases / "P1" / "P1_seg.nii.gz"
    label = read_volume(path).values.copy()
    label[2:14, 2:14, 1:11] = 2
    write_nifti(path, label)
    with pytest.raises(DataError, match="brain") as error:
        split_dataset(cases, cases.parent / "a.json", progress=False)
    assert str(path) in str(error.value)


def test_items_without_a_segmentation_are_skipped(cases) -> None:
    check_segmentations([{"image": ["a_t1.nii.gz"]}])
    check_segmentations([])
