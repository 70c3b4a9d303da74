"""Conversion: every voxel is preserved, damaged cases do not stop the others, and nothing is half written."""

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
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from brats3d import cli
from brats3d.cases import find_cases
from brats3d.convert import conversion
from brats3d.convert.conversion import Conversion, check_output, convert_dataset
from brats3d.convert.records import AmbiguousSlice
from brats3d.errors import NotFoundError, UsageError
from brats3d.files import scratch_folder

CASES = ["BraTS20_Training_001", "BraTS20_Training_002"]
KINDS = ("t1", "t1ce", "t2", "flair", "seg")


def slice_file(folder: Path, volume: int, s: int) -> Path:
    return folder / "BraTS2020_training_data/content/data" / f"volume_{volume}_slice_{s}.h5"


def convert(src: Path, out: Path, workers: int = 1) -> Conversion:
    return convert_dataset(src, out, workers, progress=False)


def nifti(folder: Path, case_id: str, kind: str) -> nib.Nifti1Image:
    return nib.load(folder / case_id / f"{case_id}_{kind}.nii.gz")


def assert_same_cases(one: Path, other: Path) -> None:
    for case_id in CASES:
        for kind in KINDS:
            image, original = nifti(one, case_id, kind), nifti(other, case_id, kind)
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
    result = convert(originals["h5"], out)
    assert (result.out, list(result.written), result.skipped, result.failed) == (out, CASES, (), {})
    assert_same_cases(out, originals["brats2020"])
    assert snapshot(originals["h5"]) == before
    assert sorted(p.name for p in out.iterdir()) == [*CASES, "conversion.json", "name_mapping.csv", "survival_info.csv"]
    assert not leftovers(out)
    image = nifti(out, CASES[0], "t1ce")
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
    assert [case.case_id for case in find_cases(out, require_label=True)] == CASES


def test_msd_images_become_the_original_cases_in_their_own_orientation(originals, tmp_path):
    result = convert(originals["msd"], tmp_path / "out")
    assert result.written == ("BRATS_001", "BRATS_002")
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


def test_several_processes_produce_the_same_files(originals, tmp_path):
    one, two = convert(originals["h5"], tmp_path / "one"), convert(originals["h5"], tmp_path / "two", workers=2)
    assert_same_cases(tmp_path / "two", tmp_path / "one")
    assert one.ambiguous == two.ambiguous
    assert (tmp_path / "one/conversion.json").read_text() == (tmp_path / "two/conversion.json").read_text()


def test_ambiguous_slices_are_listed_also_after_an_interruption(h5, originals, tmp_path):
    out = tmp_path / "out"
    ambiguous = convert(h5, out).ambiguous
    assert ambiguous
    assert all(0 < part.distinct < 32 <= 48 * 48 for part in ambiguous)
    for part in ambiguous:  # the phantoms' intensities have no common factor
        original = np.asanyarray(nifti(originals["brats2020"], CASES[part.volume - 1], part.modality).dataobj)
        values = original[..., part.slice]
        assert part.distinct == len(set(values[values > 0].tolist()))
    shutil.rmtree(out / CASES[1])
    (out / "conversion.json").unlink()
    assert convert(h5, out).ambiguous == ambiguous
    report = json.loads((out / "conversion.json").read_text())
    assert [AmbiguousSlice(**part) for part in report["ambiguous_slices"]] == list(ambiguous)
    assert report["converted"] == CASES


def test_a_second_run_resumes_and_retries_what_failed(h5, originals, tmp_path):
    out = tmp_path / "out"
    damaged = slice_file(h5, 2, 10)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:2000])
    slice_file(h5, 2, 3).rename(h5 / "elsewhere")
    first = convert(h5, out, workers=2)
    assert first.written == (CASES[0],)
    assert "missing slices 3" in first.failed[CASES[1]]
    (h5 / "elsewhere").rename(slice_file(h5, 2, 3))
    second = convert(h5, out)
    assert (second.written, second.skipped) == ((), (CASES[0],))
    assert "volume_2_slice_10.h5" in second.failed[CASES[1]]
    assert json.loads((out / "conversion.json").read_text())["failed"] == dict(second.failed)
    assert not (out / CASES[1]).exists()
    before = snapshot(out / CASES[0])
    damaged.write_bytes(content)
    third = convert(h5, out)
    assert (third.written, third.skipped, third.failed) == ((CASES[1],), (CASES[0],), {})
    assert snapshot(out / CASES[0]) == before
    assert_same_cases(out, originals["brats2020"])


def test_an_existing_folder_without_all_files_is_reported_and_kept(h5, tmp_path):
    half = tmp_path / "out" / CASES[0]
    half.mkdir(parents=True)
    (half / f"{CASES[0]}_t1.nii").touch()
    result = convert(h5, tmp_path / "out")
    assert result.written == (CASES[1],)
    assert "exists without BraTS20_Training_001_t1ce.nii" in result.failed[CASES[0]]
    assert [p.name for p in half.iterdir()] == [f"{CASES[0]}_t1.nii"]


def test_a_damaged_record_is_named(h5, tmp_path):
    out = tmp_path / "out"
    convert(h5, out)
    record = out / CASES[0] / ".conversion.json"
    record.write_text("[]")
    with pytest.raises(ValueError) as error:
        convert(h5, out)
    assert error.value.subject == str(record)


def test_a_full_disk_leaves_nothing_half_written(h5, originals, tmp_path, monkeypatch):
    out = tmp_path / "out"
    save = nib.save

    def fill(image: nib.Nifti1Image, path: Path) -> None:
        if path.name == f"{CASES[1]}_t2.nii.gz":
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", fill)
        with pytest.raises(OSError, match="finished cases are kept") as error:
            convert(h5, out)
    assert error.value.errno == errno.ENOSPC
    assert not leftovers(out)
    assert [p.name for p in out.iterdir() if p.is_dir()] == [CASES[0]]
    assert convert(h5, out).written == (CASES[1],)
    assert_same_cases(out, originals["brats2020"])


def test_leftovers_of_killed_runs_are_removed(h5, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with scratch_folder(out / CASES[0]) as hidden:
        pass
    leftover = out / hidden.name  # with this process's number, as in a restarted container
    leftover.mkdir()
    (leftover / "x").touch()
    assert list(convert(h5, out).written) == CASES
    assert not leftovers(out)


def test_two_runs_at_once_do_not_disturb_each_other(h5, originals, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "brats3d", "convert", str(h5), str(out), "--workers", "1"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for run in runs:
        text, _ = run.communicate(timeout=60)
        assert run.returncode == 0, text
    assert not leftovers(out)
    assert_same_cases(out, originals["brats2020"])


def test_a_case_finished_first_by_another_run_is_kept(h5, tmp_path, monkeypatch):
    out, other = tmp_path / "out", tmp_path / "other"
    convert(h5, other)
    write = conversion.write_nifti

    def write_late(path: Path, *rest: object) -> None:
        write(path, *rest)
        if not (out / CASES[0]).exists():
            shutil.copytree(other / CASES[0], out / CASES[0])

    monkeypatch.setattr(conversion, "write_nifti", write_late)
    result = convert(h5, out)
    assert not result.failed
    assert not leftovers(out)
    assert_same_cases(out, other)


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_can_be_resumed(originals, tmp_path):
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
    deadline = time.monotonic() + 60  # on a busy machine the workers notice late
    with pytest.raises(ProcessLookupError):  # the workers have exited too
        while time.monotonic() < deadline:
            os.killpg(run.pid, 0)
            time.sleep(0.05)
    result = convert(src, out, workers=2)
    assert result.skipped
    assert len(result.written) + len(result.skipped) == 24
    assert not leftovers(out)


@pytest.mark.parametrize("below", ["", "new", "BraTS2020_training_data/content/data/out"])
@pytest.mark.parametrize("link", [False, True])
def test_an_output_folder_in_the_source_is_refused(h5, tmp_path, below, link):
    (tmp_path / "link").symlink_to(h5)
    before = snapshot(h5)
    with pytest.raises(UsageError) as error:
        convert(h5, (tmp_path / "link" if link else h5) / below)
    assert error.value.subject == "out"
    assert "outside the source" in error.value.expected
    assert snapshot(h5) == before


def test_wrong_arguments_are_refused(h5, tmp_path):
    with pytest.raises(NotFoundError) as error:
        convert(tmp_path / "none", tmp_path / "out")
    assert error.value.subject == "src"
    with pytest.raises(UsageError) as error:
        convert(slice_file(h5, 1, 0), tmp_path / "out")
    assert (error.value.subject, error.value.found) == ("src", str(slice_file(h5, 1, 0)))
    with pytest.raises(UsageError) as error:
        convert(h5, slice_file(h5, 1, 0))
    assert error.value.subject == "out"
    with pytest.raises(UsageError) as error:
        convert(h5, tmp_path / "out", workers=0)
    assert (error.value.subject, error.value.found) == ("workers", 0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["a#b", "c::d"])
def test_an_output_folder_that_training_could_not_read_is_refused(h5, tmp_path, out):
    with pytest.raises(ValueError, match=r"^out: "):
        check_output(h5, tmp_path / out)
    assert cli.main(["convert", str(h5), str(tmp_path / out)]) == 2
    assert not (tmp_path / out).exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_an_output_folder_that_cannot_be_created_is_refused(h5):
    with pytest.raises(ValueError, match=r"^out: .*/proc"):
        convert(h5, Path("/proc/out"))


def test_the_command_prints_the_result_and_what_to_run_next(h5, tmp_path, capsys):
    out = tmp_path / "out put"
    assert cli.main(["convert", str(h5), str(out), "--workers", "1"]) == 0
    captured = capsys.readouterr()
    assert "2 cases, 0 already converted" in captured.err
    assert f"Converted 2 cases to {out} (0 already done, 0 failed)" in captured.out
    assert "see conversion.json" in captured.out
    assert f"Next: brats3d audit '{out}', then brats3d train '{out}'" in captured.out


def test_the_command_exits_1_for_bad_data_and_2_for_wrong_use(h5, tmp_path, capsys):
    with h5py.File(slice_file(h5, 1, 20), "a") as file:
        file["mask"][...] = 1
    assert cli.main(["convert", str(h5), str(tmp_path / "out"), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "1 failed" in out
    assert f"  {CASES[0]}: " in out
    assert "volume_1_slice_20.h5" in out
    assert cli.main(["convert", str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert cli.main(["convert", str(h5), str(h5)]) == 2
    assert cli.main(["convert", str(h5), str(tmp_path / "out"), "--workers", "0"]) == 2
    assert cli.main(["convert", str(h5)]) == 2


def test_the_summary_counts_guessed_factors_and_lists_at_most_20_failures(tmp_path):
    slices = tuple(AmbiguousSlice(1, s, "t1", 2, 2, factor) for s, factor in ((3, 1), (4, 7)))
    lines = Conversion(tmp_path, ("a",), ("b",), {f"c{i}": "damaged" for i in range(25)}, slices).summary()
    assert lines[0] == f"Converted 1 case to {tmp_path} (1 already done, 25 failed)"
    assert lines[1] == "  c0: damaged"
    assert lines[21] == "  and 5 more, see conversion.json"
    assert lines[22].startswith("2 slices")
    assert "a factor was estimated for 1 of them" in lines[22]


@pytest.mark.parametrize("at", [40, 70, 76, 80, 108, 112, 252])
def test_a_damaged_header_does_not_stop_the_other_cases(originals, tmp_path, at):
    msd = shutil.copytree(originals["msd"], tmp_path / "msd")
    image = msd / "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz"
    content = bytearray(gzip.decompress(image.read_bytes()))
    content[at : at + 4] = b"\xff\x7f\xc0\x7f"
    image.write_bytes(gzip.compress(bytes(content), 1))
    result = convert(msd, tmp_path / "out")
    assert "BRATS_002" in result.written
    assert all("BRATS_001.nii.gz: " in problem for problem in result.failed.values())
