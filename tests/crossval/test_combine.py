"""Results of all folds together: scores, ensemble and chosen post-processing."""

from __future__ import annotations

import csv
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from brats3d.crossval import CrossValidation, combine
from brats3d.crossval.check import Checked
from brats3d.crossval.combine import OWNED, check_results_replaceable, combine_folds
from brats3d.crossval.finished_folds import record_evaluation
from brats3d.evaluation import ScoreRow, compare_scores, read_scores, write_scores
from brats3d.files import ChangedFileError
from brats3d.labels import MODALITIES, REGIONS, REGIONS_TO_READ
from brats3d.postprocessing import (
    COMPARED,
    MeanScores,
    PostprocessingChoice,
    PostprocessingValues,
    RegionRules,
    chosen_postprocessing,
    read_choice,
)
from brats3d.quality import RegionQuality, read_quality

DICE = {0: {"case2": 0.2, "case10": 0.4}, 1: {"case1": 0.9}}
CHECKED = Checked([[], []], "", {"score_rules": "brats2023"})
NOTHING = PostprocessingValues((0.5, 0.5, 0.5), RegionRules())
CHOSEN = PostprocessingValues((0.5, 0.4, 0.5), RegionRules(min_wt_ml=1))


@pytest.fixture
def crossval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CrossValidation:
    """Two evaluated folds, of two cases and of one. The report is an empty page."""
    made = CrossValidation(tmp_path / "out", {})
    for fold, cases in DICE.items():
        made.best(fold).parent.mkdir(parents=True)
        made.best(fold).write_bytes(b"weights")
        card: dict[str, Any] = {"modalities": MODALITIES, "regions": REGIONS, "network_def": {}}
        made.best(fold).with_suffix(".json").write_text(json.dumps(card))
        rows = [
            ScoreRow(case_id=case_id, region=region, dice=dice, ref_volume_ml=1, pred_volume_ml=1)
            for case_id, dice in cases.items()
            for region in REGIONS_TO_READ
        ]
        write_scores(made.folder(fold) / "metrics.json", rows, epoch=3)
        record_evaluation(made, fold, "")
    scores = {name: {region: MeanScores(0.5, 0.4) for region in REGIONS_TO_READ} for name in COMPARED}
    choice = PostprocessingChoice(CHOSEN, NOTHING, {0: CHOSEN, 1: NOTHING}, cases=3, scores=scores)
    monkeypatch.setattr(combine, "choose_for_ensemble", lambda *given: choice)
    monkeypatch.setattr(combine, "fitting_cases", lambda *given: {"case1": None, "case2": None})
    monkeypatch.setattr(combine, "fit_quality", lambda cases: {"cases": len(cases)})
    quality = dict.fromkeys(REGIONS_TO_READ, RegionQuality(0.7, (1.0, 2.0)))
    monkeypatch.setattr(combine, "predict_out_of_fold", lambda cases: [quality] * len(cases))
    monkeypatch.setattr(combine, "make_report", lambda folder, repeat: (folder / "report.html").touch())
    return made


def test_the_scores_of_all_cases_are_in_one_file(crossval: CrossValidation) -> None:
    lines: list[str] = []
    combine_folds(crossval, CHECKED, lines.append)
    scores = read_scores(crossval.output_dir / "metrics.json")
    assert [row.case_id for row in scores.rows[::3]] == ["case1", "case2", "case10"]
    assert scores.rules == "brats2023"
    content = json.loads((crossval.output_dir / "metrics.json").read_text())
    assert content["mean_dice"] == pytest.approx(0.5) and content["mean_dice_by_fold"] == pytest.approx([0.3, 0.9])
    with (crossval.output_dir / "metrics.csv").open() as file:
        assert [row["case_id"] for row in csv.DictReader(file)][::3] == ["case1", "case2", "case10"]
    assert "fold 0: 2 cases, mean Dice 0.300" in lines and "all: 3 cases, mean Dice 0.500" in lines
    assert compare_scores(scores, scores)[0].differences == (0, 0, 0)


def test_the_ensemble_has_the_best_weights_of_every_fold(crossval: CrossValidation) -> None:
    combine_folds(crossval, CHECKED, lambda line: None)
    card = json.loads((crossval.output_dir / "ensemble.json").read_text())
    assert card["members"] == ["fold0/checkpoints/best.pt", "fold1/checkpoints/best.pt"]


def test_the_ensemble_is_predicted_with_the_chosen_post_processing(crossval: CrossValidation) -> None:
    combine_folds(crossval, CHECKED, lambda line: None)
    chosen = {"threshold": {"TC": 0.5, "WT": 0.4, "ET": 0.5}, **CHOSEN.to_json()["region_rules"]}
    assert chosen_postprocessing(crossval.output_dir) == chosen
    assert read_choice(crossval.output_dir / "postprocessing.json").values == CHOSEN


def test_the_ensemble_has_a_quality_model_and_the_cases_their_predicted_quality(crossval: CrossValidation) -> None:
    combine_folds(crossval, CHECKED, lambda line: None)
    assert json.loads((crossval.output_dir / "ensemble.json").read_text())["quality"] == {"cases": 2}
    predicted = read_quality(crossval.output_dir / "quality.json")
    assert predicted.keys() == {"case1", "case2"} and predicted["case2"]["WT"] == RegionQuality(0.7, (1.0, 2.0))


def test_there_is_no_ensemble_before_its_post_processing_is_chosen(
    crossval: CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(combine, "choose_for_ensemble", interrupted)
    with pytest.raises(KeyboardInterrupt):
        combine_folds(crossval, CHECKED, lambda line: None)
    assert not (crossval.output_dir / "ensemble.json").exists()


@pytest.mark.parametrize("name", OWNED)
def test_a_file_of_the_user_is_refused_and_a_result_is_not(crossval: CrossValidation, name: str) -> None:
    combine_folds(crossval, CHECKED, lambda line: None)
    (crossval.output_dir / "report.html").unlink()  # the stand-in's, which has no record
    check_results_replaceable(crossval)
    (crossval.output_dir / name).write_text("mine")
    with pytest.raises(ChangedFileError) as caught:
        check_results_replaceable(crossval)
    assert caught.value.subject == "output_dir" and name in caught.value.problem


def test_results_are_written_again_if_one_is_missing_or_a_fold_was_evaluated_again(
    crossval: CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Path] = []
    make = combine.make_report

    def make_report(folder: Path, repeat: object) -> None:
        reports.append(folder)
        make(folder, repeat)

    monkeypatch.setattr(combine, "make_report", make_report)
    counts = []
    for change in (
        lambda: None,
        lambda: None,
        lambda: (crossval.output_dir / "metrics.csv").unlink(),
        lambda: record_evaluation(crossval, 1, "other settings"),
    ):
        change()
        combine_folds(crossval, CHECKED, lambda line: None)
        counts.append(len(reports))
    assert counts == [1, 1, 2, 3]


def test_the_last_two_jobs_of_an_array_combine_one_after_the_other(crossval: CrossValidation, monkeypatch) -> None:
    write, written, together = combine._write_results, [], threading.Barrier(2, timeout=0.5)

    def slow(*given: Any) -> None:
        written.append(given)
        with suppress(threading.BrokenBarrierError):
            together.wait()  # reached by both only if they combine at the same time
        write(*given)

    monkeypatch.setattr(combine, "_write_results", slow)
    with ThreadPoolExecutor(2) as jobs:
        list(jobs.map(lambda job: combine_folds(crossval, CHECKED, lambda line: None), range(2)))
    assert len(written) == 1, "the second found the results of the first"
