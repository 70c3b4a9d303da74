"""The clean copy: what is linked, mended and left out, what its manifest says; the originals stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brats3d.audit import repair as repair_module
from brats3d.audit.dataset_audit import Audit, audit_dataset
from brats3d.audit.findings import KINDS
from brats3d.audit.mending import Mended
from brats3d.audit.repair import repair_dataset
from brats3d.audit.repair_record import Repair
from brats3d.cases.load import load_fold
from brats3d.cases.patients import read_name_mappings
from brats3d.labels import MODALITIES

OF_THE_SET = ("name mapping", "label convention")
"""Errors of no single case: nothing can be copied before they are mended."""


Roots = Path | list[Path]

CASE = "BraTS20_Training_002"


def audit(root: Roots) -> Audit:
    return audit_dataset(root, progress=False)


def repair(root: Roots, out: Path) -> Repair:
    return repair_dataset(audit(root), out, progress=False)


def digests(root: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def values(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def check_law(root: Roots, out: Path) -> Repair | None:
    """The copy has nothing wrong and nothing left to mend; every file below ``out``'s folder is the same bytes."""
    before = digests(out.parent)
    others = set(out.parent.rglob("*"))
    try:
        done = repair(root, out)
    except ValueError:  # no case can be kept
        done = None
        assert not out.exists()
    else:
        left = audit(out)
        assert left.ok, left.findings
        assert not [finding for finding in left.findings if finding.repair]
    after = {name: digest for name, digest in digests(out.parent).items() if not Path(name).is_relative_to(out)}
    assert after == before
    assert {path for path in out.parent.rglob("*") if not path.is_relative_to(out)} == others
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
    elif KINDS[kind].severity == "error" and kind != "datalist":  # of no case; the copy comes without it
        assert not done.complete


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.sampled_from([k for k in KINDS if k not in OF_THE_SET]), min_size=2, max_size=4, unique=True),
    second=st.booleans(),
    mappings=st.sets(st.sampled_from(["data", "data/HGG", "other", "other/LGG"])),
    links=st.booleans(),
)
def test_combined_defects_are_mended_or_left_out(
    make_dataset, spoil, tmp_path: Path, chosen: list[str], second: bool, mappings: set[str], links: bool
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    roots = [make_dataset(root=folder / "data" / "HGG")]
    for kind in chosen:
        with contextlib.suppress(OSError, ValueError, EOFError):  # undone by another defect
            spoil(roots[0], kind)
    other = make_dataset(cases=2, root=folder / "other" / "LGG", layout="brats2021", label=False)
    shutil.rmtree(other / "BraTS2021_00001")
    roots += [other] if second else []
    for place in mappings:
        write_mapping(folder / place)
    with pytest.MonkeyPatch.context() as patch:
        if not links:
            refuse_links(patch)
        check_law(roots, folder / "out")


def write_mapping(folder: Path, name: str = CASE) -> Path:
    path = folder / "name_mapping.csv"
    path.write_text(f"Grade,BraTS_2020_subject_ID\nLGG,{name}\n")
    return path


def refuse_links(patch: pytest.MonkeyPatch) -> None:
    """As where the file system, or a Windows account, makes none; what is there is said to be."""

    def refuse(place: Path, _: object) -> None:
        raise FileExistsError(place) if place.exists() else OSError("no links here")

    patch.setattr(Path, "symlink_to", refuse)


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
    refuse_links(monkeypatch)
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


# --- nothing is overwritten


def test_two_files_for_one_place_are_refused_before_anything_is_linked(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "above" / "HGG")
    write_mapping(root.parent)
    in_its_place = root / "above" / "1"
    in_its_place.mkdir(parents=True)
    write_mapping(in_its_place)
    shutil.move(root / CASE, in_its_place / CASE)  # so that the table lies above a case
    before = digests(root.parent)
    with pytest.raises(ValueError, match=r"would both be above/1/name_mapping\.csv in the copy"):
        repair(root, tmp_path / "new" / "out")
    assert digests(root.parent) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_there_is_never_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    original, other, place = (tmp_path / name for name in ("original", "other", "place"))
    original.write_text("original")
    other.write_text("other")
    place.symlink_to(original)
    if not links:
        monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    with pytest.raises(FileExistsError):
        repair_module._link(other, tmp_path, Path("place"))
    assert original.read_text() == "original"


@pytest.mark.parametrize("links", [True, False])
def test_mappings_in_and_above_a_grades_folder_both_come_along(
    make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    root = make_dataset(root=tmp_path / "data" / "HGG")
    write_mapping(root, "BraTS20_Training_001")
    write_mapping(root.parent, "BraTS20_Training_003")
    if not links:
        refuse_links(monkeypatch)
    done = check_law(root, tmp_path / "out")
    for name in ("name_mapping.csv", "above/1/name_mapping.csv"):
        source = root / name if "/" not in name else root.parent / "name_mapping.csv"
        assert (done.out / name).read_text() == source.read_text()
    assert read_name_mappings([done.out]).patients == read_name_mappings([root]).patients


def test_mappings_around_one_case_folder_come_along(make_dataset, tmp_path: Path) -> None:
    case = make_dataset(root=tmp_path / "data" / "HGG") / CASE
    for folder in (case, case.parent, case.parent.parent):
        write_mapping(folder, f"BraTS20_Training_00{len(folder.parts) % 10}")
    done = check_law(case, tmp_path / "out")
    found = {path.relative_to(done.out).as_posix() for path in read_name_mappings([done.out]).files}
    assert found == {"name_mapping.csv", "above/1/name_mapping.csv", "above/2/name_mapping.csv"}


def test_each_of_two_roots_keeps_the_mapping_above_it(make_dataset, tmp_path: Path) -> None:
    roots = [make_dataset(cases=1, root=tmp_path / "a" / "HGG")]
    roots.append(make_dataset(cases=2, root=tmp_path / "b" / "HGG", layout="brats2021"))
    shutil.rmtree(roots[1] / "BraTS2021_00001")
    for root, name in zip(roots, ("BraTS20_Training_001", "BraTS2021_00002"), strict=True):
        write_mapping(root.parent, name)
    done = check_law(roots, tmp_path / "out")
    for i, root in enumerate(roots, start=1):
        copied = done.out / str(i) / "above" / "1" / "name_mapping.csv"
        assert copied.read_text() == (root.parent / "name_mapping.csv").read_text()


# --- cases that are not whole


def test_a_case_that_lacks_a_sequence_in_both_of_its_folders_is_left_out(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    (root / CASE / f"{CASE}_t2.nii.gz").unlink()
    shutil.copytree(root / CASE, root / "more" / CASE)
    done = check_law(root, tmp_path / "out")
    assert not done.complete
    assert "missing t2; found t1, t1ce, flair" in done.cases[1].left_out[0]
    assert not (done.out / CASE).exists()


def test_two_empty_folders_of_a_case_are_left_out(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    shutil.rmtree(root / CASE)
    (root / CASE).mkdir()
    (root / "more" / CASE).mkdir(parents=True)
    done = check_law(root, tmp_path / "out")
    assert not done.complete
    assert "missing t1, t1ce, t2, flair; found none" in done.cases[1].left_out[0]


def test_what_the_audit_has_not_reported_as_missing_is_seen_all_the_same(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    (root / CASE / f"{CASE}_t2.nii.gz").unlink()
    found = audit(root)
    silent = replace(found, findings=tuple(each for each in found.findings if each.kind != "missing"))
    done = repair_dataset(silent, tmp_path / "out", progress=False)
    assert done.cases[1].left_out == ("missing: missing t2; found t1, t1ce, flair; expected t1, t1ce, t2, flair",)


def test_a_case_that_a_search_of_the_copy_does_not_find_is_left_out(make_dataset, tmp_path: Path) -> None:
    deep = tmp_path / "HGG" / "1" / "2" / "3" / "4" / "5"  # a case here is as deep as is searched; the copy adds HGG
    root = make_dataset(root=tmp_path / "HGG")
    deep.mkdir(parents=True)
    shutil.move(root / CASE, deep / CASE)
    assert len(audit(root).cases) == 3
    done = check_law(root, tmp_path / "out")
    assert not done.complete
    assert [case.case_id for case in done.cases if case.left_out] == [CASE]
    assert "cannot be found in the copy" in done.cases[1].left_out[0]


def test_a_case_in_which_mending_makes_another_defect_is_left_out(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    path = root / CASE / f"{CASE}_t2.nii.gz"
    image = nib.load(path)
    moved = np.where(values(path) == 0, -1e35, values(path) * 2e32)  # readable; too large without its background
    nib.save(nib.Nifti1Image(moved, image.affine), path)
    done = check_law(root, tmp_path / "out")
    assert done.cases[1].left_out[0].startswith("cannot be mended: NaN or Inf")
    assert not (done.out / CASE).exists()


def test_what_mending_leaves_to_mend_is_not_in_the_copy(
    make_dataset, spoil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset()
    spoil(root, "ringing")

    def mend_nothing(images, _) -> dict[Path, Mended]:
        return {v.header.path: Mended(v.header, v.values, ("none",)) for v in images.values()}

    monkeypatch.setattr(repair_module, "mend_case", mend_nothing)
    done = repair(root, tmp_path / "out")
    assert done.cases[1].left_out[0].startswith("cannot be mended: ringing")


def test_two_grids_of_two_images_each_are_left_out(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    (root / CASE / f"{CASE}_seg.nii.gz").unlink()
    for modality in ("t2", "flair"):
        path = root / CASE / f"{CASE}_{modality}.nii.gz"
        image = nib.load(path)
        affine = image.affine.copy()
        affine[0, 3] += 0.2
        nib.save(nib.Nifti1Image(values(path).copy(), affine), path)
    done = check_law(root, tmp_path / "out")
    assert done.cases[1].left_out[0].startswith("affine: ")


# --- several equal segmentations


def double_label(root: Path, case_id: str = CASE) -> Path:
    """The same segmentation under a second name, which stands first in the folder."""
    label = root / case_id / f"{case_id}_seg.nii.gz"
    return Path(shutil.copy(label, label.with_name(f"{case_id}-seg.nii.gz")))


def test_of_equal_segmentations_one_is_kept_under_its_proper_name(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    double = double_label(root)
    done = check_law(root, tmp_path / "out")
    assert done.complete
    label = done.out / CASE / f"{CASE}_seg.nii.gz"
    assert len(list(label.parent.iterdir())) == 5
    assert label.read_bytes() == double.read_bytes()
    assert any(finding.startswith("double: 2 files for seg") for finding in done.cases[1].files[-1].findings)


def test_of_equal_segmentations_the_one_that_is_kept_is_mended(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    before = values(root / CASE / f"{CASE}_seg.nii.gz")
    spoil(root, "labels outside the brain")
    double_label(root)
    done = check_law(root, tmp_path / "out")
    assert done.cases[1].files[-1].changes == ("5 labels outside the brain set to 0",)
    assert np.array_equal(values(done.out / CASE / f"{CASE}_seg.nii.gz"), before)


def test_of_equal_segmentations_with_wrong_labels_none_is_kept(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "label values")
    double_label(root)
    done = check_law(root, tmp_path / "out")
    assert done.cases[1].left_out[0].startswith("label values: ")


def test_equal_segmentations_of_an_unknown_convention_are_not_kept(make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    new = "BraTS-PED-00007-000"
    for path in (root / CASE).iterdir():
        modality = path.name.removeprefix(f"{CASE}_")
        path.rename(path.with_name(f"{new}_{modality}"))
    (root / CASE).rename(root / new)
    double_label(root, new)
    done = check_law(root, tmp_path / "out")
    assert [case.left_out[0].split(":")[0] for case in done.cases if case.left_out] == ["label convention"]


# --- the folder of the copy


def test_an_empty_folder_may_be_a_link_and_stays_one(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "data")
    (tmp_path / "real").mkdir()
    out = tmp_path / "out"
    out.symlink_to("real")
    done = repair(root, out)
    assert out.is_symlink()
    assert {path.name for path in (tmp_path / "real").iterdir()} == {
        *(each.case_id for each in done.cases),
        "manifest.json",
    }
    assert audit(out).ok


def test_a_link_to_a_folder_that_is_not_there_yet_is_followed(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=1, root=tmp_path / "data")
    (tmp_path / "out").symlink_to(tmp_path / "new" / "real")
    repair(root, tmp_path / "out")
    assert (tmp_path / "new" / "real" / "manifest.json").is_file()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match="a link to itself"):
        repair(root, tmp_path / "loop")


def test_an_empty_folder_is_kept_as_it_would_be_a_mount_point(
    make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "disk"
    (out / "lost+found").mkdir(parents=True)
    inode = out.stat().st_ino
    building = []

    def remember(source: Path, folder: Path, place: Path, link=repair_module._link) -> object:
        building.append(folder)
        return link(source, folder, place)

    monkeypatch.setattr(repair_module, "_link", remember)
    repair(make_dataset(cases=1, root=tmp_path / "data"), out)
    assert out.stat().st_ino == inode
    assert {folder.parent for folder in building} == {out}  # on the same disk, then
    assert {path.name for path in out.iterdir()} == {"BraTS20_Training_001", "lost+found", "manifest.json"}


def test_what_a_killed_run_left_is_in_nobodys_way(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=1, root=tmp_path / "data")
    for folder in (tmp_path, tmp_path / "out"):
        (folder / ".brats3d-0123456789ab.part" / "x").mkdir(parents=True)
    done = repair(root, tmp_path / "out")
    assert "was left by a run that was killed" in done.summary()[-1]
    assert audit(done.out).ok
    (tmp_path / "other" / ".brats3d-mine.part").mkdir(parents=True)
    with pytest.raises(ValueError, match="not empty"):
        repair(root, tmp_path / "other")


@pytest.mark.parametrize("failing", ["_write_manifest", "appearing_whole"])
def test_a_failed_repair_leaves_no_new_folder_and_an_empty_one_empty(
    make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    root = make_dataset(cases=1, root=tmp_path / "data")
    (tmp_path / "empty").mkdir()

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    if failing == "_write_manifest":
        monkeypatch.setattr(repair_module, failing, fail)
    else:  # while the children move
        monkeypatch.setattr(Path, "rmdir", fail)
        monkeypatch.setattr(Path, "replace", fail)
        monkeypatch.setattr(repair_module, "write_json", lambda path, _: path.write_text("{}"))
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "out"):
        with pytest.raises(OSError, match="the disk is full"):
            repair(root, out)
    assert not list((tmp_path / "empty").iterdir())
    assert not list(tmp_path.rglob("*.part"))
    if failing == "_write_manifest":
        assert not (tmp_path / "a").exists()


def test_a_folder_that_is_filled_meanwhile_is_left_as_it_is(
    make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(repair_module, "_write_manifest", lambda *_: (out / "thesis.txt").write_text("x"))
    with pytest.raises(ValueError, match=r"now it holds thesis\.txt"):
        repair(make_dataset(cases=1, root=tmp_path / "data"), out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_the_copy_does_not_lie_where_a_link_in_the_data_leads(make_dataset, write_case, tmp_path: Path) -> None:
    make_dataset(root=tmp_path / "real")
    (tmp_path / "DIR").mkdir()
    (tmp_path / "DIR" / "data").symlink_to(tmp_path / "real")
    with pytest.raises(ValueError, match=r"lies in .*real"):
        repair(tmp_path / "DIR", tmp_path / "real" / "copy")
    assert not (tmp_path / "real" / "copy").exists()
    single = write_case(tmp_path / "pool" / "BraTS20_Training_009", seed=9)
    for path in single.iterdir():
        place = tmp_path / "links" / single.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    with pytest.raises(ValueError, match="lies in "):
        repair(tmp_path / "links", single / "copy")
    assert repair(tmp_path / "links", tmp_path / "out").complete


def test_a_copy_that_monai_could_not_read_is_refused(make_dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds '#'"):
        repair(make_dataset(cases=1), tmp_path / "a#b")


# --- the split


def write_datalist(root: Path, folds: dict[str, int], base: Path | None = None, **more: object) -> dict:
    entries = []
    for case_id, fold in folds.items():
        place = Path(case_id) if base is None else base / case_id
        image = [(place / f"{case_id}_{modality}.nii.gz").as_posix() for modality in MODALITIES]
        label = (place / f"{case_id}_seg.nii.gz").as_posix()
        entries.append({"image": image, "label": label, "fold": fold, "case_id": case_id, "patient_id": f"p{case_id}"})
    content = {"seed": 3, "numTraining": len(entries), "numTest": 0, "training": entries, "testing": [], **more}
    (root / "datalist.json").write_text(json.dumps(content))
    return content


FOLDS = {f"BraTS20_Training_00{i}": i % 2 for i in (1, 2, 3, 4)}


def case_ids(root: Path, section: str) -> list[str]:
    return [item["case_id"] for item in load_fold(root, section)]


def test_the_split_comes_along_as_it_is(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=4)
    content = write_datalist(root, FOLDS)
    done = check_law(root, tmp_path / "out")
    assert json.loads((done.out / "datalist.json").read_text()) == content
    assert not (done.out / "datalist.json").is_symlink()
    manifest = json.loads((done.out / "manifest.json").read_text())
    assert [(file["file"], file["action"]) for file in manifest["other_files"]] == [("datalist.json", "copied")]
    assert case_ids(done.out, "validation") == case_ids(root, "validation")


@pytest.mark.parametrize("absolute", [False, True])
def test_the_split_comes_along_without_cases_that_are_left_out(
    make_dataset, spoil, tmp_path: Path, absolute: bool
) -> None:
    root = make_dataset(cases=4)
    write_datalist(root, FOLDS, root if absolute else None)
    before = case_ids(root, "training") + case_ids(root, "validation")
    spoil(root, "missing")
    done = check_law(root, tmp_path / "out")
    new = json.loads((done.out / "datalist.json").read_text())
    assert case_ids(done.out, "training") == ["BraTS20_Training_001", "BraTS20_Training_003"]
    assert case_ids(done.out, "validation") == ["BraTS20_Training_004"]
    assert len(before) == 4
    assert new["numTraining"] == 3
    assert new["training"][0]["label"] == "BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz"
    assert new["training"][0]["patient_id"] == "pBraTS20_Training_001"
    other = json.loads((done.out / "manifest.json").read_text())["other_files"][-1]
    assert other["changes"][0] == "1 entries of cases that are left out removed"


def test_the_splits_paths_follow_the_copys_names(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=4, root=tmp_path / "HGG")
    write_datalist(root, FOLDS)
    wrong = root / CASE / "W39_1998.09.19_Segm.nii.gz"
    (root / CASE / f"{CASE}_seg.nii.gz").rename(wrong)
    content = json.loads((root / "datalist.json").read_text())
    content["training"][1]["label"] = f"{CASE}/{wrong.name}"
    content["testing"] = [f"{CASE}/{CASE}_t1.nii.gz"]
    (root / "datalist.json").write_text(json.dumps(content))
    done = check_law(root, tmp_path / "out")
    new = json.loads((done.out / "datalist.json").read_text())
    assert new["training"][1]["label"] == f"HGG/{CASE}/{CASE}_seg.nii.gz"
    assert new["training"][1]["image"][0] == f"HGG/{CASE}/{CASE}_t1.nii.gz"
    assert new["testing"] == [f"HGG/{CASE}/{CASE}_t1.nii.gz"]
    assert new["numTest"] == 1
    assert case_ids(done.out, "training") == case_ids(root, "training")


def test_a_split_that_names_the_other_of_two_equal_files_comes_along(make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset(cases=4)
    content = write_datalist(root, FOLDS)
    double_label(root)
    spoil(root, "case twice")
    content["training"][1]["image"] = [f"more/{name}" for name in content["training"][1]["image"]]
    (root / "datalist.json").write_text(json.dumps(content))
    done = check_law(root, tmp_path / "out")
    new = json.loads((done.out / "datalist.json").read_text())["training"]
    assert new[1]["label"] == f"{CASE}/{CASE}_seg.nii.gz"
    assert new[1]["image"][0] == f"{CASE}/{CASE}_t1.nii.gz"


def test_a_split_with_a_patient_in_two_folds_does_not_come_along(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(cases=4)
    content = write_datalist(root, FOLDS)
    for entry in content["training"]:
        entry["patient_id"] = "one"
    (root / "datalist.json").write_text(json.dumps(content))
    done = check_law(root, tmp_path / "out")
    assert not (done.out / "datalist.json").exists()
    assert "in several folds" in done.summary()[-1]


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        ("not JSON", "Expecting value"),
        ("[]", "is no datalist"),
        ('{"training": [{"image": []}]}', "has an entry without an image"),
        ('{"training": [{"image": ["elsewhere/x_t1.nii.gz"], "fold": 0}]}', "is no file of a case that was audited"),
        (None, "fold 0 would have no case left"),
    ],
)
def test_a_split_that_cannot_come_along_is_named(
    make_dataset, spoil, tmp_path: Path, spoiled: str | None, why: str
) -> None:
    root = make_dataset()
    if spoiled is None:
        write_datalist(root, {case_id: fold for case_id, fold in FOLDS.items() if not case_id.endswith("4")})
        spoil(root, "missing")
    else:
        (root / "datalist.json").write_text(spoiled)
    done = check_law(root, tmp_path / "out")
    assert not (done.out / "datalist.json").exists()
    assert why in done.summary()[-1]
    assert json.loads((done.out / "manifest.json").read_text())["notes"] == list(done.notes)


def test_the_splits_of_two_roots_stay_apart(make_dataset, tmp_path: Path) -> None:
    roots = [make_dataset(cases=1, root=tmp_path / "a"), make_dataset(cases=3, root=tmp_path / "b", layout="brats2021")]
    shutil.rmtree(roots[1] / "BraTS2021_00001")
    content = write_datalist(roots[1], {"BraTS2021_00002": 0, "BraTS2021_00003": 1})
    done = repair(roots, tmp_path / "out")
    assert json.loads((done.out / "2" / "datalist.json").read_text()) == content
