"""The state of an output folder: done, kept and taken cases."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d.files import PREDICTIONS_NAME, WrittenFiles
from brats3d.inference.output_state import OutputState, compare_output, describe_input


@pytest.fixture
def images(tmp_path):
    """``images(patient, content)``: two files named alike in the folder of a patient."""

    def make(patient: str, content: str, names=("t1", "t2")) -> dict[str, Path]:
        folder = tmp_path / patient / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / f"{name}.nii").write_text(f"{content} {name}")
        return {name: folder / f"{name}.nii" for name in names}

    return make


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def segment(out: Path, images: dict[str, Path], made_from: str = "settings") -> None:
    files = WrittenFiles(out, PREDICTIONS_NAME)
    content = made_from.encode() + str(images).encode()
    files.write(out / "anat.nii.gz", lambda file: file.write(content), made_from, describe_input(images))


def correct(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), path)


def state(out: Path, images: dict[str, Path], made_from: str = "new settings") -> OutputState:
    names = {"anat": ["anat.nii.gz"]}
    return compare_output(WrittenFiles(out), names, {"anat": describe_input(images)}, {"anat": made_from})


def test_a_case_is_done_or_replaced_depending_on_what_it_was_made_from(out, images):
    first = images("pat01", "a")
    assert state(out, first) == OutputState()
    segment(out, first)
    assert state(out, first, "settings") == OutputState(done={"anat"})
    assert state(out, first) == OutputState()


def test_the_name_of_another_patients_segmentation_is_taken(out, images):
    first, second = images("pat01", "a"), images("pat02", "b")
    segment(out, first)
    assert state(out, second).taken.keys() == {"anat"} and str(first["t1"].parent) in state(out, second).taken["anat"]
    correct(out / "anat.nii.gz")
    assert state(out, second).taken.keys() == {"anat"}, "corrected or not"
    assert state(out, first) == OutputState(kept={"anat"})
    (out / "anat.nii.gz").rename(out / "pat01.nii.gz")
    assert state(out, second) == OutputState()


def test_one_of_several_images_that_differs_makes_it_another_patient(out, images):
    segment(out, images("pat01", "a"))
    second = images("pat02", "a")
    second["t2"].write_text("other")
    assert state(out, second).taken


@pytest.mark.parametrize("names", [("t1", "t2"), ("t2",)])
def test_the_same_images_in_another_folder_may_be_segmented_again(out, images, names):
    segment(out, images("pat01", "a"))
    assert state(out, images("copy", "a", names)) == OutputState()


def test_images_of_other_sequences_alone_do_not_show_that_it_is_the_same_patient(out, images):
    segment(out, images("pat01", "a", ("t1",)))
    assert state(out, images("copy", "a", ("t2",))).taken


def test_changed_images_in_the_same_folder_may_be_segmented_again(out, images, tmp_path):
    segment(out, images("pat01", "a"))
    (tmp_path / "link").symlink_to(tmp_path / "pat01")
    changed = images("pat01", "b")
    assert state(out, changed) == OutputState(replaced={"anat"})
    linked = {name: tmp_path / "link" / "anat" / path.name for name, path in changed.items()}
    assert state(out, linked) == OutputState(replaced={"anat"})
    images("pat01", "a", ("t1",))
    assert state(out, changed) == OutputState(), "one of them is still the same"


def test_a_record_without_the_images_does_not_stop_a_case(out, images):
    WrittenFiles(out, PREDICTIONS_NAME).write(out / "anat.nii.gz", lambda file: file.write(b"1"), "settings")
    assert state(out, images("pat01", "a")) == OutputState()


def test_a_segmentation_copied_into_a_folder_of_predictions_is_kept(out, images, tmp_path):
    first = images("pat01", "a")
    segment(out, first)
    shutil.move(out / "anat.nii.gz", tmp_path / "mine.nii.gz")
    WrittenFiles(out, PREDICTIONS_NAME).write(out / "other.nii.gz", lambda file: file.write(b"1"))
    correct(out / "new.nii.gz")
    found = compare_output(WrittenFiles(out), {"new": ["new.nii.gz", "new.png"]}, {}, {})
    assert found == OutputState(kept={"new"})


def test_a_damaged_segmentation_is_not_taken_for_a_correction(out, images):
    first = images("pat01", "a")
    segment(out, first)
    (out / "anat.nii.gz").write_bytes(b"cut off")
    assert str(out / "anat.nii.gz") in state(out, first).taken["anat"]
