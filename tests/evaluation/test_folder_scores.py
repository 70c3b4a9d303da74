"""Two folders of segmentations, scored, and the commands ``score`` and ``compare``."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d import cli
from brats3d.errors import DataError, NotFoundError, UsageError
from brats3d.evaluation.find_segmentation_files import find_segmentations
from brats3d.evaluation.folder_scores import FolderScores, score_folders


def score(*folders: Path, **options) -> FolderScores:
    return score_folders(*folders, progress=False, **options)


def test_cases_are_paired_by_name_and_scored(folders):
    scores = score(*folders)
    assert (scores.cases, scores.missing, scores.extra) == (2, (), ())
    dice = {(row.case_id[-3:], row.region): row.dice for row in scores.rows}
    assert dice["001", "WT"] == dice["001", "ET"] == 1
    assert dice["002", "WT"] == pytest.approx(2 * 180 / 432)
    assert dice["002", "ET"] == pytest.approx(2 * 16 / 64)
    assert [row.region for row in scores.rows] == ["WT", "TC", "ET"] * 2


def test_the_number_of_workers_does_not_change_scores(folders):
    assert score(*folders, workers=1).rows == score(*folders, workers=4).rows


def test_the_reference_may_be_a_data_set_as_downloaded(make_dataset, samples, tmp_path):
    ref = make_dataset(3)
    for case_id, each in find_segmentations(ref, with_cases=True).items():
        image = nib.load(each.path)
        samples.save(tmp_path / "pred" / f"{case_id}.nii.gz", np.asanyarray(image.dataobj), image.affine)
    assert {row.dice for row in score(tmp_path / "pred", ref).rows} == {1.0}


def test_cases_without_a_counterpart_are_listed(folders, samples):
    pred, ref = folders
    samples.save(ref / "BraTS20_Training_003_seg.nii.gz", samples.tumour())
    samples.save(pred / "BraTS20_Training_009.nii.gz", samples.tumour())
    scores = score(pred, ref)
    assert scores.cases == 2 and not scores.counts_missing
    assert (scores.missing, scores.extra) == (("BraTS20_Training_003",), ("BraTS20_Training_009",))


def test_cases_without_a_prediction_can_count_as_0(folders, samples):
    pred, ref = folders
    label = samples.tumour()
    label[label == 4] = 1  # without ET an empty prediction would be right about it
    samples.save(ref / "BraTS20_Training_003_seg.nii.gz", label)
    scores = score(pred, ref, missing="zero")
    assert scores.cases == 3 and scores.counts_missing
    lost = [row for row in scores.rows if row.case_id.endswith("003")]
    assert {(row.dice, row.hd95_mm, row.lesion_dice, row.missing) for row in lost} == {(0, 374, 0, True)}
    older = score(pred, ref, missing="zero", convention="brats2020").rows
    assert [row.hd95_mm for row in older if row.missing] == [pytest.approx(373.12866)] * 3


def test_unusable_files_are_all_listed_and_nothing_is_scored(folders, samples):
    pred, ref = folders
    samples.save(pred / "BraTS20_Training_001.nii.gz", samples.tumour()[:-1])
    (pred / "BraTS20_Training_002.nii.gz").write_bytes(b"")
    with pytest.raises(DataError) as error:
        score(pred, ref)
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "BraTS20_Training_001",
        "BraTS20_Training_002",
    ]
    assert "(13, 12, 10)" in error.value.problems[0] and "empty" in error.value.problems[1]


def test_folders_that_cannot_be_compared_are_refused(folders, samples, tmp_path):
    pred, ref = folders
    with pytest.raises(NotFoundError) as missing:
        score(pred, tmp_path / "nowhere")
    assert missing.value.subject == "ref_dir"
    samples.save(tmp_path / "other" / "x.nii.gz", samples.tumour())
    for how in ("list", "zero"):
        with pytest.raises(DataError) as error:
            score(tmp_path / "other", ref, missing=how)
        assert error.value.subject == str(tmp_path / "other") and "case" in error.value.problem
    with pytest.raises(UsageError) as wrong:
        score(pred, ref, missing="skip")
    assert (wrong.value.subject, wrong.value.found) == ("missing", "skip")


def test_cases_with_only_a_label_are_references(make_dataset, samples, tmp_path):
    ref = make_dataset(1)
    (case_id,) = find_segmentations(ref, with_cases=True)
    samples.save(ref / "BraTS20_Training_091_seg.nii.gz", samples.tumour())
    samples.save(ref / "BraTS20_Training_092" / "BraTS20_Training_092_seg.nii.gz", samples.tumour())
    samples.save(tmp_path / "pred" / "BraTS20_Training_091.nii.gz", samples.tumour())
    assert set(score(tmp_path / "pred", ref).missing) == {case_id, "BraTS20_Training_092"}


def test_predictions_with_labels_of_2020_are_not_read_as_a_cavity(samples, tmp_path):
    pred, ref = tmp_path / "p", tmp_path / "r"
    label = np.where(samples.tumour() == 4, 3, samples.tumour())
    label[8, 3:9, 2:8] = 4  # the cavity
    samples.save(ref / "BraTS-GLI-02000-100-seg.nii.gz", label)
    samples.save(pred / "BraTS-GLI-02000-100.nii.gz", samples.tumour())
    with pytest.raises(DataError) as error:
        score(pred, ref)
    assert error.value.subject == str(pred)
    assert "brats2024-gli" in error.value.problem and "--pred-labels brats2020" in error.value.advice
    scores = score(pred, ref, pred_labels="brats2020")
    assert {row.dice for row in scores.rows} == {1.0}
    assert scores.labels == "predictions brats2020, reference brats2024-gli"


@pytest.mark.parametrize(
    ("case_id", "rules"), [("BraTS-MET-00001-000", "brats2023-met"), ("BraTS-MEN-00001-000", "brats2023-men")]
)
def test_metastases_and_meningiomas_have_their_own_rules(samples, tmp_path, case_id, rules):
    label = np.where(samples.tumour() == 4, 3, samples.tumour())
    samples.save(tmp_path / "r" / f"{case_id}-seg.nii.gz", label)
    samples.save(tmp_path / "p" / f"{case_id}.nii.gz", label)
    assert score(tmp_path / "p", tmp_path / "r").rules == rules
    assert score(tmp_path / "p", tmp_path / "r", convention="brats2023").rules == "brats2023"


def test_score_writes_json_and_csv_and_prints_the_table(folders, tmp_path, capsys):
    file = tmp_path / "out" / "scores.json"
    assert cli.main(["score", *map(str, folders), "--output", str(file)]) == 0
    content = json.loads(file.read_text())
    assert len(content["rows"]) == 6 and content["rules"] == "brats2023" and content["missing"] == []
    with file.with_suffix(".csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [float(row["dice"]) for row in table] == [row["dice"] for row in content["rows"]]
    out = capsys.readouterr().out
    assert "2 cases, rules of brats2023; labels: predictions brats2020 (as the reference), reference brats2020" in out
    assert cli.main(["score", *map(str, folders), "--output", str(file)]) == 0  # replaces an earlier scoring


def test_references_of_an_unknown_convention_are_refused_with_those_that_fit(samples, tmp_path):
    pred, ref = tmp_path / "pred", tmp_path / "labelsTr"
    label = np.array([0, 2, 1, 0, 3], np.uint8)[samples.tumour()]  # the Decathlon's
    for folder in (pred, ref):
        samples.save(folder / "B_001.nii.gz", label)
    with pytest.raises(UsageError) as error:
        score(pred, ref)
    assert error.value.expected.startswith("decathlon or ") and "brats2020" not in error.value.expected
    assert {row.dice for row in score(pred, ref, ref_labels="decathlon").rows} == {1.0}


def test_what_was_paired_flipped_or_misread_is_noted(folders, samples, tmp_path, caplog, capsys):
    pred, _ = folders
    ref = tmp_path / "ref_2023"
    in_2023, in_decathlon = np.array([0, 1, 2, 0, 3], np.uint8), np.array([0, 2, 1, 0, 3], np.uint8)
    for number in (1, 2):
        path, name = pred / f"BraTS20_Training_00{number}.nii.gz", f"BraTS-GLI-0000{number}-000"
        image = nib.load(path)
        label = np.asanyarray(image.dataobj)
        samples.save(ref / f"{name}-seg.nii.gz", in_2023[label], image.affine)
        flipped = nib.as_closest_canonical(nib.Nifti1Image(in_decathlon[label], image.affine))
        samples.save(pred / f"{name}_pred.nii.gz", np.asanyarray(flipped.dataobj), flipped.affine)
        path.unlink()
    file = tmp_path / "s.json"
    assert cli.main(["score", str(pred), str(ref), "--output", str(file)]) == 0
    labels, names, grids = json.loads(file.read_text())["notes"]
    assert "--pred-labels decathlon" in labels and labels in caplog.messages
    assert "BraTS-GLI-00001-000_pred" in names
    assert grids.startswith("BraTS-GLI-00001-000, BraTS-GLI-00002-000: ")
    assert f"note: {labels}" in capsys.readouterr().out
    scores = score(pred, ref, pred_labels="decathlon")
    assert {row.dice for row in scores.rows} == {1.0} and len(scores.notes) == 2


def test_score_exits_1_if_cases_are_left_out_and_2_for_wrong_arguments(folders, samples, tmp_path, capsys):
    pred, ref = folders
    samples.save(ref / "BraTS20_Training_003_seg.nii.gz", samples.tumour())
    command = ["score", str(pred), str(ref), "--output", str(tmp_path / "s.json")]
    assert cli.main(command) == 1
    assert cli.main([*command, "--missing", "zero"]) == 0
    capsys.readouterr()
    wrong = {"missing": "skip", "convention": "brats2019", "pred-labels": "mine", "output": "s.txt"}
    for option, value in wrong.items():
        assert cli.main([*command, f"--{option}", value]) == 2
        assert option.replace("-", "_") in capsys.readouterr().err


@pytest.mark.parametrize("name", ["s.json", "s.csv"])
def test_score_does_not_replace_a_file_of_another_kind(folders, tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert cli.main(["score", *map(str, folders), "--output", str(tmp_path / "s.json")]) == 2
    assert [path.name for path in tmp_path.glob("s.*")] == [name]
    assert (tmp_path / name).read_text() == "{}"


def test_compare_prints_the_table_and_draws(folders, tmp_path, capsys):
    for name in ("a", "b"):
        cli.main(["score", *map(str, folders), "--output", str(tmp_path / f"{name}.json")])
    capsys.readouterr()
    plot = tmp_path / "c.png"
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--plot", str(plot)]) == 0
    assert "dice, 2 cases, A = " in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--measure", "f1"]) == 2


def test_compare_reads_the_scores_in_the_folder_of_a_run(folders, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    cli.main(["score", *map(str, folders), "--output", str(tmp_path / "run" / "metrics.json")])
    assert cli.main(["compare", str(tmp_path / "run"), str(tmp_path / "run" / "metrics.json")]) == 0
    assert "dice, 2 cases, A = " in capsys.readouterr().out
    assert cli.main(["compare", str(tmp_path), str(tmp_path / "run")]) == 2
    assert str(tmp_path / "metrics.json") in capsys.readouterr().err


def test_a_file_that_is_not_nifti_is_reported_in_one_line(folders, capsys, tmp_path):
    (folders[0] / "BraTS20_Training_001.nii.gz").write_bytes(gzip.compress(b"no nifti" * 100))
    assert cli.main(["score", *map(str, folders), "--output", str(tmp_path / "s.json")]) == 1
    err = capsys.readouterr().err.strip()
    assert "BraTS20_Training_001.nii.gz" in err and "\n" not in err
