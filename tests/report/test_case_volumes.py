"""The volumes of scored cases."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from brats3d.cases.search import find_cases
from brats3d.errors import DataError
from brats3d.labels import MODALITIES
from brats3d.report.case_volumes import compare_with_scores, load_volumes
from brats3d.report.run_results import read_run
from brats3d.report.scored_cases import CaseFiles, find_files


def test_label_convention_and_orientation_do_not_change_the_volumes(build_run, tmp_path):
    run_dir = build_run(tmp_path, cases=1, layout="brats2023")
    case = find_cases(tmp_path / "data", require_label=True)[0]
    files = CaseFiles(case, run_dir / "segmentations" / f"{case.case_id}.nii.gz")
    before = load_volumes(files, MODALITIES)
    assert compare_with_scores(before, read_run(run_dir).by_case[case.case_id]) == ""
    for path in (*case.files, files.segmentation):
        turned = nib.load(path).as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine, turned.header), path)
    after = load_volumes(files, MODALITIES)
    for name in ("image", "ref", "pred", "spacing_mm", "start"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_files_that_were_not_scored_are_noticed(built):
    run = read_run(built)
    case_id = run.ranked[-1]
    volumes = load_volumes(find_files(run)[0][case_id], ["t1"])
    rows = run.by_case[case_id]
    assert compare_with_scores(volumes, rows) == ""
    shifted = replace(volumes, pred=np.roll(volumes.pred, 3, axis=1))  # every volume stays the same
    assert "Dice" in compare_with_scores(shifted, rows)
    larger = {**rows, "WT": replace(rows["WT"], ref_volume_ml=rows["WT"].ref_volume_ml + 3)}
    assert "ml" in compare_with_scores(volumes, larger)


def test_labels_without_a_convention_are_refused(built):
    files = next(iter(find_files(read_run(built))[0].values()))
    with pytest.raises(DataError) as caught:
        load_volumes(replace(files, case=replace(files.case, convention=None)), ["t1"])
    assert caught.value.subject == str(files.case.label) and "label_convention" in caught.value.expected


def test_a_segmentation_on_another_grid_is_refused(run_dir):
    files = next(iter(find_files(read_run(run_dir))[0].values()))
    image = nib.load(files.segmentation)
    moved = image.affine + np.diag([0, 0, 0, 0.0])
    moved[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), files.segmentation)
    with pytest.raises(DataError) as caught:
        load_volumes(files, ["t1"])
    assert caught.value.subject == str(files.segmentation)


def test_the_shown_slice_has_the_most_tumour_of_the_reference_or_of_the_prediction(volumes):
    assert volumes.shown_slice == 3
    pred = np.zeros_like(volumes.pred)
    pred[:, 0, 0, 5] = 1
    assert replace(volumes, ref=np.zeros_like(pred), pred=pred).shown_slice == 5
