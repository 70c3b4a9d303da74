"""Files of scores."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from brats3d.errors import DataError, NotFoundError
from brats3d.evaluation.score_files import Scores, read_scores, write_csv, write_scores
from brats3d.evaluation.summary import summarise


def test_scores_are_written_with_their_summary_and_read_back(samples, tmp_path):
    file, rows = tmp_path / "metrics.json", samples.rows(0.5, 0.25, hd95_mm=3.0)
    write_scores(file, rows, rules="brats2023", epoch=3)
    content = json.loads(file.read_text())
    summary = {region: asdict(each) for region, each in summarise(rows).items()}
    assert content == {
        "rules": "brats2023",
        "epoch": 3,
        "summary": summary,
        "rows": [row.to_json() for row in rows],
    }
    assert read_scores(file) == Scores(rows, "brats2023", 3)


def test_rows_are_read_in_natural_order(samples, tmp_path):
    rows = samples.rows(*[0.5] * 11)
    write_scores(tmp_path / "a.json", sorted(rows, key=lambda row: (row.case_id, row.region)))
    assert read_scores(tmp_path / "a.json").rows == rows


def test_nan_is_not_written(samples, tmp_path):
    with pytest.raises(ValueError):
        write_scores(tmp_path / "metrics.json", samples.rows(0.5), mean_dice=math.nan)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: "{", "JSON"),
        (lambda rows: [], "no scores"),
        (lambda rows: {"rows": 7}, "no scores"),
        (lambda rows: {"rows": [{}]}, "row 1"),
        (lambda rows: {"rows": rows[:1]}, "case case_0"),
        (lambda rows: {"rows": rows * 2}, "several"),
        (lambda rows: {"rows": rows, "rules": 7}, "rules"),
    ],
)
def test_a_file_without_sound_scores_is_refused(samples, tmp_path, change, problem):
    content = change([row.to_json() for row in samples.rows(0.5)])
    file = tmp_path / "a.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as error:
        read_scores(file)
    assert error.value.subject == str(file) and problem in error.value.problem
    assert "\n" not in str(error.value)


def test_a_file_that_does_not_exist_is_not_found(tmp_path):
    with pytest.raises(NotFoundError) as error:
        read_scores(tmp_path / "b.json")
    assert error.value.subject == str(tmp_path / "b.json")


def test_a_csv_has_one_line_for_each_case_and_region(samples, tmp_path):
    lines = write_csv(tmp_path / "a.csv", samples.rows(0.5)).read_text().splitlines()
    assert lines[:2] == ["case_id,region,dice,ref_volume_ml,pred_volume_ml", "case_0,WT,0.5,1.0,1.0"]
    assert len(lines) == 4
