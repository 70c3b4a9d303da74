"""Two folders of segmentations, scored: what is paired, what is refused, what is counted."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d import cli
from brats3d.evaluation.folders import format_scores, score_folders
from brats3d.evaluation.segmentation_files import find_segmentations
from brats3d.files.nifti_writing import write_segmentation
from brats3d.labels import BRATS2020, BRATS2023

SHAPE = (14, 12, 10)
AFFINE = np.diag([-1.0, -1, 1, 1])


def tumour(shift: int = 0) -> np.ndarray:
    """BraTS 2020's labels: edema of 6 x 6 x 6, a core of 4 x 4 x 4 in it, of which half enhances."""
    label = np.zeros(SHAPE, np.uint8)
    label[2 + shift : 8 + shift, 3:9, 2:8] = 2
    label[3 + shift : 7 + shift, 4:8, 3:7] = 1
    label[3 + shift : 5 + shift, 4:8, 3:7] = 4
    return label


def put(path: Path, label: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(label, affine), path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Cases 1 and 2 in both: the first is right, the second moved by a voxel."""
    pred, ref = tmp_path / "pred", tmp_path / "ref"
    for number, shift in ((1, 0), (2, 1)):
        put(pred / f"BraTS20_Training_{number:03d}.nii.gz", tumour(shift))
        put(ref / f"BraTS20_Training_{number:03d}_seg.nii.gz", tumour())
    return pred, ref


def score(*folders: Path, **options):
    return score_folders(*folders, progress=False, **options)


def test_cases_are_paired_by_name_and_scored(folders):
    done = score(*folders)
    assert (done.cases, done.missing, done.extra) == (2, (), ())
    dice = {(row["case_id"][-3:], row["region"]): row["dice"] for row in done.rows}
    assert dice["001", "WT"] == dice["001", "ET"] == 1
    assert dice["002", "WT"] == pytest.approx(2 * 180 / 432)
    assert dice["002", "ET"] == pytest.approx(2 * 16 / 64)
    assert [row["region"] for row in done.rows] == ["WT", "TC", "ET"] * 2


def test_the_number_of_workers_changes_nothing(folders):
    assert score(*folders, workers=1).rows == score(*folders, workers=4).rows


@pytest.mark.parametrize("name", ["{0}.nii.gz", "{0}_seg.nii", "{0}-seg.nii.gz", "{0}/seg.nii.gz", "deep/{0}.nii"])
def test_files_are_found_under_every_name(tmp_path, name):
    path = put(tmp_path / name.format("case_7"), tumour())
    assert {case_id: each.path for case_id, each in find_segmentations(tmp_path).items()} == {"case_7": path}


def test_a_data_set_as_downloaded_is_a_reference(make_dataset, tmp_path):
    ref = make_dataset(3)
    pred = tmp_path / "pred"
    for case_id, each in find_segmentations(ref, with_cases=True).items():
        label = np.asanyarray(nib.load(each.path).dataobj)
        put(pred / f"{case_id}.nii.gz", label, nib.load(each.path).affine)
        assert each.convention == "brats2020"
    assert {row["dice"] for row in score(pred, ref).rows} == {1.0}


def test_labels_of_another_release_are_understood_on_either_side(folders):
    pred, ref = folders
    renumbered = np.where(tumour() == 4, 3, tumour())
    put(ref / "BraTS-GLI-00001-000-seg.nii.gz", renumbered)
    write_segmentation(
        pred / "BraTS-GLI-00001-000.nii.gz", tumour(), ref / "BraTS-GLI-00001-000-seg.nii.gz", "brats2020"
    )
    assert {row["dice"] for row in score(pred, ref).rows if "GLI" in row["case_id"]} == {1.0}
    put(pred / "BraTS-GLI-00001-000.nii.gz", tumour())  # nothing says that it is BraTS 2020's: 4 is not 2023's
    with pytest.raises(ValueError, match=r"GLI-00001-000.nii.gz: holds labels .*4.*expected brats2023's labels"):
        score(pred, ref)
    put(pred / "BraTS-GLI-00001-000.nii.gz", renumbered)
    assert {row["dice"] for row in score(pred, ref).rows if "GLI" in row["case_id"]} == {1.0}


def test_the_conventions_can_be_given(tmp_path):
    pred, ref = tmp_path / "p", tmp_path / "r"
    put(pred / "x1.nii.gz", tumour())
    put(ref / "x1.nii.gz", np.where(tumour() == 4, 3, tumour()))
    with pytest.raises(ValueError, match=r"x1.nii.gz: nothing says what its labels mean; pass --ref-labels"):
        score(pred, ref)
    done = score(pred, ref, pred_labels=BRATS2020.name, ref_labels=BRATS2023.name)
    assert {row["dice"] for row in done.rows} == {1.0}


def test_cases_without_a_prediction_are_listed_and_never_silent(folders):
    pred, ref = folders
    put(ref / "BraTS20_Training_003_seg.nii.gz", tumour())
    put(pred / "BraTS20_Training_009.nii.gz", tumour())
    done = score(pred, ref)
    assert (done.cases, done.missing, done.extra) == (2, ("BraTS20_Training_003",), ("BraTS20_Training_009",))
    table = format_scores(done)
    assert table.startswith("2 of 3 cases")
    assert "without a prediction (NOT in these figures; --missing zero counts them as 0): BraTS20_Training_003" in table
    assert "without a reference (not scored): BraTS20_Training_009" in table


def test_cases_without_a_prediction_count_as_0_where_asked(folders):
    pred, ref = folders
    label = tumour()
    label[label == 4] = 1  # no ET: an empty prediction would be right about it
    put(ref / "BraTS20_Training_003_seg.nii.gz", label)
    done = score(pred, ref, missing="zero")
    assert done.cases == 3
    lost = [row for row in done.rows if row["case_id"].endswith("003")]
    assert {(row["dice"], row["hd95_mm"], row["lesion_dice"], row["missing"]) for row in lost} == {(0, 374, 0, True)}
    older = score(pred, ref, missing="zero", convention="brats2020").rows
    assert [row["hd95_mm"] for row in older if row.get("missing")] == [pytest.approx(373.12866)] * 3
    assert format_scores(done).startswith("3 cases") and "counted as 0): BraTS20_Training_003" in format_scores(done)


def test_the_table_has_each_measure_and_region_with_its_spread(folders):
    lines = format_scores(score(*folders)).splitlines()
    wt = next(line.split() for line in lines if line.startswith("Dice  "))
    worse = 2 * 180 / 432
    assert wt[1] == "WT" and wt[2:] == [
        f"{v:.4f}"
        for v in ((1 + worse) / 2, (1 - worse) / 2**0.5, (1 + worse) / 2, worse + (1 - worse) / 4, 1 - (1 - worse) / 4)
    ]
    assert [line.split("  ")[0] for line in lines if line[:1].isalpha()] == [
        *("Dice", "HD95, mm", "Dice, lesion-wise", "HD95, lesion-wise, mm", "sensitivity", "specificity"),
        "volume error, ml",
    ]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda p: put(p, tumour()[:-1]), r"has shape \(13, 12, 10\); expected \(14, 12, 10\)"),
        (lambda p: put(p, tumour(), np.diag([1.0, -1, 1, 1])), "its affine differs"),
        (lambda p: put(p, np.where(tumour() == 2, 7, 0).astype(np.uint8)), "holds labels"),
        (lambda p: put(p, tumour().astype(np.float32) * 0.3), "not whole numbers .*: a probability map?"),
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), "ends early or is damaged"),
        (lambda p: p.write_bytes(b""), "the file is empty"),
    ],
    ids=["shape", "affine", "labels", "float", "truncated", "empty"],
)
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_scored(folders, break_it, said):
    pred, ref = folders
    break_it(pred / "BraTS20_Training_002.nii.gz")
    with pytest.raises(ValueError, match=said) as error:
        score(pred, ref)
    assert "BraTS20_Training_002" in str(error.value) and "nothing was scored" in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_that_do_not_fit_are_refused(folders, tmp_path):
    pred, ref = folders
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"pred_dir: .*none holds no segmentation; expected files like"):
        score(tmp_path / "none", ref)
    with pytest.raises(FileNotFoundError, match=r"ref_dir: there is no .*nowhere; expected a folder with seg"):
        score(pred, tmp_path / "nowhere")
    put(tmp_path / "other" / "x.nii.gz", tumour())
    with pytest.raises(ValueError, match=r"none of its 1 case\(s\) \(x\) is in"):
        score(tmp_path / "other", ref)
    put(pred / "again" / "BraTS20_Training_001_seg.nii.gz", tumour())
    with pytest.raises(ValueError, match=r"BraTS20_Training_001: 2 files, .*expected one; keep one file"):
        score(pred, ref)
    with pytest.raises(ValueError, match="missing: expected one of list, zero, got 'skip'"):
        score(pred, ref, missing="skip")


# --- nothing is scored silently that is something else, and nothing is left out silently


def test_label_only_cases_beside_whole_ones_are_references_too(make_dataset, tmp_path):
    ref = make_dataset(1)
    (case_id,) = find_segmentations(ref, with_cases=True)
    put(ref / "BraTS20_Training_091_seg.nii.gz", tumour())
    put(ref / "BraTS20_Training_092" / "BraTS20_Training_092_seg.nii.gz", tumour())
    put(tmp_path / "pred" / "BraTS20_Training_091.nii.gz", tumour())
    done = score(tmp_path / "pred", ref)
    assert done.missing == (case_id, "BraTS20_Training_092") or done.missing == ("BraTS20_Training_092", case_id)


def test_a_stray_image_does_not_hide_the_segmentations_beside_it(folders):
    pred, ref = folders
    put(ref / "BraTS20_Training_001_t1.nii.gz", tumour())
    assert score(pred, ref).cases == 2


def test_a_misnamed_segmentation_is_its_cases_and_an_ambiguous_one_is_named(make_dataset, tmp_path):
    ref = make_dataset(2)
    first, second = find_segmentations(ref, with_cases=True).values()
    label = np.asanyarray(nib.load(first.path).dataobj)
    put(tmp_path / "pred" / f"{first.case_id}.nii.gz", label, nib.load(first.path).affine)
    first.path.rename(first.path.with_name("W39_1998.09.19_Segm.nii.gz"))
    done = score(tmp_path / "pred", ref)
    assert (done.cases, done.missing) == (1, (second.case_id,))
    put(first.path.with_name("W40_Segm.nii.gz"), label)
    with pytest.raises(ValueError, match="2 files could be its segmentation"):
        score(tmp_path / "pred", ref)


def test_the_reference_is_no_prediction(make_dataset, tmp_path):
    ref = make_dataset(2)
    with pytest.raises(ValueError, match="is the reference itself; expected a prediction"):
        score(ref, ref)
    for case_id, each in find_segmentations(ref, with_cases=True).items():
        (tmp_path / "pred").mkdir(exist_ok=True)
        (tmp_path / "pred" / f"{case_id}.nii.gz").symlink_to(each.path)
    with pytest.raises(ValueError, match="is the reference itself"):
        score(tmp_path / "pred", ref)


def test_predictions_beside_a_copy_of_the_data_are_doubles_and_not_overlooked(make_dataset):
    ref = make_dataset(1)
    (case_id,) = find_segmentations(ref, with_cases=True)
    put(ref / f"{case_id}.nii.gz", tumour())
    with pytest.raises(ValueError, match=f"pred_dir: .*{case_id}: 2 files"):
        score(ref, ref)


def test_links_are_followed_and_hidden_folders_are_not_looked_at(folders, tmp_path):
    pred, ref = folders
    real = put(tmp_path / "elsewhere" / "BraTS20_Training_003_seg.nii.gz", tumour()).parent
    (ref / "BraTS20_Training_003").symlink_to(real)
    put(pred / ".old" / "BraTS20_Training_003.nii.gz", tumour())
    assert score(pred, ref).missing == ("BraTS20_Training_003",)


def test_the_same_name_in_every_folder_says_how_files_are_to_be_named(tmp_path, folders):
    for number in range(9):
        put(tmp_path / "p" / f"c{number}" / "prediction.nii.gz", tumour())
    with pytest.raises(ValueError, match=r"prediction: 9 files, .* and 6 more; .*named by it: <case_id>.nii.gz"):
        score(tmp_path / "p", folders[1])


def test_labels_of_2020_are_not_taken_for_a_cavity(tmp_path):
    pred, ref = tmp_path / "p", tmp_path / "r"
    label = np.where(tumour() == 4, 3, tumour())
    label[8, 3:9, 2:8] = 4  # the cavity
    put(ref / "BraTS-GLI-02000-100-seg.nii.gz", label)
    put(pred / "BraTS-GLI-02000-100.nii.gz", tumour())
    with pytest.raises(ValueError, match=r"predictions hold 4 and never 3, the reference \(brats2024-gli\) holds 3"):
        score(pred, ref)
    done = score(pred, ref, pred_labels="brats2020")
    assert {row["dice"] for row in done.rows} == {1.0}
    assert done.labels == "predictions brats2020, reference brats2024-gli"


@pytest.mark.parametrize(
    ("case_id", "rules"), [("BraTS-MET-00001-000", "brats2023-met"), ("BraTS-MEN-00001-000", "brats2023-men")]
)
def test_metastases_and_meningiomas_follow_their_own_rules(tmp_path, case_id, rules):
    label = np.where(tumour() == 4, 3, tumour())
    put(tmp_path / "r" / f"{case_id}-seg.nii.gz", label)
    put(tmp_path / "p" / f"{case_id}.nii.gz", label)
    assert score(tmp_path / "p", tmp_path / "r").rules == rules
    assert score(tmp_path / "p", tmp_path / "r", convention="brats2023").rules == "brats2023"


def test_folders_without_a_case_in_common_are_refused_even_where_missing_ones_count(folders, tmp_path):
    put(tmp_path / "other" / "x.nii.gz", tumour())
    with pytest.raises(ValueError, match="expected files named by the same cases"):
        score(tmp_path / "other", folders[1], missing="zero")


def test_a_table_that_is_something_else_is_not_replaced(folders, tmp_path, capsys):
    (tmp_path / "s.csv").write_text("mine\n")
    assert cli.main(["score", *map(str, folders), "--output", str(tmp_path / "s.json")]) == 2
    assert "s.csv is there and is something else" in capsys.readouterr().err
    assert (tmp_path / "s.csv").read_text() == "mine\n" and not (tmp_path / "s.json").exists()


# --- the commands


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
    assert cli.main(["score", *map(str, folders), "--output", str(file)]) == 0  # over an earlier scoring


def test_score_ends_with_1_where_cases_are_left_out_and_2_where_it_is_used_wrongly(folders, tmp_path, capsys):
    pred, ref = folders
    put(ref / "BraTS20_Training_003_seg.nii.gz", tumour())
    command = ["score", str(pred), str(ref), "--output", str(tmp_path / "s.json")]
    assert cli.main(command) == 1
    assert cli.main([*command, "--missing", "zero"]) == 0
    capsys.readouterr()
    for more, said in (
        (["--missing", "skip"], "missing: expected one of list, zero"),
        (["--convention", "brats2019"], "convention: expected one of brats2023"),
        (["--pred-labels", "mine"], "--pred-labels: expected one of brats2020"),
        (["--output", str(tmp_path / "s.txt")], "output: expected a file whose name ends in .json"),
    ):
        assert cli.main([*command, *more]) == 2
        assert said in capsys.readouterr().err
    other = tmp_path / "mine.json"
    other.write_text("{}")
    assert cli.main([*command[:3], "--output", str(other)]) == 2
    assert other.read_text() == "{}"


def test_compare_prints_the_table_and_draws(folders, tmp_path, capsys):
    pred, ref = folders
    for name in ("a", "b"):
        cli.main(["score", str(pred), str(ref), "--output", str(tmp_path / f"{name}.json")])
    capsys.readouterr()
    plot = tmp_path / "c.png"
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--plot", str(plot)]) == 0
    assert "dice, 2 cases, A = " in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--measure", "f1"]) == 2
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")]) == 1


def test_a_gzip_that_is_none_is_one_line(folders, capsys, tmp_path):
    pred, ref = folders
    (pred / "BraTS20_Training_001.nii.gz").write_bytes(gzip.compress(b"no nifti" * 100))
    assert cli.main(["score", str(pred), str(ref), "--output", str(tmp_path / "s.json")]) == 1
    err = capsys.readouterr().err
    assert "BraTS20_Training_001.nii.gz: cannot be read as NIfTI" in err and "Traceback" not in err
