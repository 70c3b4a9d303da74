"""Conversion: every voxel comes through, whatever goes wrong is one line, and nothing is half written."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from brats3d import cli
from brats3d.cases.case import find_cases
from brats3d.convert import conversion as convert
from brats3d.convert.conversion import Conversion, check_output, convert_dataset
from brats3d.convert.kaggle_h5 import AmbiguousSlice
from brats3d.files.atomic import scratch_folder
from brats3d.phantoms.releases import write_phantoms

CASES = ["BraTS20_Training_001", "BraTS20_Training_002"]
KINDS = ("t1", "t1ce", "t2", "flair", "seg")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same two phantoms in three forms; not to be changed."""
    root = tmp_path_factory.mktemp("originals")
    for layout in ("brats2020", "h5", "msd"):
        write_phantoms(root / layout, 2, 3, "small", layout=layout, setting="plain", progress=False)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def h5(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the HDF5 slices, in a folder with a space and a letter beyond ASCII."""
    return shutil.copytree(originals["h5"], tmp_path / "Kaggle Dätä" / "BraTS 2020")


def slice_file(folder: Path, volume: int, s: int) -> Path:
    return folder / "BraTS2020_training_data/content/data" / f"volume_{volume}_slice_{s}.h5"


def quietly(src: Path, out: Path, workers: int = 1) -> Conversion:
    return convert_dataset(src, out, workers, progress=False)


def nifti(folder: Path, case_id: str, kind: str) -> nib.Nifti1Image:
    return nib.load(folder / case_id / f"{case_id}_{kind}.nii.gz")


def same_cases(found: Path, expected: Path, case_ids: list[str] = CASES) -> None:
    for case_id in case_ids:
        for kind in KINDS:
            image, original = nifti(found, case_id, kind), nifti(expected, case_id, kind)
            np.testing.assert_array_equal(np.asanyarray(image.dataobj), np.asanyarray(original.dataobj))
            np.testing.assert_array_equal(image.affine, original.affine)
            assert image.get_data_dtype() == original.get_data_dtype()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def leftovers(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*") if path.name != ".conversion.json"]


def test_h5_slices_become_the_original_cases(originals, tmp_path):
    before = snapshot(originals["h5"])
    out = tmp_path / "öut put" / "new"
    done = quietly(originals["h5"], out)
    assert (done.out, list(done.written), done.skipped, done.failed) == (out, CASES, (), {})
    same_cases(out, originals["brats2020"])
    assert snapshot(originals["h5"]) == before
    assert sorted(p.name for p in out.iterdir()) == [*CASES, "conversion.json", "name_mapping.csv", "survival_info.csv"]
    assert not leftovers(out)
    image = nifti(out, CASES[0], "t1ce")
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
    assert [case.case_id for case in find_cases(out, require_label=True)] == CASES


def test_msd_images_become_the_original_cases_in_their_own_orientation(originals, tmp_path):
    done = quietly(originals["msd"], tmp_path / "out")
    assert done.written == ("BRATS_001", "BRATS_002")
    source = nib.load(originals["msd"] / "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz")
    for number, original in enumerate(CASES, 1):
        for kind in KINDS:
            image = nifti(tmp_path / "out", f"BRATS_{number:03d}", kind)
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
            np.testing.assert_array_equal(image.affine, source.affine)
            expected = nifti(originals["brats2020"], original, kind)
            turned = image.as_reoriented(
                nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.io_orientation(expected.affine))
            )
            np.testing.assert_array_equal(np.asanyarray(turned.dataobj), np.asanyarray(expected.dataobj))
            np.testing.assert_array_equal(turned.affine, expected.affine)
    assert len(find_cases(tmp_path / "out", require_label=True)) == 2


def test_several_processes_give_the_same(originals, tmp_path):
    one, two = quietly(originals["h5"], tmp_path / "one"), quietly(originals["h5"], tmp_path / "two", workers=2)
    same_cases(tmp_path / "two", tmp_path / "one")
    assert one.ambiguous == two.ambiguous
    assert (tmp_path / "one/conversion.json").read_text() == (tmp_path / "two/conversion.json").read_text()


def test_ambiguous_slices_are_listed_also_after_an_interruption(h5, originals, tmp_path):
    out = tmp_path / "out"
    found = quietly(h5, out).ambiguous
    assert found
    assert all(0 < each.distinct < 32 <= 48 * 48 for each in found)
    for each in found:  # the phantoms' intensities have no common factor
        original = np.asanyarray(nifti(originals["brats2020"], CASES[each.volume - 1], each.modality).dataobj)
        values = original[..., each.slice]
        assert each.distinct == len(set(values[values > 0].tolist()))
    shutil.rmtree(out / CASES[1])
    (out / "conversion.json").unlink()
    assert quietly(h5, out).ambiguous == found
    listed = json.loads((out / "conversion.json").read_text())
    assert [AmbiguousSlice(**each) for each in listed["ambiguous_slices"]] == list(found)
    assert listed["converted"] == CASES


def test_a_second_run_goes_on_where_the_first_was(h5, originals, tmp_path):
    out = tmp_path / "out"
    damaged = slice_file(h5, 2, 10)
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:2000])
    first = quietly(h5, out)
    assert first.written == (CASES[0],)
    assert list(first.failed) == [CASES[1]]
    assert "volume_2_slice_10.h5" in first.failed[CASES[1]]
    assert json.loads((out / "conversion.json").read_text())["failed"] == dict(first.failed)
    assert not (out / CASES[1]).exists()
    before = snapshot(out / CASES[0])
    damaged.write_bytes(whole)
    second = quietly(h5, out)
    assert (second.written, second.skipped, second.failed) == ((CASES[1],), (CASES[0],), {})
    assert snapshot(out / CASES[0]) == before
    same_cases(out, originals["brats2020"])
    third = quietly(h5, out)
    assert (third.written, list(third.skipped)) == ((), CASES)


def test_missing_slices_do_not_stop_the_other_volumes(h5, tmp_path):
    for s in (0, 3, 4):
        slice_file(h5, 1, s).unlink()
    done = quietly(h5, tmp_path / "out", workers=2)
    assert done.written == (CASES[1],)
    assert "volume 1: slices 0, 3-4 are missing" in done.failed[CASES[0]]


def test_a_folder_that_is_no_whole_case_is_told_of_and_left(h5, tmp_path):
    half = tmp_path / "out" / CASES[0]
    half.mkdir(parents=True)
    (half / f"{CASES[0]}_t1.nii").touch()
    done = quietly(h5, tmp_path / "out")
    assert done.written == (CASES[1],)
    assert "is there already without BraTS20_Training_001_t1ce.nii" in done.failed[CASES[0]]
    assert [p.name for p in half.iterdir()] == [f"{CASES[0]}_t1.nii"]


def test_a_disk_that_fills_leaves_nothing_half_written(h5, originals, tmp_path, monkeypatch):
    out = tmp_path / "out"
    save = nib.save

    def fill(image: nib.Nifti1Image, path: Path) -> None:
        if path.name == f"{CASES[1]}_t2.nii.gz":
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", fill)
        with pytest.raises(OSError, match=r"out: the disk is full; the cases that are done stay"):
            quietly(h5, out)
    assert not leftovers(out)
    assert [p.name for p in out.iterdir() if p.is_dir()] == [CASES[0]]
    assert quietly(h5, out).written == (CASES[1],)
    same_cases(out, originals["brats2020"])


def test_too_little_room_is_said_before_anything_is_written(h5, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(OSError, match=r"out: 1 MB free; expected about \d+ MB for 2 cases; make room"):
        quietly(h5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_leftovers_of_killed_runs_are_removed_and_are_not_in_the_way(h5, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with scratch_folder(out / CASES[0]) as hidden:
        pass
    of_this_process = out / hidden.name  # as in a restarted container, where this run's number is 1 again
    with_the_older_name = out / f".{CASES[0]}.{hidden.name.split('.')[2].rpartition('-')[0]}.part"
    for folder in (of_this_process, with_the_older_name):
        folder.mkdir(parents=True)
        (folder / "x").touch()
    assert list(quietly(h5, out).written) == CASES
    assert not leftovers(out)


def test_two_runs_at_once_do_not_disturb_each_other(h5, originals, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "brats3d", "convert", str(h5), str(out), "--workers", "1"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for run in runs:
        text, _ = run.communicate(timeout=60)
        assert run.returncode == 0, text
    assert not leftovers(out)
    same_cases(out, originals["brats2020"])


def test_a_case_that_another_run_finishes_first_is_left_to_it(h5, tmp_path, monkeypatch):
    out, other = tmp_path / "out", tmp_path / "other"
    quietly(h5, other)
    save = convert.write_nifti

    def overtaken(path: Path, *rest: object) -> None:
        save(path, *rest)
        if not (out / CASES[0]).exists():
            shutil.copytree(other / CASES[0], out / CASES[0])

    monkeypatch.setattr(convert, "write_nifti", overtaken)
    before = (other / CASES[0] / f"{CASES[0]}_t1.nii.gz").stat().st_ino
    done = quietly(h5, out)
    assert not done.failed
    assert not leftovers(out)
    assert (other / CASES[0] / f"{CASES[0]}_t1.nii.gz").stat().st_ino == before
    same_cases(out, other)


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_can_go_on(originals, tmp_path):
    src, out = tmp_path / "src", tmp_path / "out"
    src.mkdir()
    for number in range(1, 25):
        for s in range(40):
            os.link(slice_file(originals["h5"], 1, s), src / f"volume_{number}_slice_{s}.h5")
    run = subprocess.Popen(
        [sys.executable, "-m", "brats3d", "convert", str(src), str(out), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(out.glob("BraTS20_*")):
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 60  # on a busy machine their threads take a while to be told
    with pytest.raises(ProcessLookupError):  # the workers are gone too
        while time.monotonic() < deadline:
            os.killpg(run.pid, 0)
            time.sleep(0.05)
    done = quietly(src, out, workers=2)
    assert done.skipped
    assert len(done.written) + len(done.skipped) == 24
    assert not leftovers(out)


@pytest.mark.parametrize("below", ["", "new", "BraTS2020_training_data/content/data/out"])
def test_writing_into_the_source_is_refused(h5, below):
    before = snapshot(h5)
    with pytest.raises(ValueError, match="expected a folder outside the source"):
        quietly(h5, h5 / below)
    assert snapshot(h5) == before


def test_a_link_into_the_source_is_refused(h5, tmp_path):
    (tmp_path / "link").symlink_to(h5)
    with pytest.raises(ValueError, match="expected a folder outside the source"):
        quietly(h5, tmp_path / "link" / "out")


def test_other_folders_are_refused_by_what_they_hold(originals, h5, tmp_path):
    with pytest.raises(ValueError, match=r"found files such as BraTS20_.*NIfTI cases need no conversion"):
        quietly(originals["brats2020"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"found no file here.*expected HDF5 slices"):
        quietly(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="there is no"):
        quietly(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        quietly(slice_file(h5, 1, 0), tmp_path / "out")
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        quietly(h5, tmp_path / "out", workers=0)
    shutil.copytree(originals["msd"], h5 / "msd")
    with pytest.raises(ValueError, match="holds several data sets"):
        quietly(h5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hidden_files_and_folders_of_macos_are_left_out(h5, tmp_path):
    data = slice_file(h5, 1, 0).parent
    (data / "._volume_1_slice_0.h5").write_bytes(b"macOS")
    shutil.copytree(data, h5 / "__MACOSX")
    assert list(quietly(h5, tmp_path / "out").written) == CASES


def test_the_command_says_what_it_did_and_what_comes_next(h5, tmp_path, capsys):
    out = tmp_path / "out put"
    assert cli.main(["convert", str(h5), str(out), "--workers", "1"]) == 0
    captured = capsys.readouterr()
    assert "2 cases, 0 of them done; about" in captured.err
    assert f"2 cases written to {out}" in captured.out
    assert "see conversion.json" in captured.out
    assert f"Next: brats3d audit '{out}', then brats3d train '{out}'" in captured.out


def test_the_command_exits_1_for_bad_data_and_2_for_wrong_use(h5, tmp_path, capsys):
    with h5py.File(slice_file(h5, 1, 20), "a") as file:
        file["mask"][...] = 1
    assert cli.main(["convert", str(h5), str(tmp_path / "out"), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "1 case written" in out
    assert f"  {CASES[0]}: " in out
    assert "volume_1_slice_20.h5" in out
    assert cli.main(["convert", str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "there is no" in capsys.readouterr().err
    assert cli.main(["convert", str(h5), str(h5)]) == 2
    assert "outside the source" in capsys.readouterr().err
    assert cli.main(["convert", str(h5), str(tmp_path / "out"), "--workers", "0"]) == 2
    assert cli.main(["convert", str(h5)]) == 2


def test_long_lists_in_the_summary_end_at_20(tmp_path):
    slices = tuple(AmbiguousSlice(v, 3, "t1", 2, 2, 5) for v in range(30))
    lines = Conversion(tmp_path, (), (), {f"c{i}": "damaged" for i in range(25)}, slices).summary()
    assert lines[0].endswith("25 failed")
    assert lines[1] == "  c0: damaged"
    assert lines[21] == "  and 5 more, in conversion.json"
    assert lines[23] == "  volume 0, slice 3, t1: 2 pixel(s) of 2 value(s), times 5"
    assert lines[-1] == "  and 10 more, in conversion.json"


def test_the_summary_counts_in_english(tmp_path):
    slices = tuple(AmbiguousSlice(1, s, "t1", 2, 2, factor) for s, factor in ((3, 1), (4, 7)))
    lines = Conversion(tmp_path, ("a",), ("b",), {}, slices).summary()
    assert lines[0] == f"1 case written to {tmp_path}, 1 was there already, 0 failed"
    assert lines[1].startswith("2 slices of a single modality: ")
    assert "a factor was chosen for 1 of them" in lines[1]


@pytest.mark.parametrize("name", ["BraTS-GLI-00001-100", "BraTS-GLI-00001-000", "BraTS-PED-00001-000"])
def test_msd_cases_that_would_be_read_with_other_labels_are_refused(originals, tmp_path, name):
    msd = shutil.copytree(originals["msd"], tmp_path / "msd")
    for path in msd.rglob("BRATS_001.nii.gz"):
        path.rename(path.with_name(f"{name}.nii.gz"))
    listed = next(msd.rglob("dataset.json"))
    listed.write_text(listed.read_text().replace("BRATS_001", name))
    with pytest.raises(ValueError, match=rf"dataset\.json: 1 case, such as {name}, named as in brats202.*rename"):
        quietly(msd, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("at", [40, 70, 76, 80, 108, 112, 252])
def test_a_damaged_header_does_not_stop_the_other_cases(originals, tmp_path, at):
    msd = shutil.copytree(originals["msd"], tmp_path / "msd")
    image = msd / "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz"
    content = bytearray(gzip.decompress(image.read_bytes()))
    content[at : at + 4] = b"\xff\x7f\xc0\x7f"
    image.write_bytes(gzip.compress(bytes(content), 1))
    done = quietly(msd, tmp_path / "out")
    assert "BRATS_002" in done.written
    assert all("BRATS_001.nii.gz: " in problem for problem in done.failed.values())


@pytest.mark.parametrize("out", ["a#b", "c::d"])
def test_an_output_folder_that_training_could_not_read_is_refused_at_once(h5, tmp_path, out, capsys):
    with pytest.raises(ValueError, match=r"out: the path .* with which MONAI separates"):
        check_output(h5, tmp_path / out)
    assert cli.main(["convert", str(h5), str(tmp_path / out)]) == 2
    assert not (tmp_path / out).exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_an_output_folder_that_cannot_be_made_is_said_to_be_so(h5):
    with pytest.raises(ValueError, match=r"out: cannot write to /proc .*expected a folder that you may write to"):
        quietly(h5, Path("/proc/out"))
