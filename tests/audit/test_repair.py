"""The clean copy: what is linked, mended and left out, what its manifest says; the originals stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brats3d import repair as repair_module
from brats3d.audit import Audit, audit_dataset
from brats3d.findings import KINDS
from brats3d.repair import Repair, repair_dataset

OF_THE_SET = ("name mapping", "label convention")
"""Errors of no single case: nothing can be copied before they are mended."""


def audit(root: Path) -> Audit:
    return audit_dataset(root, progress=False)


def repair(root: Path, out: Path) -> Repair:
    return repair_dataset(audit(root), out, progress=False)


def digests(root: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def values(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def check_law(root: Path, out: Path) -> Repair | None:
    """The copy has nothing wrong and nothing left to mend; the originals are the same bytes."""
    before = digests(root)
    try:
        done = repair(root, out)
    except ValueError:  # no case can be kept
        done = None
        assert not out.exists()
    else:
        left = audit(out)
        assert left.ok, left.findings
        assert not [finding for finding in left.findings if finding.repair]
    assert digests(root) == before
    assert not list(out.parent.glob(f".{out.name}.*"))
    return done


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OF_THE_SET])
def test_each_defect_is_mended_or_its_case_left_out(make_dataset, spoil, tmp_path: Path, kind: str) -> None:
    root = make_dataset()
    spoil(root, kind)
    done = check_law(root, tmp_path / "out")
    assert done is not None
    if KINDS[kind].repair:
        assert done.complete
        assert kind not in {finding.kind for finding in audit(done.out).findings}
    elif KINDS[kind].severity == "error":
        assert not done.complete


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.sampled_from([k for k in KINDS if k not in OF_THE_SET]), min_size=2, max_size=4, unique=True))
def test_combined_defects_are_mended_or_left_out(make_dataset, spoil, tmp_path: Path, chosen: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    root = make_dataset(root=folder / "data")
    for kind in chosen:
        with contextlib.suppress(OSError, ValueError, EOFError):  # undone by another defect
            spoil(root, kind)
    check_law(root, folder / "out")


def test_sound_files_are_links_and_the_manifest_says_what_was_done(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "ringing")
    (root / "survival_info.csv").write_text("x\n")
    done = repair(root, tmp_path / "out")
    manifest = json.loads((done.out / "manifest.json").read_text())
    actions = {file["file"]: file for case in manifest["cases"] for file in case["files"]}
    name = "BraTS20_Training_002/BraTS20_Training_002_t2.nii.gz"
    mended = actions.pop(name)
    assert mended["action"] == "rewritten"
    assert mended["source"] == str(root / name)
    assert mended["changes"] == ["6 voxels below 0, down to -7, set to 0"]
    assert mended["findings"][0].startswith("ringing: 6 voxels are negative, down to -7")
    assert not (done.out / name).is_symlink()
    assert len(actions) == 14
    for name, file in actions.items():
        assert file["action"] == "linked"
        assert (done.out / name).readlink() == (root / name).resolve()
    assert (done.out / "survival_info.csv").read_text() == "x\n"
    assert [file["action"] for file in manifest["other_files"]] == ["linked"]
    assert manifest["schema"] == 1


def test_copies_are_made_where_links_cannot_be(make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    root = make_dataset(cases=1)
    done = repair(root, tmp_path / "out")
    assert {file.action for file in done.cases[0].files} == {"copied"}
    assert set(digests(root).values()) <= set(digests(done.out).values())


def test_the_misnamed_segmentation_gets_its_name(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "misnamed")
    done = repair(root, tmp_path / "out")
    place = done.out / "BraTS20_Training_002" / "BraTS20_Training_002_seg.nii.gz"
    assert place.resolve() == (root / "BraTS20_Training_002" / "W39_1998.09.19_Segm.nii.gz").resolve()


def test_a_folder_in_a_files_place_becomes_a_file(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=2, suffix=".nii")
    file = root / "BraTS20_Training_001" / "BraTS20_Training_001_flair.nii"
    file.rename(root / "x")
    file.mkdir()
    (root / "x").rename(file / "00000057_brain_flair.nii")
    done = check_law(root, tmp_path / "out")
    assert (done.out / "BraTS20_Training_001" / "BraTS20_Training_001_flair.nii").is_file()


def test_a_lone_case_folder_gets_its_own_folder_in_the_copy(make_dataset, tmp_path: Path) -> None:
    root = make_dataset() / "BraTS20_Training_002"
    done = repair(root, tmp_path / "out")
    assert len(list((done.out / "BraTS20_Training_002").iterdir())) == 5


def test_the_grade_above_the_folder_is_kept(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "HGG")
    done = repair(root, tmp_path / "out")
    assert (done.out / "HGG" / "BraTS20_Training_001").is_dir()
    assert audit(done.out).figures["grades"] == {"HGG": 3}


def test_a_background_is_subtracted_without_loss(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    name = "BraTS20_Training_002/BraTS20_Training_002_t2.nii.gz"
    before = values(root / name)
    spoil(root, "background")
    after = values(repair(root, tmp_path / "out").out / name)
    assert after.dtype == before.dtype
    assert np.array_equal(after, before)


def test_a_turned_file_is_turned_back_without_loss(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    name = "BraTS20_Training_002/BraTS20_Training_002_t1.nii.gz"
    before = nib.load(root / name)
    expected, affine = np.asanyarray(before.dataobj).copy(), before.affine
    spoil(root, "orientation")
    assert nib.load(root / name).shape == (16, 12, 16)
    after = nib.load(repair(root, tmp_path / "out").out / name)
    assert np.array_equal(np.asanyarray(after.dataobj), expected)
    assert np.allclose(after.affine, affine)


def test_an_affine_that_the_voxels_may_follow_is_not_replaced(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    path = root / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz"
    image = nib.load(path)
    moved = image.affine.copy()
    moved[:3, 3] += image.affine[:3, :3] @ (3, 0, 0)
    shifted = np.zeros_like(values(path))
    shifted[:-3] = values(path)[3:]  # three voxels off in the file, and put back by its affine
    nib.save(nib.Nifti1Image(shifted, moved), path)
    done = repair(root, tmp_path / "out")
    assert not done.complete
    assert "its voxels do not show" in done.cases[1].left_out[0]


def test_a_hair_of_difference_between_affines_is_mended(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    path = root / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[1, 3] += 0.01
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), affine), path)
    done = check_law(root, tmp_path / "out")
    assert done.complete
    assert "replaced by that of" in done.cases[1].files[0].changes[0]


def test_labels_of_another_convention_are_never_guessed_at(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "label values")
    done = repair(root, tmp_path / "out")
    assert done.cases[1].files == ()
    assert done.cases[1].left_out[0].startswith("label values: holds labels {1, 2, 3}")
    assert not (done.out / "BraTS20_Training_002").exists()
    assert "left out BraTS20_Training_002" in "\n".join(done.summary())


def test_a_copied_case_is_left_out_and_that_mends_the_set(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "same case")
    done = repair(root, tmp_path / "out")
    assert done.complete
    assert [case.case_id for case in done.cases if case.left_out] == ["BraTS20_Training_004"]


@pytest.mark.parametrize("kind", OF_THE_SET)
def test_errors_of_the_whole_set_are_refused(make_dataset, spoil, tmp_path: Path, kind: str) -> None:
    root = make_dataset()
    spoil(root, kind)
    with pytest.raises(ValueError, match="cannot be repaired"):
        repair(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_set_without_a_usable_case_is_refused(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset(cases=2, modalities=("t1", "t2"))
    with pytest.raises(ValueError, match="no case can be kept: BraTS20_Training_001: missing"):
        repair(root, tmp_path / "out")


def test_an_interrupted_repair_leaves_nothing(make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(repair_module, "_write_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        repair(make_dataset(root=tmp_path / "data"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_copy_lies_neither_in_nor_around_the_data(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "above" / "data")
    (tmp_path / "link").symlink_to(root)
    for out in (root, root / "copy", tmp_path / "link" / "copy", tmp_path / "above", tmp_path):
        with pytest.raises(ValueError, match="repair: "):
            repair(root, out)
    (tmp_path / "empty").mkdir()
    assert repair(root, tmp_path / "empty").complete
    shutil.rmtree(tmp_path / "empty")
    assert len(digests(root)) == 15


def test_several_folders_stay_apart_in_the_copy(make_dataset, tmp_path: Path) -> None:
    roots = [make_dataset(cases=1, root=tmp_path / "a"), make_dataset(cases=2, root=tmp_path / "b", layout="brats2021")]
    shutil.rmtree(roots[1] / "BraTS2021_00001")  # equals the first folder's case
    found = audit_dataset(roots, progress=False)
    done = repair_dataset(found, tmp_path / "out", progress=False)
    assert {path.name for path in done.out.iterdir()} == {"1", "2", "manifest.json"}


def test_images_that_turn_out_equal_once_mended_are_left_out(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "one sequence twice")
    spoil(root, "orientation")  # one of the two is turned: as they lie there, they differ
    done = check_law(root, tmp_path / "out")
    assert "equals BraTS20_Training_002/BraTS20_Training_002_t1" in done.cases[1].left_out[0]
    assert not (done.out / "BraTS20_Training_002").exists()
