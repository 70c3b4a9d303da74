"""The packed bundle in MONAI's tools: those that look for configs in JSON, and those that load images themselves."""

from __future__ import annotations

import gc
import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.data import MetaTensor
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.transforms import Compose, LoadImage, LoadImaged

from brats3d.bundle import installed_bundle
from brats3d.files import read_volume
from brats3d.phantoms import write_phantoms

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    """The module that packs the bundle."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(pack, tmp_path_factory) -> Path:
    """The folder of the packed bundle."""
    folder = tmp_path_factory.mktemp("packed")
    shutil.unpack_archive(pack.write_zip(folder), folder)
    return folder / "brats3d"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantoms(folder, 3, size="small")
    return folder


def test_the_json_configs_say_what_the_yaml_says(packed):
    yamls, jsons = ((packed / "configs").rglob(f"*.{kind}") for kind in ("yaml", "json"))
    names = sorted(str(path.relative_to(packed / "configs").with_suffix("")) for path in yamls)
    assert names == sorted(
        str(path.relative_to(packed / "configs").with_suffix("")) for path in jsons if path.stem != "metadata"
    )
    assert "networks/dynunet" in names
    for name in names:
        yaml, json = (ConfigParser.load_config_file(packed / "configs" / f"{name}.{kind}") for kind in ("yaml", "json"))
        assert yaml == json, name


def test_the_metadata_and_the_model_card_are_as_the_model_zoo_expects(packed):
    metadata = json.loads((packed / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == json.loads((packed / "models" / "model.json").read_text())["scores"]
    assert metadata["version"] in metadata["changelog"]
    card = (packed / "docs" / "README.md").read_text()
    headings = [line for line in card.splitlines() if line.startswith("#")]
    for heading in ("# Model overview", "## Data", "## Training configuration", "## Performance"):
        assert any(each.startswith(heading) for each in headings), heading
    assert {"## MONAI Bundle Commands", "# References", "# License"} <= set(headings)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", card)
    assert links
    for link in links:
        assert (packed / "docs" / link).resolve().is_relative_to(packed.resolve())
        assert (packed / "docs" / link).exists()
    assert (packed / "docs" / "data_license.txt").exists()


def test_the_bundle_is_pushed_to_the_hub_whole(packed, monkeypatch):
    hub = MagicMock()
    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub", hub)
    monai.bundle.push_to_hf_hub("founders/brats3d", "brats3d", str(packed.parent), token="secret")
    (upload,) = hub.HfApi.return_value.upload_folder.call_args_list
    assert upload.kwargs["repo_id"] == "founders/brats3d"
    assert Path(upload.kwargs["folder_path"]) == packed


def test_monai_loads_the_network_with_the_weights_of_the_bundle(packed):
    network = monai.bundle.load("brats3d", bundle_dir=packed.parent, source="github", device="cpu")
    weights = torch.load(packed / "models" / "model.pt", weights_only=True)
    assert network.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_a_workflow_uses_the_weights_beside_its_config_and_logs_them(packed, dataset, tmp_path, capsys):
    for name in ("inference.json", "inference.yaml"):
        workflow = create_workflow(
            config_file=str(packed / "configs" / name),
            workflow_type="infer",
            dataset_dir=str(dataset),
            output_dir=str(tmp_path / name),
            device="cpu",
        )
        assert workflow.parser.get_parsed_content("checkpoint") == str(packed / "models" / "model.pt")
    workflow.run()
    assert f"weights: {packed / 'models' / 'model.pt'}, sha256 " in capsys.readouterr().out


@pytest.mark.parametrize("channel_dim", [0, -1])
def test_without_loadimaged_the_preprocessing_is_the_same(dataset, tmp_path, channel_dim):
    workflow = create_workflow(
        config_file=str(installed_bundle() / "configs" / "inference.yaml"),
        workflow_type="infer",
        bundle_root=str(installed_bundle()),
        dataset_dir=str(dataset),
        output_dir=str(tmp_path),
    )
    item = workflow.parser.get_parsed_content("dataset#data")[0]
    expected = workflow.preprocessing({"image": item["image"]})["image"]
    rest = Compose([each for each in workflow.preprocessing.transforms if not isinstance(each, LoadImaged)])
    values = np.stack([read_volume(Path(path)).values for path in item["image"]], axis=channel_dim)
    affine = LoadImage(image_only=True)(item["image"][0]).affine
    stacked = MetaTensor(torch.from_numpy(values.astype(np.float32)), affine)
    stacked.meta["original_channel_dim"] = channel_dim
    found = rest({"image": stacked})["image"]
    assert found.shape == expected.shape
    assert torch.equal(found, expected)


def test_monaialgo_trains_and_returns_the_best_weights_of_the_run(packed, dataset, tmp_path):
    run = tmp_path / "run"
    knobs = {"dataset_dir": str(dataset), "output_dir": str(run), "patch_size": [32, 32, 32], "device": "cpu"}
    knobs |= {"val_interval": 1, "cache": 0, "window": [32, 32, 32]}
    algo = MonaiAlgo(
        bundle_root=str(packed),
        train_kwargs=knobs,
        eval_kwargs=knobs,
        send_weight_diff=False,
        best_model_filepath=str(run / "checkpoints" / "best.pt"),
        final_model_filepath=str(run / "checkpoints" / "last.pt"),
        save_dict_key="network",
    )
    algo.initialize({ExtraItems.CLIENT_NAME: "site"})
    weights = {name: value.clone() for name, value in algo.get_weights().weights.items()}
    first = ExchangeObject(weights=weights, weight_type=WeightType.WEIGHTS)
    algo.train(first, {})
    best = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
    saved = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    assert all(torch.equal(best[name], value) for name, value in saved.items())
    assert not all(torch.equal(weights[name], value) for name, value in saved.items())
    assert 0 <= algo.evaluate(first, {}).metrics["val_mean_dice"] <= 1
    algo.finalize()
    del algo
    gc.collect()  # ends the thread that prefetches batches
