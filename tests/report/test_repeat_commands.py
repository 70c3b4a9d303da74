"""The commands that repeat a run."""

from __future__ import annotations

import json
import shlex

from brats3d.bundle import repeat_command
from brats3d.labels import MODALITIES
from brats3d.report.repeat_commands import evaluate_command, repeat_commands
from brats3d.report.run_results import read_run


def test_only_knobs_that_differ_from_the_config_are_printed(run_dir, write_settings):
    internal = {"parts": {"loss": "DiceBCELoss(" + "x" * 500}, "training_cases": ["a", "b"], "label_conventions": {}}
    write_settings(run_dir, dataset_dir="my data", epochs=3, patch_size=[32, 32, 32], roi_size=[32, 32, 32], **internal)
    train, evaluate, report = repeat_commands(read_run(run_dir), repeat_command)
    assert train == f"brats3d train 'my data' --output {run_dir} --epochs 3 --patch_size '[32, 32, 32]'"
    assert evaluate == f"brats3d evaluate 'my data' --output {run_dir} --patch_size '[32, 32, 32]'"
    assert report == f"brats3d report {run_dir}"


def test_computed_defaults_are_omitted_and_words_are_those_of_the_command_line(run_dir, write_settings):
    write_settings(run_dir, dataset_dir="d", device="cuda", amp=False, checkpoint="w.pt", val_interval=None, epochs=300)
    train = repeat_commands(read_run(run_dir), repeat_command)[0]
    assert train == f"brats3d train d --output {run_dir} --amp false --checkpoint w.pt --val_interval null"


def test_the_evaluation_uses_the_knobs_that_choose_cases_and_sequences(run_dir, write_settings):
    write_settings(run_dir, dataset_dir="d", fold=1, modalities=["t1", "flair"], epochs=3, threshold=0.4)
    command = evaluate_command(read_run(run_dir), repeat_command)
    assert command == f"brats3d evaluate d --output {run_dir} --fold 1 --modalities \"['t1', 'flair']\" --threshold 0.4"


def test_several_data_sets_need_the_monai_command(run_dir, write_settings):
    write_settings(run_dir, dataset_dir=["a", "b"], epochs=3)
    train, evaluate, _ = repeat_commands(read_run(run_dir), repeat_command)
    for command in (train, evaluate):
        assert command.startswith("python -m monai.bundle run") and "['a', 'b']" in shlex.split(command)


def test_a_pretraining_has_no_data_set_and_no_evaluation(run_dir):
    (run_dir / "settings.json").write_text(json.dumps({"minutes": 5, "modalities": list(MODALITIES)}))
    pretrain, _ = repeat_commands(read_run(run_dir), repeat_command)
    assert pretrain == f"brats3d pretrain --output {run_dir} --minutes 5"


def test_without_settings_only_the_report_can_be_repeated(run_dir):
    (run_dir / "settings.json").unlink()
    assert repeat_commands(read_run(run_dir), repeat_command) == [f"brats3d report {run_dir}"]
