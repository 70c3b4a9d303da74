"""The files of scored cases, complete and incomplete."""

from __future__ import annotations

import json
import shutil

from brats3d.labels import MODALITIES
from brats3d.report.run_results import read_run
from brats3d.report.scored_cases import find_files


def test_every_case_is_found(built):
    files, problems = find_files(read_run(built))
    assert set(files) == set(read_run(built).by_case) and problems == []


def test_without_segmentations_the_advice_is_to_evaluate(run_dir):
    shutil.rmtree(run_dir / "segmentations")
    files, problems = find_files(read_run(run_dir), evaluate="brats3d evaluate my data")
    assert files == {} and problems[0].case_id is None and "brats3d evaluate my data" in problems[0].text


def test_a_case_without_a_segmentation_is_a_problem_of_its_own(run_dir):
    name = read_run(run_dir).ranked[0]
    (run_dir / "segmentations" / f"{name}.nii.gz").unlink()
    files, (problem,) = find_files(read_run(run_dir))
    assert len(files) == 3 and problem.case_id == name and "no segmentation" in problem.text


def test_a_case_without_a_sequence_or_a_reference_is_a_problem_of_its_own(run_dir, data_dir):
    first, second = read_run(run_dir).ranked[:2]
    (data_dir / first / f"{first}_t2.nii.gz").unlink()
    (data_dir / second / f"{second}_seg.nii.gz").unlink()
    files, problems = find_files(read_run(run_dir), data_dir)
    texts = {problem.case_id: problem.text for problem in problems}
    assert len(files) == 2 and "t2" in texts[first] and "reference" in texts[second]


def test_a_case_id_that_is_a_path_is_not_opened(run_dir):
    scores = run_dir / "metrics.json"
    scores.write_text(scores.read_text().replace(read_run(run_dir).ranked[0], "../secret"))
    files, (problem,) = find_files(read_run(run_dir))
    assert len(files) == 3 and problem.case_id == "../secret"


def test_moved_data_are_found_in_the_folder_that_is_passed(run_dir, data_dir, write_settings):
    gone = "/gone"  # messages cut long paths
    for datalist in (None, f"{gone}/list.json"):
        write_settings(run_dir, dataset_dir=gone, datalist=datalist)
        files, (problem,) = find_files(read_run(run_dir))
        assert files == {} and gone in problem.text and "--dataset-dir" in problem.text
        assert len(find_files(read_run(run_dir), data_dir)[0]) == 4


def test_a_pretraining_has_no_data_set(run_dir):
    (run_dir / "settings.json").write_text(json.dumps({"minutes": 5, "modalities": list(MODALITIES)}))
    files, (problem,) = find_files(read_run(run_dir))
    assert files == {} and "dataset_dir" in problem.text


def test_the_datalist_of_the_run_locates_the_cases_even_after_a_move(run_dir, data_dir, write_settings):
    names = sorted(folder.name for folder in data_dir.iterdir())
    items = [
        {"image": [f"{n}/{n}_{m}.nii.gz" for m in MODALITIES], "label": f"{n}/{n}_seg.nii.gz", "fold": i % 2}
        for i, n in enumerate(names)
    ]
    (data_dir / "list.json").write_text(json.dumps({"training": items}))
    write_settings(run_dir, dataset_dir=str(data_dir), datalist=str(data_dir / "list.json"))
    assert set(find_files(read_run(run_dir))[0]) == set(names)
    write_settings(run_dir, dataset_dir="gone", datalist="gone/list.json")
    assert set(find_files(read_run(run_dir), data_dir)[0]) == set(names)
