"""The printed table, the JSON file, and the ``brats3d audit`` command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from brats3d import cli
from brats3d.audit.printing import format_audit, write_audit_json
from brats3d.audit.whole_dataset import audit_dataset


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run ``brats3d audit``: (exit code, standard output, standard error without the progress bar)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["audit", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, "\n".join(line for line in captured.err.splitlines() if "case/s]" not in line)

    return command


def test_long_lists_are_cut_in_the_table_but_not_in_the_json(tmp_path: Path, make_dataset) -> None:
    audit = audit_dataset(make_dataset(cases=12, label=False), progress=False)
    text = "\n".join(format_audit(audit))
    assert "no segmentation: 12" in text
    assert "… and 2 more (--all lists them)" in text
    assert "BraTS20_Training_011: has no" not in text
    assert "BraTS20_Training_011: has no" in "\n".join(format_audit(audit, everything=True))
    write_audit_json(audit, tmp_path / "new" / "audit.json")
    content = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert len(content["findings"]) == 13  # one of them: too few patients for training
    assert content["schema"] == 2
    assert content["ok"] is True


def test_the_json_has_paths_relative_to_the_folder(tmp_path: Path, make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "ringing")
    write_audit_json(audit_dataset(root, progress=False), tmp_path / "audit.json")
    (finding,) = json.loads((tmp_path / "audit.json").read_text())["findings"]
    assert finding["file"] == "BraTS20_Training_002/BraTS20_Training_002_t2.nii.gz"
    assert set(finding) == {"kind", "severity", "case_id", "file", "problem", "advice", "repair"}


def test_an_undecodable_file_name_can_be_printed_and_written(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=Path(os.fsdecode(os.fsencode(tmp_path) + b"/broken\xff")))
    shutil.rmtree(root / "BraTS20_Training_002")
    (root / "BraTS20_Training_002").mkdir()
    audit = audit_dataset(root, progress=False)
    "\n".join(format_audit(audit)).encode()
    write_audit_json(audit, tmp_path / "audit.json")


def test_the_command_exits_1_if_a_finding_is_an_error(run, make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    code, out, _ = run(root, "--json", tmp_path / "a.json")
    assert code == 0
    assert "0 errors, 0 warnings, 0 notes" in out
    assert (tmp_path / "a.json").exists()
    spoil(root, "voxel spacing")
    assert run(root)[0] == 0
    spoil(root, "constant image")
    code, out, _ = run(root, "--modalities", "['t1','t2','flair']", "--label-convention", "brats2020")
    assert code == 1
    assert out.startswith("error   constant image: 1")


def test_a_folder_without_cases_is_one_line(run, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(1000):
        (many / f"{i}.txt").touch()
    circle = tmp_path / "circle"
    circle.mkdir()
    (circle / "again").symlink_to(circle)
    (circle / "self").symlink_to("self")
    for folder, text in (
        (many, "1,000 file(s)"),
        (circle, "no BraTS case"),
        (tmp_path / "none", str(tmp_path / "none")),
    ):
        code, _, err = run(folder)
        assert code in (1, 2)
        assert text in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_reported(run, make_dataset) -> None:
    root = make_dataset()
    path = next(root.rglob("*_t1.nii.gz"))
    path.chmod(0)
    code, out, _ = run(root)
    path.chmod(0o600)
    assert code == 1
    assert "permission" in out


def test_paths_with_spaces_other_letters_and_circular_links_work(run, make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "Daten für Größe 漢字")
    (root / "zurück").symlink_to(root)
    code, out, _ = run(root)
    assert code == 0
    assert "cases         3, 3 with a segmentation" in out


def test_an_unusable_repair_folder_is_wrong_use(run, make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    assert run(root, "--repair", root / "inside")[0] == 2


def test_repair_exits_1_if_a_case_was_dropped(run, make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "non-zero background")
    code, out, _ = run(root, "--repair", tmp_path / "out")
    assert code == 0
    assert "3 of 3 cases" in out
    spoil(root, "missing sequence")
    code, out, _ = run(root, "--repair", tmp_path / "out2")
    assert code == 1
    assert "dropped BraTS20_Training_002: missing" in out
