"""What the audit finds in a data set, what it says about it, and that a clean one has no finding."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import math
import os
import shutil
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from brats3d import cli
from brats3d.audit import case_audit as case_audit, dataset_audit as audit_module
from brats3d.audit.dataset_audit import Audit, audit_dataset
from brats3d.audit.findings import KINDS
from brats3d.audit.summary import audit_lines, write_audit
from brats3d.cases.load import load_fold
from brats3d.data.dataset import CaseDataset
from brats3d.labels import MODALITIES


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


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The NIfTI files that are opened, in whatever way Python opens files."""
    paths: list[Path] = []

    def note(file, *arguments, **options):
        if isinstance(file, str | os.PathLike) and ".nii" in str(file):
            paths.append(Path(file))
        return original(file, *arguments, **options)

    original = io.open
    monkeypatch.setattr(io, "open", note)  # that of pathlib
    monkeypatch.setattr(builtins, "open", note)
    return paths


def test_each_file_is_read_once(make_dataset, opened: list[Path]) -> None:
    root = make_dataset()
    opened.clear()
    audit(root)
    assert sorted(opened) == sorted(root.rglob("*.nii.gz"))


def test_only_files_that_may_be_equal_are_read_twice(make_dataset, spoil, opened: list[Path]) -> None:
    root = make_dataset()
    spoil(root, "same file")
    opened.clear()
    audit(root)
    twice = {path for path in opened if opened.count(path) == 2}
    assert twice == {root / f"BraTS20_Training_00{i}" / f"BraTS20_Training_00{i}_t1.nii.gz" for i in (2, 3)}
    assert len(opened) == 15 + 2


def test_long_lists_are_folded_in_the_table_and_whole_in_the_json(tmp_path: Path, make_dataset) -> None:
    root = make_dataset(cases=12, label=False)
    found = audit(root)
    text = "\n".join(audit_lines(found))
    assert "no segmentation: 12" in text
    assert "… and 2 more (--all lists them)" in text
    assert "BraTS20_Training_011: has no" not in text
    assert "BraTS20_Training_011: has no" in "\n".join(audit_lines(found, everything=True))
    content = json.loads(write_audit(found, tmp_path / "new" / "audit.json").read_text())
    assert len(content["findings"]) == 13  # and that nobody can be trained on
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
    root, started = make_dataset(cases=12, modalities=("t1",)), []

    def interrupt(case, label_convention):
        started.append(case)
        if len(started) == 1:
            raise KeyboardInterrupt
        time.sleep(0.1)

    monkeypatch.setattr(audit_module, "audit_case", interrupt)
    with pytest.raises(KeyboardInterrupt):
        audit(root, modalities=("t1",))
    assert len(started) <= 4  # what the two threads had taken


def test_an_interruption_of_the_progress_bar_does_not_wait_either(
    make_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(results, **options):
        yield next(results)
        raise KeyboardInterrupt  # not while a result is waited for: there, map itself cancels the rest

    root, started = make_dataset(cases=12, modalities=("t1",)), []
    monkeypatch.setattr(audit_module, "audit_case", lambda case, **_: started.append(case) or time.sleep(0.1))
    monkeypatch.setattr("tqdm.tqdm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit(root, modalities=("t1",))
    assert len(started) <= 6


def test_what_nobody_foresaw_is_a_finding_and_the_audit_goes_on(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(case_id, path, values):
        if path.name == "BraTS20_Training_002_t2.nii.gz":
            raise MemoryError("no room\nfor 3 TB")
        return original(case_id, path, values)

    original = case_audit.find_in_image
    monkeypatch.setattr(case_audit, "find_in_image", fail)
    root = make_dataset()
    (finding,) = audit(root).findings
    assert (finding.kind, finding.case_id) == ("unreadable", "BraTS20_Training_002")
    assert finding.file == root / "BraTS20_Training_002" / "BraTS20_Training_002_t2.nii.gz"
    assert "MemoryError: no room for 3 TB" in finding.what


# --- copies


def make_empty(*paths: Path) -> None:
    for path in paths:
        nib.save(nib.Nifti1Image(np.zeros((16, 16, 12), np.uint8), nib.load(path).affine), path)


def store_otherwise(path: Path, how: str) -> None:
    """The same voxels in a file with other bytes."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    if how == "descrip":
        content[148:152] = b"copy"
        path.write_bytes(gzip.compress(content))
    elif how == "plain":
        path.unlink()
        path.with_suffix("").write_bytes(content)
    else:
        path.write_bytes(gzip.compress(content, 1))


@pytest.mark.parametrize("how", ["descrip", "plain", "packed"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_copied_case_is_one_finding_however_it_is_stored(make_dataset, spoil, how: str, empty: bool) -> None:
    root = make_dataset()
    if empty:
        make_empty(*root.rglob("*_seg.nii.gz"))
    spoil(root, "same case")
    for path in (root / "BraTS20_Training_004").iterdir():
        store_otherwise(path, how)
    found = [finding for finding in audit(root).findings if finding.kind != "no tumour"]
    assert [(finding.kind, finding.case_id) for finding in found] == [("same case", "BraTS20_Training_004")]
    assert "BraTS20_Training_002" in found[0].what


def test_images_under_another_segmentation_are_no_copied_case(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "same case")
    make_empty(root / "BraTS20_Training_004" / "BraTS20_Training_004_seg.nii.gz")
    found = [finding.kind for finding in audit(root).findings]
    assert found.count("same file") == 8
    assert "same case" not in found


def test_images_under_segmentations_that_cannot_be_read_are_no_copied_case(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "same case")
    for i in (2, 4):
        (root / f"BraTS20_Training_00{i}" / f"BraTS20_Training_00{i}_seg.nii.gz").write_bytes(b"broken")
    assert kinds(audit(root)) == {"same file", "unreadable"}


def test_a_sequence_twice_is_seen_where_only_header_bytes_differ(make_dataset, spoil) -> None:
    root = make_dataset()
    spoil(root, "one sequence twice")
    store_otherwise(root / "BraTS20_Training_002" / "BraTS20_Training_002_t1ce.nii.gz", "descrip")
    assert kinds(audit(root)) == {"one sequence twice"}


def test_equal_segmentations_of_different_cases_are_nothing(make_dataset) -> None:
    root = make_dataset(cases=2)
    labels = sorted(root.rglob("*_seg.nii.gz"))
    shutil.copy(*labels)
    assert audit(root).findings == ()


def test_images_that_differ_in_one_voxel_away_from_the_middle_are_not_equal(make_dataset, spoil, write_nifti) -> None:
    root = make_dataset()
    spoil(root, "same file")
    path = root / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz"
    values = np.asanyarray(nib.load(path).dataobj).copy()
    values[4, 4, 2] += 1
    write_nifti(path, values)
    assert audit(root).findings == ()


def test_flat_data_lying_twice_compare_each_file_once(make_dataset, opened: list[Path], tmp_path: Path) -> None:
    made = make_dataset(cases=4)
    for folder in (tmp_path / "root" / "a", tmp_path / "root" / "b"):
        folder.mkdir(parents=True)
        for path in made.rglob("*.nii.gz"):
            shutil.copy(path, folder)
    (folder / "BraTS20_Training_002_t1.nii.gz").write_bytes(b"broken")
    opened.clear()
    found = audit(tmp_path / "root").findings
    assert {finding.kind for finding in found} == {"case twice"}
    assert [finding.repair is not None for finding in found] == [True, False, True, True]
    assert max(map(opened.count, opened)) <= 3  # read, its signature, compared


# --- labels outside the brain


def test_a_label_in_a_cavity_that_holds_0_is_inside(make_dataset) -> None:
    root = make_dataset()
    for path in (root / "BraTS20_Training_002").glob("*[!g].nii.gz"):
        image = nib.load(path)
        values = np.asanyarray(image.dataobj).copy()
        values[7:9, 7:9, 5:7] = 0
        nib.save(nib.Nifti1Image(values, image.affine), path)
    assert audit(root).findings == ()


# --- the contract: whatever training refuses is an audit error


def seg(root: Path) -> Path:
    return root / "BraTS20_Training_002" / "BraTS20_Training_002_seg.nii.gz"


def t1(root: Path) -> Path:
    return root / "BraTS20_Training_002" / "BraTS20_Training_002_t1.nii.gz"


def rewrite(path: Path, change) -> None:
    image = nib.load(path)
    values = change(np.asanyarray(image.dataobj))
    nib.save(nib.Nifti1Image(values, image.affine), path)


def rewrite_header(path: Path, position: int, form: str, *values: float) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, content, position, *values)
    path.write_bytes(gzip.compress(content))


def darken(root: Path) -> None:
    for path in t1(root).parent.glob("*[!g].nii.gz"):
        rewrite(path, lambda values: values - np.int16(2000))


def scale_label(root: Path) -> None:
    rewrite(seg(root), lambda values: values * np.uint8(60))
    rewrite_header(seg(root), 112, "<ff", 1 / 60, 0)


def list_cases(root: Path, **changes: object) -> None:
    entries = [
        {"image": [f"{i}/{i}_{m}.nii.gz" for m in MODALITIES], "label": f"{i}/{i}_seg.nii.gz", "fold": k}
        for k, i in enumerate(f"BraTS20_Training_00{n}" for n in (1, 2, 3))
    ]
    entries[1] |= changes
    (root / "datalist.json").write_text(json.dumps({"training": entries}))


ODD = {
    "a mask as an image": lambda root: rewrite(t1(root), lambda values: (values > 0).astype(np.uint8)),
    "a mask and noise below 0": lambda root: rewrite(
        t1(root), lambda values: np.where(values > 0, 1, -np.arange(3072).reshape(16, 16, 12)).astype(np.int16)
    ),
    "a constant": lambda root: rewrite(t1(root), lambda values: np.full_like(values, 7)),
    "beyond float32": lambda root: rewrite(t1(root), lambda values: values * 1e300),
    "sums beyond float32": lambda root: rewrite(t1(root), lambda values: values * np.float32(5e35)),
    "nothing for float32": lambda root: rewrite(t1(root), lambda values: values * 1e-60),
    "equal as float32": lambda root: rewrite(t1(root), lambda values: np.where(values > 0, 1e6 + values * 1e-9, 0)),
    "all images below 0": darken,
    "infinite": lambda root: rewrite(t1(root), lambda values: np.where(values > 300, np.inf, values)),
    "a scale without a number to add": lambda root: rewrite_header(t1(root), 112, "<ff", 1, math.nan),
    "an infinite scale": lambda root: rewrite_header(t1(root), 112, "<ff", math.inf, 0),
    "a qform that is no rotation": lambda root: rewrite_header(t1(root), 252, "<hhfff", 1, 2, 0.8, 0.6, 0.01),
    "an offset without end": lambda root: rewrite_header(t1(root), 108, "<f", math.inf),
    "a huge offset": lambda root: rewrite_header(t1(root), 108, "<f", 1e30),
    "a huge shape": lambda root: rewrite_header(t1(root), 42, "<hhh", 32767, 32767, 32767),
    "labels within a float of whole": scale_label,
    "labels a little off": lambda root: rewrite(seg(root), lambda values: values + np.float32(1e-5)),
    "labels without number": lambda root: rewrite(seg(root), lambda values: np.where(values == 4, np.nan, values)),
    "a label in one voxel": lambda root: rewrite(
        seg(root), lambda values: np.where(np.arange(12) == 11, 9, 0 * values)
    ),
    "one patient": lambda root: [shutil.rmtree(root / f"BraTS20_Training_00{i}") for i in (1, 3)],
    "no segmentation at all": lambda root: [path.unlink() for path in root.rglob("*_seg.nii.gz")],
    "a sound datalist": list_cases,
    "a datalist without fold": lambda root: list_cases(root, fold=None),
    "a datalist with a file that is not there": lambda root: list_cases(root, label="gone/gone_seg.nii.gz"),
    "a datalist with another convention": lambda root: list_cases(root, label_convention="brats2023"),
    "a datalist that is text": lambda root: (root / "datalist.json").write_text("training"),
}
WARNED = ("too few patients", "one patient", "no segmentation at all")
"""What is no defect of a folder of validation cases."""
SOUND = ("a qform that is no rotation", "an infinite scale", "labels within a float of whole", "a sound datalist")


@pytest.fixture(scope="module")
def deterministic_transforms() -> list:
    parser = ConfigParser()
    parser.read_config(Path(__file__).parents[2] / "bundle" / "configs" / "train.yaml")
    return parser.get_parsed_content("train#deterministic_transforms")


@pytest.mark.parametrize("what", [*ODD, *KINDS])
def test_whatever_training_refuses_is_an_error(make_dataset, spoil, deterministic_transforms, what: str) -> None:
    root = make_dataset()
    ODD[what](root) if what in ODD else spoil(root, what)
    refused = ""
    try:
        for section in ("training", "validation"):
            cases = CaseDataset(load_fold(root, section), deterministic_transforms)
            for i in range(len(cases)):
                cases[i]
    except Exception as error:
        refused = f"{type(error).__name__}: {error}"
    found = audit(root)
    if what in WARNED:
        assert "too few patients" in kinds(found)
    elif refused:
        assert not found.ok, refused
    if what in SOUND:
        assert found.ok, found.findings
        assert not refused
    elif what in ODD and what not in WARNED:
        assert not found.ok


def test_a_qform_that_is_no_rotation_is_a_warning(make_dataset) -> None:
    root = make_dataset()
    ODD["a qform that is no rotation"](root)
    (finding,) = audit(root).findings
    assert finding.kind == "two affines"
    assert "its qform is no rotation" in finding.what


def test_a_wrong_datalist_is_named_with_what_load_fold_says(make_dataset) -> None:
    root = make_dataset()
    ODD["a datalist without fold"](root)
    (finding,) = audit(root).findings
    assert finding.kind == "datalist"
    assert 'training[1]: expected "fold" as a whole number' in finding.what


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
