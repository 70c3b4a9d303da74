"""The repaired copy: what is linked, rewritten and dropped, and that the originals stay untouched."""

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
from hypothesis import HealthCheck, given, settings, strategies as st
from nibabel.spatialimages import HeaderDataError

from brats3d.audit import repaired_copy
from brats3d.audit.finding_kinds import KINDS
from brats3d.audit.repair_case import RepairedVolume
from brats3d.audit.repaired_copy import RepairedCopy, check_copy_folder, write_repaired_copy
from brats3d.audit.whole_dataset import Audit, audit_dataset
from brats3d.cases.name_mapping import read_name_mappings
from brats3d.cases.search import find_cases
from brats3d.errors import DataError, UsageError

OF_DATASET = ("unreadable name mapping", "unknown label convention", "one label", "edema inside the core")
"""Errors of the whole data set, with which no copy is written."""

SPOILED = [kind for kind in KINDS if kind not in OF_DATASET]

EQUAL_IMAGES = ("identical sequences", "image in several cases", "copied case")
"""Another defect can hide these from the audit."""

Roots = Path | list[Path]

CASE = "BraTS20_Training_002"


def audit(root: Roots) -> Audit:
    return audit_dataset(root, progress=False)


def repair(root: Roots, out: Path) -> RepairedCopy:
    return write_repaired_copy(audit(root), out, progress=False)


def digests(root: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def values(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def repair_and_check(root: Roots, out: Path) -> RepairedCopy | None:
    """Check that the copy has no error and nothing left to repair, and that nothing else below ``out.parent`` changed.

    Returns:
        None if no case could be kept.
    """
    before = digests(out.parent)
    try:
        copy = repair(root, out)
    except DataError:
        copy = None
        assert not out.exists()
    else:
        again = audit(out)
        assert again.ok, again.findings
        assert not [finding for finding in again.findings if finding.repair]
    after = {name: digest for name, digest in digests(out.parent).items() if not Path(name).is_relative_to(out)}
    assert after == before
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]
    return copy


def write_mapping(folder: Path, name: str = CASE) -> Path:
    path = folder / "name_mapping.csv"
    path.write_text(f"Grade,BraTS_2020_subject_ID\nLGG,{name}\n")
    return path


def refuse_links(patch: pytest.MonkeyPatch) -> None:
    """Behave like a file system without links."""

    def refuse(place: Path, _: object) -> None:
        raise FileExistsError(place) if place.exists() else OSError("no links here")

    patch.setattr(Path, "symlink_to", refuse)


@pytest.mark.parametrize("kind", SPOILED)
def test_each_defect_is_repaired_or_its_case_dropped(make_dataset, spoil, tmp_path: Path, kind: str) -> None:
    root = make_dataset()
    spoil(root, kind)
    copy = repair_and_check(root, tmp_path / "out")
    assert copy is not None
    if KINDS[kind].repair:
        assert copy.complete
        assert kind not in {finding.kind for finding in audit(copy.folder).findings}
    elif KINDS[kind].severity == "error" and kind != "invalid datalist":
        assert not copy.complete


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(
        st.sampled_from([kind for kind in SPOILED if kind not in EQUAL_IMAGES]), min_size=2, max_size=4, unique=True
    ),
    second=st.booleans(),
    mappings=st.sets(st.sampled_from(["data", "data/HGG", "other", "other/LGG"])),
    links=st.booleans(),
)
def test_combined_defects_are_repaired_or_dropped(
    make_dataset, spoil, tmp_path: Path, chosen: list[str], second: bool, mappings: set[str], links: bool
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    roots = [make_dataset(root=folder / "data" / "HGG")]
    for kind in chosen:
        with contextlib.suppress(OSError, ValueError, EOFError, HeaderDataError):  # undone by another defect
            spoil(roots[0], kind)
    other = make_dataset(cases=2, root=folder / "other" / "LGG", layout="brats2021", label=False)
    shutil.rmtree(other / "BraTS2021_00001")
    roots += [other] if second else []
    for place in mappings:
        write_mapping(folder / place)
    with pytest.MonkeyPatch.context() as patch:
        if not links:
            refuse_links(patch)
        repair_and_check(roots, folder / "out")


def test_sound_files_are_linked_and_the_manifest_lists_every_change(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "ringing")
    (root / "survival_info.csv").write_text("x\n")
    copy = repair(root, tmp_path / "out")
    manifest = json.loads((copy.folder / "manifest.json").read_text())
    files = {file["file"]: file for case in manifest["cases"] for file in case["files"]}
    name = f"{CASE}/{CASE}_t2.nii.gz"
    rewritten = files.pop(name)
    assert rewritten["action"] == "rewritten"
    assert rewritten["source"] == str(root / name)
    assert rewritten["changes"] == ["set 6 voxels below 0, down to -7, to 0"]
    assert rewritten["findings"][0].startswith("ringing: 6 voxels")
    assert not (copy.folder / name).is_symlink()
    assert len(files) == 14
    for name, file in files.items():
        assert file["action"] == "linked"
        assert (copy.folder / name).readlink() == (root / name).resolve()
    assert (copy.folder / "survival_info.csv").read_text() == "x\n"
    assert [file["action"] for file in manifest["other_files"]] == ["linked"]
    assert manifest["schema"] == 2


def test_files_are_copied_where_links_are_not_possible(
    make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    root = make_dataset(cases=1)
    copy = repair(root, tmp_path / "out")
    assert {file.action for file in copy.cases[0].files} == {"copied"}
    assert set(digests(root).values()) <= set(digests(copy.folder).values())


def test_an_existing_link_to_an_original_is_never_written_to(tmp_path: Path) -> None:
    original, other, place = (tmp_path / name for name in ("original", "other", "place"))
    original.write_text("original")
    other.write_text("other")
    place.symlink_to(original)
    with pytest.raises(FileExistsError):
        repaired_copy._link(other, tmp_path, Path("place"))
    assert original.read_text() == "original"


# --- names and folders


def test_every_file_gets_the_name_of_its_release_in_a_folder_of_its_case(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=2, suffix=".nii", root=tmp_path / "data" / "LGG")
    case = root / CASE
    flair = case / f"{CASE}_flair.nii"
    flair.rename(case / "x")
    flair.mkdir()
    (case / "x").rename(flair / "00000057_brain_flair.nii")  # as in one of Kaggle's archives
    (case / f"{CASE}_seg.nii").rename(case / "W39_1998.09.19_Segm.nii")
    (root / "deep").mkdir()
    shutil.move(case, root / "deep" / CASE)
    copy = repair_and_check(root, tmp_path / "out")
    names = {path.name for path in (copy.folder / "LGG" / CASE).iterdir()}  # the grade is kept
    assert names == {f"{CASE}_{modality}.nii" for modality in ("t1", "t1ce", "t2", "flair", "seg")}


def test_a_single_case_folder_becomes_a_folder_of_the_copy(make_dataset, tmp_path: Path) -> None:
    copy = repair(make_dataset() / CASE, tmp_path / "out")
    assert len(list((copy.folder / CASE).iterdir())) == 5


def test_identical_segmentations_are_reduced_to_one_and_repaired(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    label = root / CASE / f"{CASE}_seg.nii.gz"
    before = values(label)
    spoil(root, "labels outside the brain")
    shutil.copy(label, label.with_name(f"{CASE}-seg.nii.gz"))
    copy = repair_and_check(root, tmp_path / "out")
    assert copy.complete
    assert copy.cases[1].files[-1].changes == ("set 5 labels outside the brain to 0",)
    assert np.array_equal(values(copy.folder / CASE / label.name), before)
    assert len(list((copy.folder / CASE).iterdir())) == 5


def test_tables_and_name_mappings_in_above_and_below_the_folder_are_copied(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "data" / "HGG")
    write_mapping(root, "BraTS20_Training_001")
    write_mapping(root.parent, "BraTS20_Training_003")
    (root / "batch").mkdir()
    shutil.move(root / CASE, root / "batch" / CASE)
    (root / "batch" / "survival_info.csv").write_text("x\n")
    copy = repair_and_check(root, tmp_path / "out")
    tables = {path.name for path in copy.folder.glob("*.csv")}
    assert tables == {"name_mapping.csv", "name_mapping_2.csv", "survival_info.csv"}
    assert read_name_mappings([copy.folder]).patients == read_name_mappings([root]).patients


# --- voxels and affines


def test_a_subtracted_background_restores_the_image(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    name = f"{CASE}/{CASE}_t2.nii.gz"
    before = values(root / name)
    spoil(root, "non-zero background")
    after = values(repair(root, tmp_path / "out").folder / name)
    assert after.dtype == before.dtype
    assert np.array_equal(after, before)


def test_a_reoriented_file_is_restored_without_loss(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    name = f"{CASE}/{CASE}_t1.nii.gz"
    before = nib.load(root / name)
    expected, affine = np.asanyarray(before.dataobj).copy(), before.affine
    spoil(root, "different orientation")
    assert nib.load(root / name).shape == (16, 12, 16)
    after = nib.load(repair(root, tmp_path / "out").folder / name)
    assert np.array_equal(np.asanyarray(after.dataobj), expected)
    assert np.allclose(after.affine, affine)


def move(path: Path, voxels: int, offset_mm: float = 0.0) -> None:
    """Shift the content along x and let the affine put it back, apart from an offset along y."""
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (voxels, 0, 0) + (0, offset_mm, 0)
    nib.save(nib.Nifti1Image(np.roll(values(path), -voxels, axis=0), affine), path)


def test_an_affine_that_the_voxels_may_need_is_not_replaced(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    move(root / CASE / f"{CASE}_t1.nii.gz", 3)
    copy = repair(root, tmp_path / "out")
    assert not copy.complete
    assert "do not confirm the affine" in copy.cases[1].dropped[0]


def test_a_tiny_difference_between_affines_is_repaired(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    move(root / CASE / f"{CASE}_t1.nii.gz", 0, offset_mm=0.1)
    copy = repair_and_check(root, tmp_path / "out")
    assert copy.complete
    assert copy.cases[1].files[0].changes[0].startswith("replaced the affine")


def test_two_images_against_two_on_another_grid_are_dropped(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    (root / CASE / f"{CASE}_seg.nii.gz").unlink()
    for modality in ("t2", "flair"):
        move(root / CASE / f"{CASE}_{modality}.nii.gz", 0, offset_mm=0.2)
    copy = repair_and_check(root, tmp_path / "out")
    assert copy.cases[1].dropped[0].startswith("different affine: ")


# --- dropped cases


def test_a_case_with_unexpected_labels_is_dropped(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "unexpected labels")
    copy = repair(root, tmp_path / "out")
    assert copy.cases[1].files == ()
    assert copy.cases[1].dropped[0].startswith("unexpected labels: ")
    assert not (copy.folder / CASE).exists()
    assert f"dropped {CASE}" in "\n".join(copy.summary())


def test_a_copied_case_is_dropped_and_the_copy_is_complete(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "copied case")
    copy = repair(root, tmp_path / "out")
    assert copy.complete
    assert [case.case_id for case in copy.cases if case.dropped] == ["BraTS20_Training_004"]


@pytest.mark.parametrize("empty", [False, True])
def test_an_incomplete_case_in_two_folders_is_dropped(make_dataset, tmp_path: Path, empty: bool) -> None:
    root = make_dataset()
    (root / CASE / f"{CASE}_t2.nii.gz").unlink()
    if empty:
        shutil.rmtree(root / CASE)
        (root / CASE).mkdir()
    shutil.copytree(root / CASE, root / "more" / CASE)
    copy = repair_and_check(root, tmp_path / "out")
    assert "missing sequence: " in copy.cases[1].dropped[0]
    assert not (copy.folder / CASE).exists()


def test_a_case_is_dropped_if_its_repair_reveals_another_defect(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    path = root / CASE / f"{CASE}_t2.nii.gz"
    image = nib.load(path)
    moved = np.where(values(path) == 0, -1e35, values(path) * 2e32)  # readable; too large without its background
    nib.save(nib.Nifti1Image(moved, image.affine), path)
    copy = repair_and_check(root, tmp_path / "out")
    assert "NaN or Inf" in copy.cases[1].dropped[0]
    assert not (copy.folder / CASE).exists()


def test_a_case_is_dropped_if_something_is_left_to_repair(
    make_dataset, spoil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset()
    spoil(root, "ringing")

    def repair_nothing(images, _) -> dict[Path, RepairedVolume]:
        return {v.header.path: RepairedVolume(v.header, v.values, ("none",)) for v in images.values()}

    monkeypatch.setattr(repaired_copy, "repair_case", repair_nothing)
    copy = repair(root, tmp_path / "out")
    assert "ringing" in copy.cases[1].dropped[0]


@pytest.mark.parametrize("kind", OF_DATASET)
def test_no_copy_is_written_if_the_whole_data_set_has_an_error(make_dataset, spoil, tmp_path: Path, kind: str) -> None:
    root = make_dataset()
    spoil(root, kind)
    with pytest.raises(DataError) as caught:
        repair(root, tmp_path / "out")
    assert caught.value.advice == KINDS[kind].advice
    assert not (tmp_path / "out").exists()


def test_no_copy_is_written_if_no_case_can_be_kept(make_dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        repair(make_dataset(cases=2, modalities=("t1", "t2")), tmp_path / "out")
    assert "BraTS20_Training_001: missing sequence" in caught.value.problem
    assert not (tmp_path / "out").exists()


# --- the folder of the copy


def test_the_folder_may_be_empty_or_a_link_to_an_empty_folder(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "data")
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert repair(root, tmp_path / "out").complete
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real" / "manifest.json").is_file()


@pytest.mark.parametrize("out", ["above/data", "above/data/copy", "link/copy", "above", ".", "file", "full"])
def test_a_folder_in_or_above_the_data_or_in_use_is_refused(make_dataset, tmp_path: Path, out: str) -> None:
    root = make_dataset(cases=1, root=tmp_path / "above" / "data")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    before = set(tmp_path.rglob("*"))
    for refuse in (lambda: check_copy_folder([root], tmp_path / out), lambda: repair(root, tmp_path / out)):
        with pytest.raises(UsageError) as caught:
            refuse()
        assert caught.value.subject == "repair"
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused_before_the_audit(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=1, root=tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        check_copy_folder([root], tmp_path / "file" / "copy")
    assert caught.value.subject == "repair"


def test_an_interrupted_repair_leaves_nothing(make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(repaired_copy, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        repair(make_dataset(root=tmp_path / "data"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_copy_of_nnunets_raw_form_leaves_the_labels_open(make_dataset, tmp_path):
    source, root = make_dataset(cases=2), tmp_path / "raw"
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    for case in find_cases(source):
        for channel, path in enumerate(case.images.values()):
            shutil.copy(path, root / "imagesTr" / f"{case.case_id[-3:]}_{channel:04d}.nii.gz")
        label = np.array([0, 2, 1, 0, 3], np.uint8)[values(case.label)]
        nib.save(nib.Nifti1Image(label, nib.load(case.label).affine), root / "labelsTr" / f"{case.case_id[-3:]}.nii.gz")
    names = {"channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}}
    labels = {"labels": {"background": 0, "edema": 1, "core": 2, "enhancing": 3}}
    (root / "dataset.json").write_text(json.dumps(names | labels))
    copy = repair(root, tmp_path / "copy")
    assert any("decathlon" in note for note in copy.notes)
    assert [(case.case_id, case.convention) for case in find_cases(copy.folder)] == [("001", None), ("002", None)]
