"""What the audit finds in a data set, what it says about it, and that a clean one has no finding."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d import audit as audit_module
from brats3d import cli
from brats3d.audit import Audit, audit_dataset
from brats3d.audit_report import audit_lines, write_audit
from brats3d.findings import KINDS


def audit(root: Path, **options) -> Audit:
    return audit_dataset(root, progress=False, **options)


def kinds(found: Audit) -> set[str]:
    return {finding.kind for finding in found.findings}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process: (exit code, standard output, standard error without the progress bar)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["audit", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, "\n".join(line for line in captured.err.splitlines() if "case/s]" not in line)

    return command


def test_every_kind_of_finding_has_a_test(defects) -> None:
    assert defects == set(KINDS)


def test_a_clean_data_set_has_no_finding(make_dataset) -> None:
    found = audit(make_dataset())
    assert found.findings == ()
    assert found.ok


@pytest.mark.parametrize("kind", KINDS)
def test_each_defect_is_found_named_and_counted_as_wrong_or_not(make_dataset, spoil, kind: str) -> None:
    root = make_dataset()
    spoil(root, kind)
    found = audit(root)
    own = [finding for finding in found.findings if finding.kind == kind]
    assert own, kinds(found)
    assert found.ok == (KINDS[kind].severity != "error")
    for finding in own:
        assert finding.what
        assert "\n" not in finding.what
        assert finding.severity == KINDS[kind].severity
        assert not finding.case_id.endswith("001")
    assert any(line.startswith(f"{KINDS[kind].severity:8}{kind}: {len(own)}") for line in audit_lines(found))


def test_a_mixture_of_conventions_is_found_file_by_file_with_counts(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "label values")
    (finding,) = audit(root).findings
    assert finding.case_id == "BraTS20_Training_002"
    assert finding.what.startswith("holds labels {1, 2, 3}, 3 in")
    assert "expected brats2020's labels {0, 1, 2, 4}" in finding.what
    assert "brats2023" in finding.what


def test_the_given_convention_is_what_labels_are_held_against(make_dataset, spoil) -> None:
    root = make_dataset(cases=2)
    assert audit(root, label_convention="brats2020").ok
    assert "label values" in kinds(audit(root, label_convention="brats2023"))
    root = make_dataset(root=root.parent / "children")
    spoil(root, "label convention")
    (finding,) = [finding for finding in audit(root).findings if finding.kind == "label convention"]
    assert "brats2023 or brats2024-ped fits" in finding.what
    with pytest.raises(ValueError, match="label_convention: expected one of brats2020"):
        audit(root, label_convention="brats1999")


def test_only_the_named_sequences_are_looked_at(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "missing")
    found = audit(root, modalities=("t1", "flair"))
    assert found.findings == ()
    assert list(found.cases[0].images) == ["t1", "flair"]


def test_figures_are_those_of_the_boxes(make_dataset) -> None:
    figures = audit(make_dataset(layout="brats2021")).figures
    # The tumour's boxes: 8 x 8 x 6, in them 6 x 6 x 4 (ceil and floor of the shares), voxels of 1 mm.
    label = np.asanyarray(nib.load(next(make_dataset().rglob("*_seg.nii.gz"))).dataobj)
    assert figures["volume_ml"]["WT"]["median"] == pytest.approx(np.count_nonzero(label) / 1000)
    assert figures["volume_ml"]["TC"]["max"] == pytest.approx(np.isin(label, (1, 4)).sum() / 1000)
    assert figures["volume_ml"]["ET"]["cases"] == 3
    assert (figures["cases"], figures["patients"], figures["cases_with_segmentation"]) == (3, 3, 3)
    assert figures["et_free_cases"] == 0
    assert figures["shapes"] == {"16 x 16 x 12": 3}
    assert figures["spacings_mm"] == {"1 x 1 x 1": 3}
    assert figures["layouts"] == {"brats2021": 3}
    assert figures["label_conventions"] == {"brats2020": 3}


def test_grades_and_patients_come_from_the_name_mapping(make_dataset) -> None:
    root = make_dataset()
    header = "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID"
    rows = ["HGG,Brats18_A_1,BraTS20_Training_001", "LGG,Brats18_B_1,BraTS20_Training_002"]
    rows.append("LGG,Brats18_B_1,BraTS20_Training_003")
    (root / "name_mapping.csv").write_text("\n".join([header, *rows]))
    found = audit(root)
    assert found.figures["grades"] == {"LGG": 2, "HGG": 1}
    assert found.figures["patients"] == 2
    (finding,) = found.findings
    assert finding.kind == "time points"
    assert "BraTS20_Training_002, BraTS20_Training_003" in finding.what


def test_the_same_content_compressed_otherwise_is_the_same_file(make_dataset) -> None:
    root = make_dataset()
    first, second = (root / f"BraTS20_Training_00{i}" / f"BraTS20_Training_00{i}_t2.nii.gz" for i in (1, 2))
    second.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()), 1))
    found = audit(root)
    assert [finding.case_id for finding in found.findings] == ["BraTS20_Training_001", "BraTS20_Training_002"]
    assert kinds(found) == {"same file"}


def test_empty_segmentations_equal_each_other_and_are_no_copies(make_dataset) -> None:
    root = make_dataset(cases=2)
    for path in root.rglob("*_seg.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros((16, 16, 12), np.uint8), nib.load(path).affine), path)
    assert kinds(audit(root)) == {"no tumour"}


def test_each_file_is_read_once(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    root, opened = make_dataset(), []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or original(path))
    audit(root)
    assert sorted(opened) == sorted(root.rglob("*.nii.gz"))


def test_long_lists_are_folded_in_the_table_and_whole_in_the_json(tmp_path: Path, make_dataset) -> None:
    root = make_dataset(cases=12, label=False)
    found = audit(root)
    text = "\n".join(audit_lines(found))
    assert "no segmentation: 12" in text
    assert "… and 2 more (--all lists them)" in text
    assert "BraTS20_Training_011: has no" not in text
    assert "BraTS20_Training_011: has no" in "\n".join(audit_lines(found, everything=True))
    content = json.loads(write_audit(found, tmp_path / "new" / "audit.json").read_text())
    assert len(content["findings"]) == 12
    assert content["schema"] == 1
    assert content["ok"] is True


def test_json_names_files_relative_to_the_folder(tmp_path: Path, make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "ringing")
    found = audit(root)
    (finding,) = json.loads(write_audit(found, tmp_path / "audit.json").read_text())["findings"]
    assert finding["file"] == "BraTS20_Training_002/BraTS20_Training_002_t2.nii.gz"
    assert set(finding) == {"kind", "severity", "case_id", "file", "what", "todo", "repair"}


def test_an_interruption_does_not_wait_for_the_other_cases(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(case, label_convention):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_module, "audit_case", interrupt)
    with pytest.raises(KeyboardInterrupt):
        audit(make_dataset())


# --- the command


def test_the_command_exits_1_when_training_would_be_wrong(run, make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    code, out, _ = run(root, "--json", tmp_path / "a.json")
    assert code == 0
    assert "0 errors, 0 warnings, 0 notes" in out
    assert (tmp_path / "a.json").exists()
    spoil(root, "spacing")
    assert run(root)[0] == 0
    spoil(root, "constant")
    code, out, _ = run(root, "--modalities", "['t1','t2','flair']", "--label-convention", "brats2020")
    assert code == 1
    assert out.startswith("error   constant: 1")


def test_folders_without_cases_are_one_clear_line(run, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(1000):
        (many / f"{i}.txt").touch()
    circle = tmp_path / "circle"
    circle.mkdir()
    (circle / "again").symlink_to(circle)
    (circle / "self").symlink_to("self")
    for folder, text in (
        (many, "found 1,000 file(s)"),
        (circle, "no BraTS case"),
        (tmp_path / "none", "there is no"),
        (tmp_path / "many" / "0.txt", "is a file"),
    ):
        code, _, err = run(folder)
        assert code == 1
        assert text in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(run, make_dataset) -> None:
    root = make_dataset()
    path = next(root.rglob("*_t1.nii.gz"))
    path.chmod(0)
    code, out, _ = run(root)
    path.chmod(0o600)
    assert code == 1
    assert "no permission to read" in out


def test_spaces_other_letters_and_links_in_circles_do_no_harm(run, make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=tmp_path / "Daten für Größe 漢字")
    (root / "zurück").symlink_to(root)
    code, out, _ = run(root)
    assert code == 0
    assert "cases         3, 3 with a segmentation" in out


def test_a_name_that_is_no_text_can_be_printed_and_written(make_dataset, tmp_path: Path) -> None:
    root = make_dataset(root=Path(os.fsdecode(os.fsencode(tmp_path) + b"/broken\xff")))
    shutil.rmtree(root / "BraTS20_Training_002")
    (root / "BraTS20_Training_002").mkdir()
    found = audit(root)
    "\n".join(audit_lines(found)).encode()
    write_audit(found, tmp_path / "audit.json")


def test_the_repair_is_refused_before_anything_is_read(run, make_dataset, tmp_path: Path) -> None:
    root = make_dataset()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for out, text in ((root / "inside", "lies in"), (root.parent, "not empty"), (tmp_path / "full", "not empty")):
        code, _, err = run(root, "--repair", out)
        assert code == 2
        assert text in err


def test_repair_through_the_command(run, make_dataset, spoil, tmp_path: Path) -> None:
    root = make_dataset()
    spoil(root, "background")
    code, out, _ = run(root, "--repair", tmp_path / "out")
    assert code == 0
    assert "3 of 3 cases" in out
    spoil(root, "missing")
    code, out, _ = run(root, "--repair", tmp_path / "out2")
    assert code == 1
    assert "left out BraTS20_Training_002: missing" in out
