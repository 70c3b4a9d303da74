"""Predicted quality beside the scores: the cases to look at first come first, on the page too."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from brats3d.evaluation import ScoreRow
from brats3d.labels import REGIONS_TO_READ
from brats3d.quality import RegionQuality, write_quality
from brats3d.report.make import make_report
from brats3d.report.predicted_quality import compare_quality, coverage, mean_error
from brats3d.report.run_results import read_run

PREDICTED = {"good": 0.9, "bad": 0.3, "doubtful": 0.69}


@pytest.fixture
def run() -> SimpleNamespace:
    """Three cases with a Dice of 0.8 and 10 ml in each region, and a fourth without a predicted quality."""
    row = {"dice": 0.8, "ref_volume_ml": 10, "pred_volume_ml": 10}
    by_case = {c: {r: ScoreRow(case_id=c, region=r, **row) for r in REGIONS_TO_READ} for c in (*PREDICTED, "other")}
    quality = {
        case_id: {region: RegionQuality(dice, (9, 20 * dice)) for region in REGIONS_TO_READ}
        for case_id, dice in PREDICTED.items()
    }
    return SimpleNamespace(by_case=by_case, quality=quality)


def test_cases_to_look_at_come_first_and_the_worst_of_them_before_the_others(run: SimpleNamespace) -> None:
    cases = compare_quality(run)
    assert [case.case_id for case in cases] == ["bad", "doubtful", "good"]
    assert [bool(case.review) for case in cases] == [True, True, False]


def test_errors_and_coverage_are_those_worked_out_by_hand(run: SimpleNamespace) -> None:
    cases = compare_quality(run)
    assert mean_error(cases, "WT") == pytest.approx((0.5 + 0.11 + 0.1) / 3)
    assert coverage(cases, "WT") == pytest.approx(2 / 3)  # the intervals end at 18, 6 and 13.8 ml


def test_an_interval_contains_its_own_limits_as_they_are_rounded(run: SimpleNamespace) -> None:
    run.quality["good"]["WT"] = RegionQuality(0.9, (10.004, 20))
    assert compare_quality(run)[-1].regions["WT"].is_inside


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "run")


def test_the_page_shows_predicted_beside_true_dice(copied: Path) -> None:
    case_ids = list(read_run(copied).by_case)
    regions = {region: RegionQuality(0.123, (4.5, 67.8)) for region in REGIONS_TO_READ}
    write_quality(copied / "quality.json", dict.fromkeys(case_ids[:2], regions))
    html = make_report(copied, progress=False).read_text()
    section = html[html.index('<section id="quality">') : html.index('<section id="table">')]
    assert f"2 of {len(case_ids)} cases have a predicted Dice of WT below 0.7" in section
    assert section.count('<tr class="review">') == 2
    assert section.count(">0.123<") == 6
    assert "4.50 to 67.8" in section
    assert (copied / "report" / "predicted_dice.png").is_file()


def test_a_run_without_predicted_quality_has_no_such_section(built: Path) -> None:
    assert 'id="quality"' not in (built / "report.html").read_text()
    assert not (built / "report" / "predicted_dice.png").exists()


def test_a_damaged_file_is_a_remark(copied: Path) -> None:
    (copied / "quality.json").write_text("[")
    assert any("quality.json" in remark for remark in read_run(copied).remarks)
