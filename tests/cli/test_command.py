"""The command: quick help, one-line errors, exit codes, and no partly written files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats3d import bundle, cli
from brats3d.cli.command import explain
from brats3d.config_reader import read_knobs
from brats3d.errors import DataError, UsageError

RUN = "brats3d.cli.workflow_commands.run_workflow"


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("brats3d: error: ")]
    assert len(lines) == 1, text
    assert text.strip().endswith(lines[0]), f"the error is not the last line: {text}"
    return lines[0]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from brats3d.cli import main; main(['--help']); "
        "print(sorted({'torch', 'monai', 'numpy', 'nibabel', 'ignite', 'matplotlib', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    listed = re.findall(r"^  (\w+) {2,}[A-Z]", done.stdout.partition("Commands:")[2], re.MULTILINE)
    order = ["phantom", "convert", "prepare", "audit", "split", "plan", "pretrain", "train", "evaluate"]
    assert listed == [*order, "crossval", "predict", "score", "compare", "report", "view", "where"]


def test_where_prints_the_bundle(run) -> None:
    assert run("where") == (0, f"{bundle.installed_bundle()}\n", "")


def test_phantom_writes_cases(run, tmp_path: Path) -> None:
    code, out, _ = run("phantom", tmp_path / "data", "--cases", 1, "--seed", 4, "--size", "small")
    assert code == 0
    assert out == f"1 cases in {tmp_path / 'data'}\n"
    assert len(list(tmp_path.glob("data/*/*.nii.gz"))) == 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train"], "DIR: expected a folder of cases"),
        (["train", "a", "b"], "DIR: expected one folder of cases"),
        (["pretrain", "a"], "DIR: pretrain reads no cases"),
        (["train", "a", "--epochz", "9"], "did you mean --epochs?"),
        (["predict", "a", "--windw", "9"], "did you mean --window?"),
        (["predict", "a", "--one_pass"], "--one_pass: unknown id; use --window brain"),
        (["predict", "--one-pass", "a"], "--one_pass: unknown id; use --window brain"),
        (["train", "a", "--roi_size", "[96,96,96]"], '--roi_size: unknown id; use --window "[96,96,96]"'),
        (["train", "a", "--epochs"], "--epochs: expected a value"),
        (["train", "a#b"], "'#'"),
        (["train", "a", "--output", "$x"], "'$'"),
        (["phantom", "out"], "--cases"),
        (["phantom", "out", "--cases", "0"], "cases: expected an integer from 1"),
        (["phantom", "out", "--cases", "1", "--layout", "x"], "layout: expected one of brats2018"),
        (["phantom", "out", "--cases", "1", "--size", "x"], "size: expected one of"),
        (["phantom", "out", "--cases", "1", "--setting", "x"], "setting: expected one of varied, plain, new-scanner"),
        (["audit", "a", "--label-convention", "x"], "label_convention: expected one of brats2020"),
        (["audit", "a", "--modalities", "t1,x"], "modalities: expected one or more of"),
        (["audit", "a", "--json", "a/t1.nii.gz"], "json: expected a file name that ends in .json"),
        (["split", "a", "-o", "a/t1.nii.gz"], "output: "),
        (["split", "a", "-o", "b.json", "--folds", "1"], "folds: expected 2 or more"),
        (["convert", "a"], "OUT"),
        (["trian"], "trian"),
    ],
)
def test_wrong_use_exits_2(run, arguments: list[str], text: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    code, _, err = run(*arguments)
    assert code == 2
    assert text in err


def test_a_wrong_folder_is_reported_in_one_line(run, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("x")
    for folder, text in ((tmp_path / "none", "there is no"), (file, "file.txt"), (tmp_path, "no BraTS case")):
        for workflow in ("train", "predict"):
            code, _, err = run(workflow, folder, "--output", tmp_path / "out")
            assert code in (1, 2)
            assert text in one_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--label-convention", "--label_convention"])
def test_options_are_accepted_with_dashes_or_underscores(run, write_case, option: str, tmp_path: Path) -> None:
    for number in (1, 2):
        write_case(tmp_path / "data" / f"P{number}", seed=number)
    assert run("split", tmp_path / "data", "-o", tmp_path / "d.json", option, "brats2015")[0] == 0  # {1, 2, 4} fit
    assert {e["label_convention"] for e in json.loads((tmp_path / "d.json").read_text())["training"]} == {"brats2015"}


def test_the_json_of_an_audit_replaces_only_that_of_an_earlier_audit(run, make_dataset, tmp_path: Path) -> None:
    root, file = make_dataset(), tmp_path / "findings.json"
    assert run("audit", root, "--json", file)[0] == run("audit", root, "--json", file)[0]
    assert "findings" in json.loads(file.read_text())
    file.write_text('{"training": []}')
    code, _, err = run("audit", root, "--json", file)
    assert code == 2
    assert "json" in one_line(err)
    assert file.read_text() == '{"training": []}'


def test_one_patient_cannot_be_split(run, make_dataset, tmp_path: Path) -> None:
    code, _, err = run("train", make_dataset(cases=1), "--output", tmp_path / "out")
    assert code == 1
    assert "two patients" in one_line(err)


def test_an_output_folder_that_cannot_be_written_is_refused(run, make_dataset, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    code, _, err = run("train", make_dataset(), "--output", tmp_path / "taken" / "run")
    assert code in (1, 2)
    assert "output_dir" in one_line(err)


def test_a_missing_sequence_is_reported_with_advice(run, make_dataset, tmp_path: Path) -> None:
    folder = make_dataset(modalities=("t1", "t2", "flair"))
    code, _, err = run("train", folder, "--output", tmp_path / "out")
    assert code == 1
    assert "t1ce" in err
    assert "--modalities" in err
    assert not (tmp_path / "out").exists()


def test_defects_of_files_are_explained(run, make_dataset, write_nifti, tmp_path: Path) -> None:
    def spoil(name: str, change) -> Path:
        folder = make_dataset(cases=2, root=tmp_path / name)
        case = sorted(p for p in folder.rglob("BraTS20_Training_002") if p.is_dir())[0]
        change(case)
        return folder

    def path(case: Path, kind: str) -> Path:
        return case / f"{case.name}_{kind}.nii.gz"

    def values(case: Path, kind: str) -> np.ndarray:
        return np.asanyarray(nib.load(path(case, kind)).dataobj).copy()

    def truncate(case: Path) -> None:
        whole = path(case, "t2").read_bytes()
        path(case, "t2").write_bytes(whole[: len(whole) // 2])

    def nan(case: Path) -> None:
        data = values(case, "flair").astype(np.float32)
        data[8, 8, 6] = np.nan
        write_nifti(path(case, "flair"), data)

    defects = {
        "truncated": (truncate, ("t2.nii.gz", "download")),
        "nan": (nan, ("flair.nii.gz", "NaN")),
        "shape": (lambda c: write_nifti(path(c, "t1"), values(c, "t1")[:-1]), ("t1.nii.gz", "shape")),
        "affine": (lambda c: write_nifti(path(c, "t1"), values(c, "t1"), np.eye(4)), ("t1.nii.gz", "affine")),
        "4d": (lambda c: write_nifti(path(c, "t1"), np.stack([values(c, "t1")] * 2, axis=-1)), ("t1.nii.gz", "3")),
    }
    for name, (change, texts) in defects.items():
        folder = spoil(name, change)
        code, _, err = run("predict", folder, "--output", tmp_path / "out" / name, "--window", "[32,32,32]")
        assert code == 1, name
        assert all(text in one_line(err) for text in texts), (name, err)
        made = [path.name for path in (tmp_path / "out" / name).glob("*.nii.gz")]
        assert made == ["BraTS20_Training_001.nii.gz"], "the other case was not segmented"

    labels = {
        "convention": (
            lambda c: write_nifti(path(c, "seg"), np.where(values(c, "seg") == 4, 3, values(c, "seg"))),
            "brats2015",
        ),
        "probability": (lambda c: write_nifti(path(c, "seg"), values(c, "seg").astype(np.float32) / 5), "probabilit"),
    }
    for name, (change, text) in labels.items():
        folder = spoil(name, change)
        code, _, err = run(
            "train", folder, "--output", tmp_path / "out" / name,
            "--patch_size", "[32,32,32]", "--window", "[32,32,32]",
            "--network_def#channels", "[4,8]", "--network_def#strides", "[2]", "--epochs", 1, "--device", "cpu",
        )  # fmt: skip
        assert code == 1, name
        assert "seg.nii.gz" in one_line(err)
        assert text in err


def test_unusual_spacing_and_background_are_warned_about(run, make_dataset, write_nifti, tmp_path: Path) -> None:
    folder = make_dataset(cases=1)
    for file in folder.rglob("*.nii.gz"):
        image = nib.load(file)
        values = np.asanyarray(image.dataobj)
        write_nifti(file, values if "seg" in file.name else values + 100, np.diag([-1.3, -1.0, 1.0, 1.0]))
    code, out, err = run("predict", folder, "--output", tmp_path / "out", "--window", "[32,32,32]", "--device", "cpu")
    assert code == 0, err
    assert "1.3" in out
    assert "background is not 0" in out


def test_verbose_shows_the_traceback(run, tmp_path: Path) -> None:
    for arguments in (("--verbose", "predict", tmp_path / "none"), ("predict", tmp_path / "none", "--verbose")):
        _, _, err = run(*arguments)
        assert "Traceback" in err


@pytest.mark.parametrize("size", ["[40,40,40]", "[16,16,16]", "32", "[32,32]", "foo"])
def test_sizes_that_the_network_cannot_process_are_refused_before_anything_is_read(
    run, make_dataset, size: str, tmp_path
) -> None:
    for workflow, name in (("train", "patch_size"), ("predict", "window")):
        code, _, err = run(
            workflow, make_dataset(root=tmp_path / workflow), "--output", tmp_path / "out", f"--{name}", size
        )
        assert code in (1, 2)
        assert name in one_line(err) and "multiples of 16" in err
    assert not (tmp_path / "out").exists()


def test_augmentation_on_the_device_by_worker_processes_is_refused(run, make_dataset, tmp_path: Path) -> None:
    options = ("--augment_on_device", "True", "--num_workers", "2")
    code, _, err = run("train", make_dataset(), "--output", tmp_path / "out", *options)
    assert code in (1, 2)
    assert "augment_on_device" in one_line(err) and "num_workers" in err
    assert not (tmp_path / "out").exists()


def test_an_empty_sequence_counts_as_absent_and_is_named(run, make_dataset, write_nifti, tmp_path: Path) -> None:
    folder = make_dataset(cases=1)
    (file,) = folder.rglob("*_t1ce.nii.gz")
    write_nifti(file, np.zeros((16, 16, 12), np.int16))
    code, out, err = run("predict", folder, "--output", tmp_path / "out", "--window", "[32,32,32]")
    assert code == 0, err
    assert file.name in out


@pytest.mark.parametrize("name", ["config_file", "bundle_root", "run_id"])
def test_arguments_of_monais_command_are_refused(run, name: str) -> None:
    code, _, err = run("train", "data", f"--{name}", "x")
    assert code == 2
    assert "python -m monai.bundle run" in err


def test_an_error_in_a_worker_process_keeps_its_message() -> None:
    traceback = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n"
    text = f"{traceback}brats3d.errors.DataError: a: bad\nb: worse\n"
    assert explain(DataError(text)) == "a: bad\nb: worse"


def test_interruption_exits_130(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RUN, interrupt)
    code, _, err = run("train", tmp_path)
    assert (code, err.strip()) == (130, "brats3d: interrupted")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9", 9),
        ("1e-3", 1e-3),
        ("[1,2]", [1, 2]),
        ("true", True),
        ("False", False),
        ("null", None),
        ("cuda:1", "cuda:1"),
    ],
)
def test_values_are_parsed_as_python_or_yaml(monkeypatch: pytest.MonkeyPatch, text: str, value: object) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(RUN, lambda workflow, given, overlays: seen.update(given))
    assert cli.main(["train", "data", "--device", text]) == 0
    assert seen == {"dataset_dir": "data", "device": value}


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["--amp", "--epochs", "3"], {"amp": True, "epochs": 3}),
        (["--amp", "False"], {"amp": False}),
        (["--epochs", "3", "--amp"], {"epochs": 3, "amp": True}),
        (["--amp=false"], {"amp": False}),
        (["--learning_rate", "-1"], {"learning_rate": -1}),
    ],
)
def test_a_knob_that_is_true_or_false_needs_no_value(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], overrides: dict[str, object]
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(RUN, lambda workflow, given, overlays: seen.update(given))
    assert cli.main(["train", "data", *arguments]) == 0
    assert seen == {"dataset_dir": "data", **overrides}


@pytest.mark.parametrize("arguments", [["--preview"], ["--preview", "True"], ["--preview", "true"], ["--preview=True"]])
def test_the_printed_command_of_a_flag_can_be_parsed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(RUN, lambda workflow, given, overlays: seen.update(given))
    assert cli.main(["predict", "data", *arguments]) == 0
    assert seen == {"dataset_dir": "data", "preview": True}
    assert "--preview True" in capsys.readouterr().out


def test_a_flag_before_a_folder_does_not_swallow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(RUN, lambda workflow, given, overlays: seen.update(given))
    assert cli.main(["predict", "--preview", "data"]) == 0
    assert seen == {"dataset_dir": "data", "preview": True}


@pytest.mark.parametrize("workflow", ["pretrain", "train", "evaluate", "predict"])
def test_the_help_of_a_workflow_lists_every_knob(run, workflow: str) -> None:
    code, out, _ = run(workflow, "--help")
    assert code == 0
    knobs = read_knobs(bundle.config_files(workflow))
    assert len(knobs) > 10
    listed = re.findall(r"^  --(\w+)", out.partition("Knobs")[2], re.MULTILINE)
    assert sorted(listed) == sorted(knob.name for knob in knobs)
    assert "bfloat16" in out, "comments are shown"


def test_the_help_of_a_workflow_imports_nothing_heavy() -> None:
    code = (
        "import sys; from brats3d.cli import main; main(['train', '--help']); "
        "print(sorted({'torch', 'monai', 'numpy', 'yaml', 'fire'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_wrong_use_found_by_the_package_exits_2_and_bad_data_1(run, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, expected in ((UsageError, 2), (DataError, 1)):

        def fail(*_: object, kind: type[Exception] = kind) -> None:
            try:
                raise kind("subject", "problem")
            except ValueError as error:
                raise RuntimeError("Failed to instantiate") from error  # as MONAI wraps errors

        monkeypatch.setattr(RUN, fail)
        code, _, err = run("train", "data")
        assert (code, one_line(err)) == (expected, "brats3d: error: subject: problem")


def test_output_that_nobody_reads_ends_quietly() -> None:
    program = "import sys; from brats3d.cli import main; sys.exit(main(['where']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""


def test_a_config_is_added_by_its_name_in_the_bundle_or_its_path(run, monkeypatch, log, tmp_path: Path) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(RUN, lambda workflow, given, overlays: seen.extend(overlays))
    own = tmp_path / "own.yaml"
    own.write_text("dropout: 0.1  # fraction of features to drop\nnetwork_def#dropout: '@dropout'\n")
    code, out, _ = run("train", "data", "--config", "multi_gpu_train.yaml", "--config", own, "--dropout", 0.2)
    bundled = bundle.installed_bundle() / "configs" / "multi_gpu_train.yaml"
    assert (code, seen) == (0, [bundled, own])
    assert f"train.yaml', '{bundled}', '{own}']" in out
    assert "own.yaml is not part of brats3d" in log.text and "multi_gpu_train" not in log.text


def test_a_config_that_does_not_exist_is_refused_with_the_nearest_name(run) -> None:
    code, _, err = run("train", "data", "--config", "multi_gpu_training.yaml")
    assert code == 2 and "did you mean multi_gpu_train.yaml?" in err
