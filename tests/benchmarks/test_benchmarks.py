"""The scripts of benchmarks/ can be imported, and compare what they claim to compare."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from monai.networks.nets import UNet

from brats3d.bundle import config_files, unknown_ids
from brats3d.evaluation import FolderScores, ScoreRow
from brats3d.labels import REGIONS_TO_READ
from brats3d.networks.loss import DiceBCELoss

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """``script("machine")`` imports that file; all scripts are removed from ``sys.modules`` afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in {path.stem for path in SCRIPTS.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[name]


def test_a_gain_has_the_standard_error_of_the_paired_differences(script):
    """Differences of 0.1 and 0.3: a mean of 0.2, and 0.1 = 0.141 / sqrt(2)."""

    def scores(values):
        rows = [
            ScoreRow(
                case_id=f"case{n}", region=region, dice=value, lesion_dice=value / 2, ref_volume_ml=1, pred_volume_ml=1
            )
            for n, value in enumerate(values)
            for region in REGIONS_TO_READ
        ]
        return FolderScores(tuple(rows), missing=(), extra=(), rules="brats2023", labels="")

    crossval = script("crossval")
    assert crossval.means(scores([0.4, 0.8]), "lesion_dice") == pytest.approx([0.3] * 3)
    gains = crossval.gains(scores([0.4, 0.8]), scores([0.3, 0.5]))
    assert gains == ["+0.200 ± 0.100"] * 3 + ["+0.100 ± 0.050"] * 3


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_every_script_can_be_imported_and_shows_its_help(name, script, monkeypatch, capsys):
    module = script(name)
    assert module.__doc__
    if hasattr(module, "main"):
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == 0 and "usage" in capsys.readouterr().out


def test_a_recorded_table_is_appended_to_the_page_of_its_subject(script, monkeypatch, tmp_path, capsys):
    machine = script("machine")
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    table = machine.rows(["a", "b"], [[1, 0.12345]])
    machine.show("memory", "Title", table, record=False)
    assert not list(tmp_path.iterdir()) and "| 1 | 0.123 |" in capsys.readouterr().out
    machine.show("memory", "Title", table, record=True, device="cpu", threads=2)
    lines = (tmp_path / "memory.md").read_text().splitlines()
    assert lines[1] == "## Title" and "2 threads" in lines[3] and lines[-1] == "| 1 | 0.123 |"


def test_every_page_of_results_exists_and_is_linked():
    pages = {path.stem for path in (SCRIPTS / "results").glob("*.md")}
    sources = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.py"))
    assert set(re.findall(r'\bshow\(\s*"(\w+)"', sources)) <= pages
    linked = set(re.findall(r"\]\(results/(\w+)\.md\)", (SCRIPTS / "RESULTS.md").read_text(encoding="utf-8")))
    assert linked == pages


def test_every_contender_changes_ids_of_train_yaml(script):
    equal = script("equal_minutes")
    for comparison in ("networks", "recipes", "overlays", "speedrun"):
        for name, ids in equal.contenders(comparison, 96, 2).items():
            ids = {id_: value for id_, value in ids.items() if id_ != "deep_supervision"}
            assert unknown_ids(ids, config_files("train")) == [], name


@pytest.mark.parametrize(("patch", "stages"), [(64, 5), (96, 5), (128, 6), (48, 4)])
def test_nnunet_halves_while_four_voxels_are_left(patch, stages, script):
    network = script("equal_minutes").nnunet(patch)["network_def"]
    assert network["n_stages"] == len(network["features_per_stage"]) == len(network["strides"]) == stages
    assert patch // 2 ** (stages - 1) >= 4


def test_deep_supervision_keeps_the_logits_and_adds_two_scales_to_the_loss(script):
    equal = script("equal_minutes")
    network = UNet(3, 4, 3, (4, 8, 8, 8), (2, 2, 2), num_res_units=2, norm="INSTANCE", act="LEAKYRELU")
    deep, image = equal.DeepSupervision(network), torch.randn(2, 4, 32, 32, 32)
    logits = deep.train()(image)
    assert torch.equal(logits, network(image))
    assert [tuple(each.shape) for each in deep.lower] == 2 * [(2, 3, 32, 32, 32)]
    plain, target = DiceBCELoss(), (torch.rand(2, 3, 32, 32, 32) > 0.5).float()
    parts = [plain(each, target) for each in (logits, *deep.lower)]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    assert torch.allclose(equal.DeepLoss(plain, deep)(logits, target), expected)


def test_linked_cases_are_complete_and_take_no_space(script, tmp_path):
    source = tmp_path / "phantoms" / "A"
    source.mkdir(parents=True)
    for name in ("A_t1.nii.gz", "A_seg.nii.gz"):
        (source / name).write_bytes(b"volume")
    script("links").link_cases(source.parent, tmp_path / "cases", 3)
    made = sorted(str(path.relative_to(tmp_path / "cases")) for path in (tmp_path / "cases").glob("*/*"))
    ids = [f"BraTS20_Training_00000{n}" for n in (1, 2, 3)]
    assert made == sorted(f"{i}/{i}_{name}.nii.gz" for i in ids for name in ("t1", "seg"))
    assert (tmp_path / "cases" / made[0]).stat().st_nlink == 4
