"""NVFlare's simulator with MonaiAlgo and the packed bundle: ``make consumers``, in an environment of its own."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from brats3d.phantoms import write_phantoms

pytest.importorskip("monai_nvflare")
pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2")
ROUNDS = 2


def client(bundle: Path, dataset: Path, run: Path) -> dict[str, Any]:
    """Return the config of a client that trains on its own cases."""
    knobs = {"dataset_dir": str(dataset), "output_dir": str(run), "device": "cpu", "cache": 0, "val_interval": 1}
    knobs |= {"patch_size": [32, 32, 32], "window": [32, 32, 32]}
    algo = {
        "bundle_root": str(bundle),
        "train_kwargs": knobs,
        "eval_kwargs": knobs,
        "send_weight_diff": False,
        "best_model_filepath": str(run / "checkpoints" / "best.pt"),
        "final_model_filepath": str(run / "checkpoints" / "last.pt"),
        "save_dict_key": "network",
    }
    executor = {
        "path": "monai_nvflare.client_algo_executor.ClientAlgoExecutor",
        "args": {"client_algo_id": "algo", "key_metric": "val_mean_dice"},
    }
    return {
        "format_version": 2,
        "executors": [{"tasks": ["train", "submit_model", "validate"], "executor": executor}],
        "components": [{"id": "algo", "path": "monai.fl.client.MonaiAlgo", "args": algo}],
    }


def server(bundle: Path) -> dict[str, Any]:
    """Return the config of the server: federated averaging from the weights of the bundle."""
    persistor = {"bundle_root": str(bundle), "source_ckpt_filename": "models/model.pt"}
    common = "nvflare.app_common"
    return {
        "format_version": 2,
        "workflows": [
            {
                "id": "fedavg",
                "path": f"{common}.workflows.scatter_and_gather.ScatterAndGather",
                "args": {
                    "min_clients": len(SITES),
                    "num_rounds": ROUNDS,
                    "aggregator_id": "aggregator",
                    "persistor_id": "persistor",
                    "shareable_generator_id": "generator",
                },
            }
        ],
        "components": [
            {
                "id": "persistor",
                "path": "monai_nvflare.monai_bundle_persistor.MonaiBundlePersistor",
                "args": persistor,
            },
            {
                "id": "generator",
                "path": f"{common}.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator",
            },
            {
                "id": "aggregator",
                "path": f"{common}.aggregators.intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator",
                "args": {"expected_data_kind": "WEIGHTS"},
            },
        ],
    }


def packed_bundle(folder: Path) -> Path:
    """Pack the bundle, and return its folder."""
    spec = importlib.util.spec_from_file_location("hatch_build", Path(__file__).parents[2] / "hatch_build.py")
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    shutil.unpack_archive(pack.write_zip(folder), folder)
    return folder / "brats3d"


def test_two_clients_train_two_rounds_and_the_server_has_the_mean_of_their_weights(tmp_path: Path) -> None:
    bundle, job, workspace = packed_bundle(tmp_path), tmp_path / "job", tmp_path / "workspace"
    configs = {"server": ("config_fed_server.json", server(bundle))}
    for seed, site in enumerate(SITES):
        write_phantoms(tmp_path / "data" / site, 3, size="small", seed=seed)
        content = client(bundle, tmp_path / "data" / site, tmp_path / "runs" / site)
        configs[site] = ("config_fed_client.json", content)
    for name, (file, content) in configs.items():
        folder = job / f"app_{name}" / "config"
        folder.mkdir(parents=True)
        (folder / file).write_text(json.dumps(content))
    meta = {"name": "brats3d", "min_clients": len(SITES), "deploy_map": {f"app_{name}": [name] for name in configs}}
    (job / "meta.json").write_text(json.dumps(meta))
    command = ["nvflare", "simulator", str(job), "--workspace", str(workspace), "--clients", ",".join(SITES)]
    command += ["--threads", str(len(SITES))]
    command[0] = str(Path(sys.executable).parent / command[0])
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800)
    print(done.stdout[-20_000:])
    assert done.returncode == 0
    (file,) = workspace.rglob("FL_global_model.pt")
    found = torch.load(file, weights_only=True)["model"]
    ended = [torch.load(tmp_path / "runs" / site / "checkpoints" / "last.pt", weights_only=True) for site in SITES]
    start = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert found.keys() == start.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, (ended[0]["network"][name] + ended[1]["network"][name]) / 2)
    assert not all(torch.equal(value, start[name].to(value.dtype)) for name, value in found.items())
