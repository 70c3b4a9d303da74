"""The pictures of cases, some of which are damaged."""

from __future__ import annotations

import pytest

from brats3d.report import gallery as gallery_module
from brats3d.report.gallery import Gallery
from brats3d.report.run_results import read_run
from brats3d.report.scored_cases import find_files


def open_gallery(run_dir, data_dir=None) -> Gallery:
    run = read_run(run_dir)
    return Gallery(run, find_files(run, data_dir)[0])


def test_only_the_worst_of_many_cases_have_a_thumbnail(built, monkeypatch):
    monkeypatch.setattr(gallery_module, "MAX_THUMBNAILS", 2)
    gallery = open_gallery(built)
    assert list(gallery.thumbnails(progress=False)) == gallery.run.ranked[:2] and not gallery.problems


@pytest.mark.parametrize("suffix", ["flair", "t1", "seg"])
def test_a_damaged_file_affects_only_its_case(run_dir, data_dir, tmp_path, suffix):
    ranked = read_run(run_dir).ranked
    file = data_dir / ranked[0] / f"{ranked[0]}_{suffix}.nii.gz"
    file.write_bytes(file.read_bytes()[:900])
    gallery = open_gallery(run_dir, data_dir)
    thumbnails = gallery.thumbnails(progress=False)
    assert list(thumbnails) == ranked[0 if suffix == "t1" else 1 :]  # thumbnails need FLAIR and labels only
    if suffix == "t1":
        assert [case.case_id for case in gallery.shown_cases(tmp_path)] == [ranked[3], ranked[2], ranked[1]]
    (problem,) = gallery.problems.values()
    assert problem.case_id == ranked[0] and str(file) in problem.text


def test_best_and_worst_case_have_a_viewer(built, tmp_path):
    shown = open_gallery(built).shown_cases(tmp_path)
    assert [(case.rank, case.viewer is None) for case in shown] == [("best", False), ("median", True), ("worst", False)]
    assert list(shown[0].viewer.sequences) == ["FLAIR", "T1ce"] and len(shown[0].panels) == 4 + 4
    assert {path.name for path in tmp_path.glob("*.png")} == {"best.png", "median.png", "worst.png"}
