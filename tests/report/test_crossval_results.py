"""The report of a cross-validation: the scores of all folds together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from brats3d.bundle import repeat_command
from brats3d.errors import DataError
from brats3d.evaluation.score_files import read_scores, write_scores
from brats3d.labels import MODALITIES, REGIONS
from brats3d.report.crossval_results import CROSSVAL_NAME, EVALUATED_NAME, read_results, write_crossval_settings
from brats3d.report.fold_charts import draw_fold_curves
from brats3d.report.page import PageContent, render_page
from brats3d.report.repeat_commands import evaluate_command, repeat_commands
from brats3d.report.run_facts import describe_run
from brats3d.report.run_results import Run
from brats3d.report.scored_cases import find_files

CASES = [f"BraTS20_Training_{number:03d}" for number in (1, 2, 3, 4)]
FOLDS = (CASES[:1], CASES[1:])


@pytest.fixture(scope="module")
def results(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A cross-validation of two folds, of one case and of three."""
    folder = tmp_path_factory.mktemp("crossval")
    rows = read_scores(built / "metrics.json").rows
    for fold, cases in enumerate(FOLDS):
        run = shutil.copytree(built, folder / f"fold{fold}", ignore=shutil.ignore_patterns("report*"))
        write_scores(run / "metrics.json", [row for row in rows if row.case_id in cases], epoch=7 + fold)
        settings = {**json.loads((run / "settings.json").read_text()), "fold": fold}
        (run / "settings.json").write_text(json.dumps(settings))
        for case_id in set(CASES) - set(cases):
            (run / "segmentations" / f"{case_id}.nii.gz").unlink()
        (run / EVALUATED_NAME).touch()
    write_scores(folder / "metrics.json", rows)
    write_crossval_settings(folder, len(FOLDS), {"dataset_dir": "my data", "seed": 3})
    return read_results(folder)


def test_a_single_run_has_no_folds(built: Path) -> None:
    assert read_results(built).folds == ()


def test_an_ensemble_in_the_folder_makes_no_cross_validation(built: Path, tmp_path: Path) -> None:
    run = shutil.copytree(built, tmp_path / "run")
    card = {"modalities": MODALITIES, "regions": REGIONS, "network_def": {}, "members": ["../a.pt"]}
    (run / "ensemble.json").write_text(json.dumps(card))
    assert read_results(run).folds == ()


def test_an_unfinished_cross_validation_names_its_missing_folds_and_the_command(results: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(results.folder, tmp_path / "out")
    (folder / "metrics.json").unlink()
    command = f"run brats3d crossval 'my data' --output {folder} --seed 3"
    with pytest.raises(DataError) as caught:
        read_results(folder, repeat_command)
    assert (caught.value.problem, caught.value.advice) == ("the folds were not combined", command)
    (folder / "fold1" / EVALUATED_NAME).unlink()
    with pytest.raises(DataError) as caught:
        read_results(folder, repeat_command)
    assert (caught.value.problem, caught.value.advice) == ("folds 1 of 2 are not finished", command)


@pytest.mark.parametrize("content", ["{", "[]", '{"folds": 0, "settings": {}}', '{"folds": 2}'])
def test_damaged_settings_are_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / CROSSVAL_NAME).write_text(content)
    with pytest.raises(DataError) as caught:
        read_results(tmp_path)
    assert caught.value.subject == str(tmp_path / CROSSVAL_NAME)


def test_the_runs_of_the_folds_are_read(results: Run) -> None:
    assert [list(run.by_case) for run in results.folds] == list(FOLDS) and list(results.by_case) == CASES
    assert results.settings["epochs"] == 50 and "fold" not in results.settings and results.remarks == ()
    assert describe_run(results)["folds"] == "2"


def test_each_case_is_shown_with_the_segmentation_of_its_fold(results: Run) -> None:
    files, problems = find_files(results)
    assert problems == []
    folders = [files[case_id].segmentation.parents[1].name for case_id in CASES]
    assert folders == ["fold0", "fold1", "fold1", "fold1"]


def test_a_chart_has_a_line_for_each_fold_with_that_curve(results: Run) -> None:
    folds = [results.folds[0], replace(results.folds[1], curves={"train_loss": [(1, 0.5)]})]
    charts = draw_fold_curves(folds)
    labels = {
        name: [text.get_text() for text in chart.figure.axes[0].get_legend().texts] for name, chart in charts.items()
    }
    assert labels == {"train_loss": ["fold 0", "fold 1"], "dice_curve": ["fold 0"]}
    assert charts["train_loss"].alt.endswith("loss of fold 1: 0.5 at iteration 1, 0.5 at iteration 1")
    assert draw_fold_curves([replace(folds[0], curves={})]) == {}


def test_the_page_has_a_row_for_each_fold_and_for_all_cases(results: Run) -> None:
    nothing = {"facts": {}, "commands": [], "failures": [], "problems": [], "shown": [], "thumbnails": {}}
    text = render_page(PageContent(run=results, boxes={}, curves={}, **nothing))
    table = text.partition('<section id="folds">')[2].partition("</section>")[0]
    rows = [row.partition("</tr>")[0] for row in table.partition("<tbody>")[2].split("<tr")[1:]]
    assert ["<td>1</td><td>7</td>" in rows[0], "<td>3</td><td>8</td>" in rows[1], "<td>4</td>" in rows[2]] == [True] * 3
    assert "of the fold that was not trained on it" in text


def test_the_commands_repeat_the_cross_validation(results: Run) -> None:
    data = results.settings["dataset_dir"]
    command = f"brats3d crossval {data} --output {results.folder} --epochs 50"
    assert repeat_commands(results, repeat_command) == [command, f"brats3d report {results.folder}"]
    assert evaluate_command(results, repeat_command) == command
