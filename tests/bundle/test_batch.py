"""``predict`` on a folder of cases: failed cases are recorded, finished ones skipped, all others segmented."""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from brats3d.data.label_transforms import RegionsToLabelsd
from brats3d.files import atomic_write as files
from brats3d.inference.eval_step import EvalStep
from brats3d.inference.save_segmentations import SaveSegmentations
from brats3d.labels import MODALITIES, REGIONS
from brats3d.networks.checkpoint_card import describe_network
from brats3d.networks.checkpoint_file import save_checkpoint

Workflow = Callable[..., ConfigWorkflow]
Run = Callable[..., tuple[int, str, str]]
Predict = Callable[..., tuple[int, str, str]]
TINY = ("--network_def#channels", "[4,8,8,8,8]", "--device", "cpu", "--amp", "False")
IDS = [f"BraTS20_Training_{i:03d}" for i in (1, 2, 3)]


@pytest.fixture(scope="session")
def two_weights(workflow: Workflow, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of random weights that need all four sequences."""
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        built = workflow("predict", dataset_dir=phantoms)
        network = type(built.network_def)(**{**_arguments(built), "in_channels": 4})
        path = tmp_path_factory.mktemp("weights") / "model.pt"
        card = {"modalities": list(MODALITIES), "regions": list(REGIONS), "network_def": describe_network(network)}
        card["patch_size"] = [32, 32, 32]
        save_checkpoint(path, network.state_dict(), card)
        paths.append(path)
    return paths


def _arguments(built: ConfigWorkflow) -> dict:
    return {k: v for k, v in built.parser.get("network_def").items() if k != "_target_"}


@pytest.fixture
def data(make_dataset, tmp_path: Path) -> Path:
    """Three small cases."""
    return make_dataset(3, root=tmp_path / "data")


@pytest.fixture
def predict(run: Run, data: Path, tmp_path: Path, two_weights: list[Path]) -> Predict:
    """``predict(*options, to="out", weights=0)``: run it on ``data``; return exit code, stdout and stderr."""

    def command(*options: object, to: str = "out", weights: int = 0) -> tuple[int, str, str]:
        chosen = ("--output", tmp_path / to, "--checkpoint", two_weights[weights])
        return run("predict", data, *chosen, *TINY, *options)

    return command


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that went through the network, in order."""
    seen: list[str] = []
    whole = EvalStep.__call__

    def step(self, engine, batch):
        seen.extend(batch["case_id"])
        return whole(self, engine, batch)

    monkeypatch.setattr(EvalStep, "__call__", step)
    return seen


def path_of(data: Path, number: int, modality: str = "t2") -> Path:
    return data / IDS[number] / f"{IDS[number]}_{modality}.nii.gz"


def truncate(path: Path) -> bytes:
    """Cut a file in half and return its whole content. The header stays intact."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


def failures_in(out: Path) -> dict[str, str]:
    content = json.loads((out / "failures.json").read_text())
    assert all(set(each) == {"case_id", "folder", "error"} for each in content["failures"])
    return {each["case_id"]: each["error"] for each in content["failures"]}


def segmented(out: Path) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in out.glob("*.nii.gz"))


def contents(out: Path) -> dict[str, bytes]:
    """Name -> content of the output files, without records and hidden files."""
    return {p.name: p.read_bytes() for p in out.iterdir() if not p.name.startswith(".") and p.suffix != ".jsonl"}


def last_line(err: str) -> str:
    lines = err.strip().splitlines()
    assert lines[-1].startswith("brats3d: error: "), err
    return lines[-1]


# --- shards


def test_shards_in_one_folder_equal_one_run(predict, data, tmp_path, steps):
    assert predict(to="whole")[0] == 0
    path_of(data, 1).unlink()
    del steps[:]
    for number in (1, 2, 3, 4):
        code, out, err = predict("--shard", f"{number}/4", to="shards")
        assert code == (1 if number == 2 else 0), err
        if number == 2:
            assert "1 of 1 cases failed" in err and "see " in err and "failures-2-of-4.json" in err
        if number == 4:
            assert "Segmented 0 cases (0 already done)" in out + err
    assert steps == [IDS[0], IDS[2]]
    whole, shards = contents(tmp_path / "whole"), contents(tmp_path / "shards")
    assert shards.pop("failures-2-of-4.json")
    del whole[f"{IDS[1]}.nii.gz"]
    assert shards == whole
    del steps[:]
    assert predict("--shard", "1/2", to="shards")[0] == 0
    assert steps == [], "done by other shards"


@pytest.mark.parametrize("shard", ["0/8", "9/8", "a"])
def test_an_invalid_shard_is_refused(shard, predict, tmp_path):
    code, _, err = predict("--shard", shard)
    assert code == 2 and f"shard: expected i/n with i from 1 to n, such as 3/8, got '{shard}'" in last_line(err)
    assert not (tmp_path / "out").exists()


# --- one bad case


def test_a_truncated_case_is_listed_and_the_others_are_segmented(predict, data, tmp_path, steps):
    assert predict(to="whole")[0] == 0
    truncate(path_of(data, 1))
    code, out, err = predict()
    assert code == 1
    line = last_line(err)
    assert f"1 of 3 cases failed (2 segmented, 0 skipped): {IDS[1]}: {path_of(data, 1)}: file ends early" in line
    assert segmented(tmp_path / "out") == [IDS[0], IDS[2]]
    assert list(failures_in(tmp_path / "out")) == [IDS[1]]
    assert f"{IDS[1]} failed: " in out
    for case_id in (IDS[0], IDS[2]):
        name = f"{case_id}.nii.gz"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_failures_json_disappears_when_the_case_is_repaired(predict, data, tmp_path, steps):
    whole = truncate(path_of(data, 1))
    assert predict()[0] == 1
    path_of(data, 1).write_bytes(whole)
    del steps[:]
    code, out, _ = predict()
    assert code == 0 and steps == [IDS[1]]
    assert "Skipping 2 of 3 cases" in out and "Segmented 1 case (2 already done)" in out
    assert not (tmp_path / "out" / "failures.json").exists()
    assert segmented(tmp_path / "out") == IDS


def zeros(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), path)


def not_finite(path: Path) -> None:
    image = nib.load(path)
    values = np.asanyarray(image.dataobj).astype(np.float32)
    values[8, 8, 6] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), path)


def other_shape(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:-1], image.affine), path)


def other_affine(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.asanyarray(nib.load(path).dataobj), np.diag([2.0, 1, 1, 1])), path)


def unknown_names(path: Path) -> None:
    for number, file in enumerate(sorted(path.parent.iterdir())):
        file.rename(file.with_name(f"scan_{number}.nii.gz"))


DEFECTS = {
    "zeros": (zeros, "every voxel is 0"),
    "nan": (not_finite, "NaN"),
    "shape": (other_shape, "has shape (15, 16, 12)"),
    "affine": (other_affine, "its affine differs"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("x"), "cannot be read"),
    "missing": (lambda path: path.unlink(), "missing t2"),
    "double": (lambda path: shutil.copy(path, path.with_name(path.name[:-3])), "2 files for t2"),
    "names": (unknown_names, "found 5 file(s) such as scan_0.nii.gz"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defective_case_does_not_stop_the_others(name, predict, data, tmp_path):
    damage, text = DEFECTS[name]
    damage(path_of(data, 0))
    code, _, err = predict()
    assert code == 1 and IDS[0] in last_line(err) and text in last_line(err)
    assert segmented(tmp_path / "out") == IDS[1:]
    ((case_id, error),) = failures_in(tmp_path / "out").items()
    assert case_id == IDS[0] and text in error and "\n" not in error
    (entry,) = json.loads((tmp_path / "out" / "failures.json").read_text())["failures"]
    assert entry["folder"] == str(data / IDS[0])


def test_every_failure_is_listed_with_its_reason(predict, data, tmp_path):
    truncate(path_of(data, 0))
    path_of(data, 1).unlink()
    code, _, err = predict()
    assert code == 1
    assert "2 of 3 cases failed (1 segmented, 0 skipped)" in err
    found = failures_in(tmp_path / "out")
    assert set(found) == set(IDS[:2]) and "missing t2" in found[IDS[1]] and "ends early" in found[IDS[0]]
    assert all(f"  {case_id}: {error}" in err for case_id, error in found.items())


def test_a_case_of_an_unsupported_release_does_not_stop_the_others(predict, data, tmp_path):
    folder = data / "BraTS-MEN-RT-0001-1"
    folder.mkdir()
    shutil.copy(path_of(data, 0, "t1ce"), folder / f"{folder.name}_t1c.nii.gz")
    assert predict()[0] == 1
    assert segmented(tmp_path / "out") == IDS
    ((case_id, error),) = failures_in(tmp_path / "out").items()
    assert case_id == folder.name and "cannot be used: meningioma radiotherapy" in error


def test_a_folder_without_usable_cases_is_an_error(predict, data, tmp_path):
    for number in range(3):
        path_of(data, number).unlink()
    code, out, err = predict()
    assert code == 1 and "3 problems" in err and "--modalities" in err
    assert "failed" not in out, "the problems are listed only in the error"
    assert not (tmp_path / "out").exists()


def test_training_refuses_a_folder_with_a_malformed_case(run, data, tmp_path):
    path_of(data, 1).unlink()
    code, _, err = run("train", data, "--output", tmp_path / "run")
    assert code == 1 and "missing t2" in last_line(err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), ZeroDivisionError("x"), OSError("x")])
def test_an_error_in_the_network_fails_only_its_case(error, predict, data, tmp_path, monkeypatch, steps) -> None:
    whole = EvalStep.__call__

    def step(self, engine, batch):
        if batch["case_id"] == [IDS[1]]:
            raise error
        return whole(self, engine, batch)

    monkeypatch.setattr(EvalStep, "__call__", step)
    assert predict()[0] == 1
    assert segmented(tmp_path / "out") == [IDS[0], IDS[2]]
    assert list(failures_in(tmp_path / "out")) == [IDS[1]]


def test_an_error_in_postprocessing_fails_only_its_case(predict, tmp_path, monkeypatch) -> None:
    calls = itertools.count()
    whole = RegionsToLabelsd.__call__

    def raises_once(self, data):
        if next(calls) == 0:
            raise RuntimeError("the first is lost")
        return whole(self, data)

    monkeypatch.setattr(RegionsToLabelsd, "__call__", raises_once)
    assert predict("--preview")[0] == 1
    assert failures_in(tmp_path / "out") == {IDS[0]: "RuntimeError: the first is lost"}
    assert sorted(p.stem for p in (tmp_path / "out").glob("*.png")) == IDS[1:]
    assert predict("--preview")[0] == 0, "the case is segmented again, though its segmentation may exist"
    assert sorted(p.stem for p in (tmp_path / "out").glob("*.png")) == IDS


# --- errors that affect every case


def test_a_full_disk_stops_the_run_at_once(predict, tmp_path, monkeypatch, steps):
    whole = files.os.fsync
    calls = itertools.count()

    def full(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode) and next(calls) == 2:  # of each case, the file and the record
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    code, _, err = predict()
    assert code == 1 and "No space left on device" in last_line(err)
    assert len(steps) == 2, "the third case is not attempted"
    assert segmented(tmp_path / "out") == IDS[:1]
    assert not list((tmp_path / "out").glob(".*"))
    del steps[:]
    monkeypatch.setattr(files.os, "fsync", whole)
    assert predict()[0] == 0 and steps == IDS[1:]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_case_is_not_listed_as_failed(error, code, predict, tmp_path, monkeypatch) -> None:
    def step(self, engine, batch):
        raise error

    monkeypatch.setattr(EvalStep, "__call__", step)
    assert predict()[0] == code
    assert not (tmp_path / "out" / "failures.json").exists()


def test_nothing_is_written_for_wrong_weights_or_an_empty_folder(run, predict, data, tmp_path, two_weights):
    assert run("predict", data, "--output", tmp_path / "out", "--checkpoint", tmp_path / "none.pt", *TINY)[0] == 2
    (tmp_path / "empty").mkdir()
    assert run("predict", tmp_path / "empty", "--output", tmp_path / "out", *TINY)[0] == 1
    assert predict("--modalities", "['t1']")[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_failures_json_of_another_program_is_not_replaced(predict, tmp_path, steps):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "failures.json").write_text('{"mine": 1}')
    code, _, err = predict()
    assert code == 2 and "not written by brats3d" in last_line(err) and not steps
    assert (tmp_path / "out" / "failures.json").read_text() == '{"mine": 1}'


# --- running again


def test_done_cases_are_skipped(predict, tmp_path, steps):
    assert predict("--preview", "--stats")[0] == 0
    assert steps == IDS
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    code, out, _ = predict("--preview", "--stats")
    assert code == 0 and steps == IDS
    assert "Skipping 3 of 3 cases" in out and "Segmented 0 cases (3 already done)" in out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before


def test_temporary_files_of_a_killed_run_are_removed_and_others_are_kept(predict, tmp_path):
    (out := tmp_path / "out").mkdir()
    half = out / f".{IDS[1]}.nii.gz.0123456789ab.tmp"
    of_another = out / ".BraTS20_Training_004.nii.gz.0123456789ab.tmp"
    for file in (half, of_another):
        file.write_bytes(b"half")
    assert predict()[0] == 0
    assert not half.exists() and of_another.exists()


@pytest.mark.parametrize("suffix", [".nii.gz", ".png", ".json"])
def test_a_case_with_a_missing_file_is_segmented_again(suffix, predict, tmp_path, steps):
    out = tmp_path / "out"
    assert predict("--preview", "--stats")[0] == 0
    whole = contents(out)
    (out / f"{IDS[1]}{suffix}").unlink()
    del steps[:]
    assert predict("--preview", "--stats")[0] == 0
    assert steps == [IDS[1]] and contents(out) == whole


def forget(out: Path) -> None:
    """Remove the record of the second case."""
    lines = (out / "predictions.jsonl").read_text().splitlines()
    (out / "predictions.jsonl").write_text("\n".join(line for line in lines if IDS[1] not in line))


CHANGES: dict[str, Callable[[Path], object]] = {
    "corrected": lambda out: zeros(out / f"{IDS[1]}.nii.gz"),
    "cut": lambda out: truncate(out / f"{IDS[1]}.nii.gz"),
    "of another case": lambda out: shutil.copy(out / f"{IDS[0]}.nii.gz", out / f"{IDS[1]}.nii.gz"),
    "not recorded": forget,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_segmentation_is_kept_and_the_other_cases_are_segmented(name, predict, tmp_path, steps):
    out = tmp_path / "out"
    assert predict()[0] == 0
    CHANGES[name](out)
    changed = contents(out)
    (out / f"{IDS[2]}.nii.gz").unlink()
    assert predict("--skip_done", "False")[0] == (1 if name == "cut" else 0)
    assert contents(out)[f"{IDS[1]}.nii.gz"] == changed[f"{IDS[1]}.nii.gz"] and steps == [*IDS, IDS[0], IDS[2]]
    (out / f"{IDS[1]}.nii.gz").unlink()
    assert predict()[0] == 0 and steps == [*IDS, IDS[0], IDS[2], IDS[1]]


@pytest.mark.parametrize(
    "option",
    [
        ("--window", "[48,48,48]"),
        ("--overlap", 0.5),
        ("--label_convention", "brats2023"),
        ("--inferer#mode", "constant"),
        ("--threshold", 0.4),
        ("--postprocess", "False"),
        ("--region_rules#min_et_ml", 0.2),
        ("--postprocessing#transforms#1#threshold", 0.4),
        ("--preview",),
        ("--stats",),
        ("--skip_done", "false"),
    ],
    ids=lambda option: option[0],
)
def test_every_case_is_segmented_again_with_other_settings_or_outputs(option, predict, tmp_path, steps):
    assert predict()[0] == 0
    del steps[:]
    assert predict(*option)[0] == 0
    assert steps == IDS


def test_every_case_is_segmented_again_after_other_values_were_chosen_for_the_weights(
    predict, two_weights, tmp_path, steps
):
    weights = Path(shutil.copy(two_weights[0], tmp_path / "model.pt"))
    card = json.loads(two_weights[0].with_suffix(".json").read_text())
    for wt_ml in (None, 1, 2):
        chosen = {"threshold": dict.fromkeys(REGIONS, 0.5), "region_rules": {"min_wt_ml": wt_ml}}
        more = {"postprocessing": chosen} if wt_ml else {}
        weights.with_suffix(".json").write_text(json.dumps({**card, **more}))
        for expected in (IDS, []):
            del steps[:]
            code, out, _ = predict("--checkpoint", weights)
            assert code == 0 and steps == expected
            assert ("post-processing values" in out, f"min_wt_ml {wt_ml}" in out) == ((wt_ml is not None,) * 2)


def test_every_case_is_segmented_again_with_other_weights(predict, tmp_path, steps):
    assert predict("--stats")[0] == 0
    assert predict(weights=1)[0] == 0
    assert predict(weights=1, to="alone")[0] == 0
    a, b = ((tmp_path / name / f"{IDS[0]}.nii.gz").read_bytes() for name in ("out", "alone"))
    assert a == b
    del steps[:]
    assert predict("--stats", weights=1)[0] == 0
    assert steps == IDS, "the existing stats are of other weights"


@pytest.mark.parametrize("change", ["mtime", "size", "file"])
def test_a_changed_input_is_segmented_again(change, predict, data, steps):
    assert predict()[0] == 0
    path = path_of(data, 2)
    if change == "mtime":
        os.utime(path, ns=(1, 1))
    elif change == "size":
        stat = path.stat()
        path.write_bytes(path.read_bytes() + b"\0\0")  # zeros may follow a gzip member
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    del steps[:]
    assert predict()[0] == 0
    assert steps == [IDS[2]]


def test_cases_of_a_moved_data_set_are_skipped(run, predict, data, tmp_path, two_weights, steps):
    assert predict()[0] == 0
    data.rename(tmp_path / "moved")
    options = ("--output", tmp_path / "out", "--checkpoint", two_weights[0])
    assert run("predict", tmp_path / "moved", *options, *TINY)[0] == 0
    assert steps == IDS


@pytest.mark.parametrize("where", ["first", "second", "last"])
def test_an_error_while_reading_ahead_is_attributed_to_its_case(where, predict, data, tmp_path, steps):
    number = ["first", "second", "last"].index(where)
    truncate(path_of(data, number))
    assert predict()[0] == 1
    assert list(failures_in(tmp_path / "out")) == [IDS[number]]
    assert steps == [case_id for case_id in IDS if case_id != IDS[number]]


# --- MONAI's command


def test_monais_command_raises_after_all_cases_are_tried(workflow, data, tmp_path, two_weights):
    truncate(path_of(data, 0))
    built = workflow("predict", dataset_dir=data, output_dir=tmp_path / "out", checkpoint=two_weights[0])
    with pytest.raises(RuntimeError) as caught:
        built.run()
    assert "1 of 3 cases failed (2 segmented, 0 skipped)" in str(caught.value.__cause__)
    assert segmented(tmp_path / "out") == IDS[1:]


def test_skip_done_must_be_a_bool(workflow, data, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        workflow("predict", dataset_dir=data, output_dir=tmp_path / "out", skip_done="'false'")
    assert "skip_done: expected true or false" in str(caught.value.__cause__)


def test_a_thousand_done_cases_are_skipped_in_seconds(write_case, tmp_path, monkeypatch, two_weights):
    monkeypatch.setattr(files.os, "fsync", lambda handle: None)  # most of the time is spent on 2,000 of these
    first = write_case(tmp_path / "data" / "c0000", label=False)
    images, out = [str(first / f"c0000_{m}.nii.gz") for m in MODALITIES], tmp_path / "out"
    items = [{"case_id": f"c{i:04d}", "image": images} for i in range(1000)]
    weights = two_weights[0]  # they predict no quality, which needs probabilities

    def saver() -> SaveSegmentations:
        return SaveSegmentations(out, "brats2020", MODALITIES, items, checkpoint=weights, stats=True)

    written = saver()
    written.prepare()
    label = np.zeros((16, 16, 12), np.uint8)
    for item in items:
        written._save(item["case_id"], label)
    begun = time.monotonic()
    assert len(saver().prepare(skip_done=True)) == 1000
    assert time.monotonic() - begun < 20  # 4.5 s on two cores


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_files(make_dataset, tmp_path, two_weights):
    data = make_dataset(8, root=tmp_path / "data")
    command = [sys.executable, "-m", "brats3d", "predict", data, "--checkpoint", two_weights[0], "--preview", *TINY]

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen([*map(str, command), "--output", out], cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    with start("whole") as whole:
        whole.communicate(timeout=300)
    assert whole.returncode == 0
    out = tmp_path / "out"
    with start("out") as killed:
        deadline = time.monotonic() + 200
        while len(segmented(out)) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    done = {p: p.stat().st_mtime_ns for p in out.glob("*.nii.gz") if (out / f"{p.name[:-7]}.png").exists()}
    assert 2 <= len(done) < 8
    with start("out") as again:
        text, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    assert f"Skipping {len(done)} of 8 cases" in text
    assert contents(out) == contents(tmp_path / "whole")
    assert {p for p, mtime in done.items() if p.stat().st_mtime_ns == mtime} == done.keys()
