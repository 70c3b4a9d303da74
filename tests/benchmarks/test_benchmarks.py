"""The scripts of benchmarks/: that they can be imported, and what they compare is what they say."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from monai.networks.nets import UNet

from brats3d.bundle import config_files, unknown_ids
from brats3d.networks.loss import DiceBCELoss

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """``script("machine")``: that file as a module; all are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in {path.stem for path in SCRIPTS.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_every_script_can_be_imported_and_says_what_it_is(name, script):
    assert script(name).__doc__


def test_every_contender_changes_ids_that_train_yaml_has(script):
    equal = script("equal_minutes")
    for comparison in ("networks", "recipes"):
        for name, ids in equal.contenders(comparison, 96, 2).items():
            ids = {id_: value for id_, value in ids.items() if id_ != "deep_supervision"}
            assert unknown_ids(ids, config_files("train")) == [], name


@pytest.mark.parametrize(("patch", "stages"), [(64, 5), (96, 5), (128, 6), (48, 4)])
def test_nnunet_halves_while_four_voxels_are_left(patch, stages, script):
    network = script("equal_minutes").nnunet(patch)["network_def"]
    assert network["n_stages"] == len(network["features_per_stage"]) == len(network["strides"]) == stages
    assert patch // 2 ** (stages - 1) >= 4


def test_deep_supervision_gives_the_same_logits_and_two_lower_scales_to_the_loss(script):
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


def test_links_are_complete_cases_that_take_no_room(script, tmp_path):
    source = tmp_path / "phantoms" / "A"
    source.mkdir(parents=True)
    for name in ("A_t1.nii.gz", "A_seg.nii.gz"):
        (source / name).write_bytes(b"volume")
    script("links").link_cases(source.parent, tmp_path / "cases", 3)
    made = sorted(str(path.relative_to(tmp_path / "cases")) for path in (tmp_path / "cases").glob("*/*"))
    ids = [f"BraTS20_Training_00000{n}" for n in (1, 2, 3)]
    assert made == sorted(f"{i}/{i}_{name}.nii.gz" for i in ids for name in ("t1", "seg"))
    assert (tmp_path / "cases" / made[0]).stat().st_nlink == 4
