"""Every shipped config is complete, resolvable, consistent with the others, and passes MONAI's own checks."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

from brats3d.bundle import installed_bundle
from brats3d.config_reader import read_knobs
from brats3d.labels import MODALITIES, REGIONS

CONFIGS = installed_bundle() / "configs"
ALONE = {"train": ["train.yaml"], "inference": ["inference.yaml"]}
OVERLAID = {
    "pretrain": ["train.yaml", "pretrain.yaml"],
    "evaluate": ["train.yaml", "evaluate.yaml"],
    "multi_gpu_train": ["train.yaml", "multi_gpu_train.yaml"],
    "multi_gpu_inference": ["inference.yaml", "multi_gpu_inference.yaml"],
    "inference_trt": ["inference.yaml", "inference_trt.yaml"],
}
NETWORKS = {
    f"{name} {network.stem}": [f"{name}.yaml", f"networks/{network.name}"]
    for name in ALONE
    for network in sorted((CONFIGS / "networks").glob("*.yaml"))
}
EVERY = {**ALONE, **OVERLAID, **NETWORKS}
TRACKING = "mlflow.yaml"
"""Settings for MONAI's ``tracking``, which are no config by themselves."""
REFERENCE = re.compile(r"[@%]([A-Za-z_][\w]*(?:(?:#|::)\w+)*)")


def merged(names: list[str]) -> dict[str, Any]:
    """Merge configs as MONAI does."""
    return ConfigParser.load_config_files([CONFIGS / name for name in names])


def walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from walk(value, f"{path}#{key}".lstrip("#"))


def test_the_list_of_configs_is_complete() -> None:
    found = {str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml")}
    assert {TRACKING, *(name for names in EVERY.values() for name in names)} == found


@pytest.mark.parametrize("names", EVERY.values(), ids=EVERY)
def test_every_target_exists_and_accepts_its_arguments(names: list[str]) -> None:
    locator = ComponentLocator()
    problems = []
    for path, node in walk(merged(names)):
        if not (isinstance(node, dict) and "_target_" in node):
            continue
        target = node["_target_"]
        module = locator.get_component_module_name(target)
        found = locate(f"{module[0] if isinstance(module, list) else module}.{target}" if module else target)
        if found is None:
            problems.append(f"{path}: no {target}")
            continue
        arguments = {k: None for k in node if k not in ("_target_", "_disabled_", "_mode_", "_requires_", "_desc_")}
        try:
            signature = inspect.signature(found)
            (signature.bind_partial if node.get("_mode_") == "callable" else signature.bind)(**arguments)
        except TypeError as error:
            problems.append(f"{path}: {target}: {error}")
    assert not problems


@pytest.mark.parametrize("names", EVERY.values(), ids=EVERY)
def test_every_reference_has_a_target(names: list[str]) -> None:
    config = merged(names)
    known = {path for path, _ in walk(config)}
    for path, node in walk(config):
        if isinstance(node, str) and node.startswith(("@", "$", "%")):
            for reference in REFERENCE.findall(node):
                assert reference.replace("::", "#") in known, f"{path}: {node}"


@pytest.mark.parametrize("names", [EVERY["train"], EVERY["pretrain"]], ids=["train", "pretrain"])
def test_tracking_adds_a_handler_of_the_trainer_and_fits_the_config(names: list[str]) -> None:
    added = yaml.safe_load((CONFIGS / TRACKING).read_text())["configs"]
    parser = ConfigParser(merged(names))
    ConfigWorkflow.patch_bundle_tracking(parser, ConfigParser.load_config_files(CONFIGS / TRACKING))
    handler = parser["train#handlers"][-1]
    assert handler == added["trainer"]
    arguments = {name: value for name, value in handler.items() if not name.startswith("_")}
    inspect.signature(locate(handler["_target_"])).bind(**arguments)
    references = REFERENCE.findall(" ".join(handler.values()))
    assert references and all(reference in parser for reference in references)
    assert not set(added) & set(merged(names))  # else MONAI would keep the config's own


@pytest.mark.parametrize("names", EVERY.values(), ids=EVERY)
def test_configs_have_no_lambda_and_no_list_position(names: list[str]) -> None:
    for name in names:
        text = (CONFIGS / name).read_text()
        assert "lambda" not in text
        assert not [key for key in yaml.safe_load(text) if re.search(r"#\d", key)]


def test_train_and_inference_share_network_preprocessing_and_inferer() -> None:
    train, inference = merged(["train.yaml"]), merged(["inference.yaml"])
    assert train["network_def"] == inference["network_def"]
    assert train["network"] == inference["predictor"]["network"]["network"]
    assert train["validate"]["network"] == {**inference["predictor"]["network"], "network": "@network"}
    windows = train["validate"]["inferer"].pop("windows")
    assert windows == {**inference["inferer"], "roi_size": "@patch_size"}
    del inference["predictor"]["inferer"]["patch_size"]
    assert {**train["validate"]["inferer"], "windows": "@inferer"} == inference["predictor"]["inferer"]
    assert train["patch_size"] == inference["inferer"]["roi_size"]
    for knob in ("modalities", "window", "overlap", "amp", "device"):
        assert train[knob] == inference[knob], knob

    def image_only(transform: dict[str, Any]) -> dict[str, Any]:
        return {**transform, "keys": "image"}

    shared = [image_only(t) for t in train["train"]["deterministic_transforms"] if t["keys"] != "label"]
    assert shared == inference["preprocessing"]["transforms"]


def test_evaluate_and_predict_share_the_postprocessing() -> None:
    evaluate, inference = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("evaluate", "inference"))
    for shared in ("threshold", "postprocess", "chosen", "region_rules"):
        assert evaluate[shared] == inference[shared], shared
    transforms = merged(["train.yaml"])["validate"]["postprocessing"]["transforms"]
    transforms = [t for t in transforms if t["keys"] == "pred"] + evaluate["+validate#postprocessing#transforms"]
    assert transforms == inference["postprocessing"]["transforms"][: len(transforms)]


def test_thresholds_have_the_same_default_in_training_and_prediction() -> None:
    train, inference = merged(["train.yaml"]), merged(["inference.yaml"])
    assert inference["threshold"] == f"$@chosen.get('threshold', {train['threshold']})"


def test_parts_of_inference_that_other_tools_load_need_only_monai() -> None:
    inference = merged(["inference.yaml"])
    for part in ("network_def", "preprocessing", "inferer"):
        assert "brats3d" not in str(inference[part]), part


def test_only_training_crops_are_augmented_on_the_device(workflow, phantoms) -> None:
    for asked in (False, True):
        built = workflow("train", dataset_dir=phantoms, augment_on_device=asked, device="$torch.device('meta')")
        assert built.parser.get_parsed_content("train#dataset").sample_device == (
            torch.device("meta") if asked else None
        )
        assert built.parser.get_parsed_content("validate#dataset").sample_device is None


@pytest.mark.parametrize("names", [EVERY["train"], EVERY["pretrain"]], ids=["train", "pretrain"])
def test_settings_are_the_values_of_the_knobs(names: list[str]) -> None:
    parser = ConfigParser(merged(names))
    knobs = [knob.name for knob in read_knobs(CONFIGS / name for name in names)]
    settings = parser.get_parsed_content("settings")
    assert list(settings) == knobs
    assert (settings["window"], settings["patch_size"]) == ("brain", [128, 128, 128])
    assert ("fold" in settings) is (names == EVERY["train"])


@pytest.mark.parametrize("name", ["train.yaml", "pretrain.yaml"])
def test_every_knob_has_a_comment_and_a_group_and_precedes_the_parts(name: str) -> None:
    knobs, _, parts = (CONFIGS / name).read_text(encoding="utf-8").partition("# --- end of the knobs ---")
    ids = set(yaml.safe_load(knobs)) - {"imports", "unused", "settings#files"}
    assert {knob.name for knob in read_knobs([CONFIGS / name]) if knob.group} == ids
    assert not re.findall(r"^\w+: .*  # ", parts, flags=re.MULTILINE)


@pytest.mark.parametrize("names", [EVERY["train"], EVERY["pretrain"]], ids=["train", "pretrain"])
def test_settings_that_are_free_at_a_resume_are_knobs(names: list[str]) -> None:
    config = merged(names)
    knobs = {knob.name for knob in read_knobs(CONFIGS / name for name in names)}
    assert set(config["state"]["free_settings"]) <= knobs | set(config.get("unused", ()))


def test_configs_are_short() -> None:
    lines = {name: len((CONFIGS / name).read_text().splitlines()) for name in ("train.yaml", "pretrain.yaml")}
    assert lines["train.yaml"] <= 265 and lines["pretrain.yaml"] <= 150


def test_knobs_that_do_not_apply_to_a_pretraining_are_knobs_of_train() -> None:
    config = merged(EVERY["pretrain"])
    assert set(config["unused"]) <= {knob.name for knob in read_knobs([CONFIGS / "train.yaml"])}


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_properties_have_the_ids_that_other_tools_expect(
    name: str, phantoms: Path, tmp_path: Path, workflow: Callable[..., ConfigWorkflow]
) -> None:
    built = workflow(name, dataset_dir=phantoms, output_dir=tmp_path / "out")
    assert built.check_properties() == []
    assert not (tmp_path / "out").exists(), "looking at a workflow must not write"


def test_pretraining_has_the_properties_that_other_tools_expect(
    tmp_path: Path, workflow: Callable[..., ConfigWorkflow]
) -> None:
    built = workflow("pretrain", size="small", output_dir=tmp_path / "out")
    assert built.check_properties() == []
    assert not (tmp_path / "out").exists(), "looking at a workflow must not write"


def test_other_tools_can_set_properties(
    phantoms: Path, tmp_path: Path, workflow: Callable[..., ConfigWorkflow]
) -> None:
    built = workflow("train", dataset_dir=phantoms, output_dir=tmp_path)
    built.max_epochs = 7
    built.bundle_root = str(tmp_path)  # which need not hold the configs
    built.initialize()
    assert built.trainer.state.max_epochs == 7
    assert built.bundle_root == str(tmp_path)


def test_metadata_is_valid(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"  # where MONAI would put its download
    shutil.copy(Path(__file__).parent / "meta_schema_20240725.json", schema)
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(schema))


def test_metadata_agrees_with_the_configs_and_the_package() -> None:
    import brats3d

    meta = json.loads((CONFIGS / "metadata.json").read_text())
    assert meta["version"] == meta["required_packages_version"]["brats3d"] == brats3d.__version__
    image, pred = meta["network_data_format"]["inputs"]["image"], meta["network_data_format"]["outputs"]["pred"]
    assert [image["channel_def"][str(i)].lower() for i in range(4)] == list(MODALITIES)
    assert len(pred["channel_def"]) == len(REGIONS) == pred["num_channels"]
    assert set(image["spatial_shape"]) == {"32*n"}


@pytest.mark.parametrize("config", ["train.yaml", "inference.yaml"])
def test_the_network_has_the_inputs_and_outputs_of_the_metadata(config: str) -> None:
    verify_net_in_out(
        net_id="network_def",
        config_file=str(CONFIGS / config),
        meta_file=str(CONFIGS / "metadata.json"),
        device="cpu",
        n=2,
    )


def test_shipped_weights_are_small_half_precision_and_described() -> None:
    path = installed_bundle() / "models" / "model.pt"
    assert path.stat().st_size < 20 * 2**20
    weights = torch.load(path, weights_only=True)
    assert {w.dtype for w in weights.values()} == {torch.float16}
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["modalities"] == list(MODALITIES)
    assert card["regions"] == list(REGIONS)
