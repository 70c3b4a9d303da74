"""Segmentations found in folders."""

from __future__ import annotations

import shutil
import unicodedata

import pytest

from brats3d.errors import DataError, NotFoundError, UsageError
from brats3d.evaluation.find_segmentation_files import find_segmentations


@pytest.mark.parametrize(
    "name", ["{0}.nii.gz", "{0}_seg.nii", "{0}-seg.nii.gz", "{0}/seg.nii.gz", "{0}/pred.nii.gz", "deep/{0}.nii"]
)
def test_segmentations_are_found_under_every_name(samples, tmp_path, name):
    path = samples.save(tmp_path / name.format("case_7"), samples.tumour())
    assert {case_id: each.path for case_id, each in find_segmentations(tmp_path).items()} == {"case_7": path}


@pytest.mark.parametrize("name", ["{}.nii.gz", "{}/seg.nii.gz", "{}_seg.nii"])
def test_decomposed_names_are_composed(samples, tmp_path, name):
    samples.save(tmp_path / name.format(unicodedata.normalize("NFD", "Müller")), samples.tumour())
    assert list(find_segmentations(tmp_path)) == ["Müller"]


def test_of_a_raw_case_the_segmentation_in_its_own_space_counts(samples, tmp_path):
    own = samples.save(tmp_path / "P07.nii.gz", samples.tumour())
    in_brats_space = samples.save(tmp_path / "brats_space" / "P07.nii.gz", samples.tumour())
    assert [each.path for each in find_segmentations(tmp_path).values()] == [own]
    assert [each.path for each in find_segmentations(tmp_path / "brats_space").values()] == [in_brats_space]


def test_the_layout_of_a_data_set_decides_the_convention(make_dataset):
    found = find_segmentations(make_dataset(2), with_cases=True)
    assert [each.convention for each in found.values()] == ["brats2020"] * 2


def test_a_stray_image_does_not_hide_segmentations(folders, samples):
    _, ref = folders
    samples.save(ref / "BraTS20_Training_001_t1.nii.gz", samples.tumour())
    assert len(find_segmentations(ref, with_cases=True)) == 2


def test_a_misnamed_segmentation_belongs_to_its_case_unless_there_are_two(make_dataset):
    ref = make_dataset(2)
    first = next(iter(find_segmentations(ref, with_cases=True).values()))
    renamed = first.path.rename(first.path.with_name("W39_1998.09.19_Segm.nii.gz"))
    assert find_segmentations(ref, with_cases=True)[first.case_id].path == renamed
    first.path.with_name("W40_Segm.nii.gz").write_bytes(renamed.read_bytes())
    with pytest.raises(DataError) as error:
        find_segmentations(ref, with_cases=True)
    assert first.case_id in error.value.problems[0]


def test_two_segmentations_of_one_case_are_refused(make_dataset, samples):
    ref = make_dataset(1)
    (case_id,) = find_segmentations(ref, with_cases=True)
    samples.save(ref / f"{case_id}.nii.gz", samples.tumour())
    with pytest.raises(DataError) as error:
        find_segmentations(ref)
    assert error.value.problems[0].startswith(f"{case_id}: 2 files")


def test_one_name_in_every_folder_is_refused_with_advice(samples, tmp_path):
    for number in range(9):
        samples.save(tmp_path / f"c{number}" / "tumour_model.nii.gz", samples.tumour())
    with pytest.raises(DataError) as error:
        find_segmentations(tmp_path)
    assert "and 6 more" in error.value.problems[0] and "<case_id>.nii.gz" in error.value.advice


def test_links_are_followed_and_hidden_folders_skipped(samples, tmp_path):
    real = samples.save(tmp_path / "elsewhere" / "BraTS20_Training_003_seg.nii.gz", samples.tumour()).parent
    samples.save(tmp_path / "root" / ".old" / "BraTS20_Training_004.nii.gz", samples.tumour())
    (tmp_path / "root" / "BraTS20_Training_003").symlink_to(real)
    assert list(find_segmentations(tmp_path / "root")) == ["BraTS20_Training_003"]


def test_a_folder_without_segmentations_is_refused(tmp_path):
    with pytest.raises(DataError):
        find_segmentations(tmp_path, "pred_dir")
    with pytest.raises(NotFoundError) as missing:
        find_segmentations(tmp_path / "nowhere", "pred_dir")
    assert missing.value.subject == "pred_dir"
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as file:
        find_segmentations(tmp_path / "file", "ref_dir")
    assert file.value.subject == "ref_dir"


def test_predictions_beside_images_are_found(make_dataset, samples):
    folder = make_dataset(1)
    (case_id,) = find_segmentations(folder, with_cases=True)
    (seg,) = folder.rglob("*_seg.nii.gz")
    seg.rename(seg.with_name(f"{case_id}_pred.nii.gz"))
    samples.save(seg.with_name(f"{case_id}_mask.nii.gz"), samples.tumour())  # of the brain, perhaps
    assert list(find_segmentations(folder)) == [f"{case_id}_pred"]
    with pytest.raises(DataError):
        find_segmentations(folder, with_cases=True)


def test_a_segmentation_of_the_brain_beside_images_is_no_reference(make_dataset, samples):
    ref = make_dataset(2)
    found = list(find_segmentations(ref, with_cases=True))
    for seg in list(ref.rglob("*_seg.nii.gz")):
        samples.save(seg.with_name(seg.name.replace("_seg", "_brain_segmentation")), samples.tumour())
    assert list(find_segmentations(ref, with_cases=True)) == found


@pytest.mark.parametrize(("kind", "module"), [("zip", "zipfile"), ("gztar", "tarfile")])
def test_an_archive_is_refused_with_the_command_that_unpacks_it(samples, tmp_path, kind, module):
    path = samples.save(tmp_path / "preds" / "case_7.nii.gz", samples.tumour())
    archive = shutil.make_archive(str(tmp_path / "packed" / "preds"), kind, path.parent)
    for folder, kind_of_error in ((archive, UsageError), (tmp_path / "packed", DataError)):
        with pytest.raises(kind_of_error) as error:
            find_segmentations(folder)
        assert f"python -m {module} -e {archive}" in error.value.advice
