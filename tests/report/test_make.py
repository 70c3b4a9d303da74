"""The report as a whole: the files that it writes and replaces."""

from __future__ import annotations

import shutil

import pytest
from matplotlib.image import imread

from brats3d import cli
from brats3d.errors import NotFoundError, UsageError
from brats3d.report.make import make_report
from brats3d.report.run_results import read_run


def test_the_figures_are_written_beside_the_page_as_png(built):
    names = {file.name for file in (built / "report").glob("*.png")}
    assert names >= {"best.png", "median.png", "worst.png", "dice.png", "hd95_mm.png", "lesion_dice.png"}
    for name in names:
        assert imread(built / "report" / name).shape[0] > 200


def test_the_page_is_small(built):
    assert (built / "report.html").stat().st_size < 1e6


def test_the_command_prints_the_page_with_the_commands_that_repeat_the_run(run_dir, tmp_path, capsys):
    page = tmp_path / "there" / "my.html"
    name = read_run(run_dir).ranked[0]
    (run_dir / "segmentations" / f"{name}.nii.gz").write_bytes(b"")
    assert cli.main(["report", str(run_dir), "--output", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page) and (tmp_path / "there" / "my" / "dice.png").is_file()
    assert not (run_dir / "report.html").exists()
    text = page.read_text()
    assert f"brats3d evaluate {read_run(run_dir).settings['dataset_dir']} --output {run_dir}" in text
    assert f"<strong>{name}</strong>: " in text


def test_figures_of_an_earlier_report_are_removed(run_dir, built):
    shutil.copytree(built / "report", run_dir / "report")
    shutil.copy(built / "report.html", run_dir)
    shutil.copy(built / ".brats3d.jsonl", run_dir)
    for folder in ("segmentations", "tensorboard"):
        shutil.rmtree(run_dir / folder)
    make_report(run_dir, progress=False)
    assert {path.name for path in (run_dir / "report").glob("*.png")} == {"dice.png", "hd95_mm.png", "lesion_dice.png"}


@pytest.mark.parametrize("name", ["report.txt", "folder.html"])
def test_an_output_that_is_not_an_html_file_is_refused(run_dir, tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError) as caught:
        make_report(run_dir, output=tmp_path / name)
    assert caught.value.subject == "output" and ".html" in caught.value.expected


def test_a_page_or_folder_that_brats3d_did_not_write_is_not_replaced(run_dir, tmp_path):
    page = tmp_path / "mine.html"
    page.write_text("<p>mine")
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "notes.txt").touch()
    for output, other_file in ((page, "mine.html"), (tmp_path / "data2.html", "notes.txt")):
        with pytest.raises(UsageError) as caught:
            make_report(run_dir, output)
        assert caught.value.subject == "output" and other_file in caught.value.problem
    assert page.read_text() == "<p>mine"


def test_a_file_that_a_killed_report_left_does_not_stop_the_next(run_dir):
    (run_dir / "report").mkdir()
    (run_dir / "report" / ".dice.png.0123456789ab.tmp").write_text("half a picture")
    assert make_report(run_dir, progress=False).is_file()


def test_a_data_set_that_does_not_exist_is_refused(run_dir):
    with pytest.raises(FileNotFoundError):
        make_report(run_dir, dataset_dir="/nowhere/at/all")
    with pytest.raises(NotFoundError):
        make_report("/nowhere/at/all")
