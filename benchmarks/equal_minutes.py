"""Trainings of equal duration, compared by the Dice on held-out cases: networks of other tools, or other recipes.

    python benchmarks/equal_minutes.py networks [--minutes 15] [--seeds 1]
    python benchmarks/equal_minutes.py recipes  [--minutes 15] [--seeds 3] [--only default "batch Dice" ...]
    python benchmarks/equal_minutes.py overlays [--size small --patch 32 --minutes 1 --seeds 3]
    python benchmarks/equal_minutes.py speedrun --threads 2 --seeds 3      (make speedrun)

Every contender is ``train.yaml`` with a few ids changed: same cases, order, patches and optimizer, and a learning rate
that falls to 0 at the end. On the CPU the minutes are processor time of the training thread and of the thread that
prepares its batches, so other load on the machine does not matter; with ``--device cuda`` they are wall-clock time.
Filling the cache and scoring are not counted. Each training is a separate process; ``--side`` of them run in parallel.
Results of single trainings are kept in ``--folder``, so that an interrupted comparison can be resumed.

nnU-Net's network is the one that its planner chooses for these patches (PlainConvUNet, 32 to 320 features, two
convolutions per stage), from nnU-Net's own package; it is included if that is installed (the Makefile's
``.venv-peers``). The zoo's network is the SegResNet of ``brats_mri_segmentation``.

``overlays`` compares the networks of ``bundle/configs/networks``. DynUNet gets as many stages as nnU-Net would plan for
the patch, and SwinUNETR patches of at least 64³. The last column scores seed 0 by sliding windows of the patch's size.

``speedrun`` is one recipe, ``SPEEDRUN``: the highest mean Dice after 15 minutes of wall-clock time on two cores, with
the post-processing of ``SPEEDRUN_RULES``. Change the recipe, but not the cases, the minutes or the threads; start from
random weights, on a machine without other work, and choose by other cases than the eight that judge it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from machine import COMMIT, describe, peak_kib, rows, show
from workflows import workflow_of

from brats3d.bundle import installed_bundle
from brats3d.files import write_json
from brats3d.phantoms import write_phantoms

REGIONS = ("WT", "TC", "ET")
HELD_OUT = 8
FEATURES = (32, 64, 128, 256, 320, 320)
"""Features of nnU-Net's stages, at most 320 in 3D."""

Ids = dict[str, Any]

SPEEDRUN: Ids = {"patch_size": [64, 64, 64], "batch_size": 2, "learning_rate": 0.003}
"""The recipe of the speedrun: ids of ``train.yaml``."""

SPEEDRUN_RULES = {"min_wt_ml": 0.1, "min_tc_ml": 0.1, "min_et_ml": 0.1, "min_et_total_ml": 0.5}
"""Its post-processing: the volumes of ``brats3d predict``, and nnU-Net's rule for little enhancing tumour."""


def unet(channels: tuple[int, ...]) -> Ids:
    """Return the default network with other widths or another depth."""
    return {"network_def": {**_network_def(), "channels": list(channels), "strides": [2] * (len(channels) - 1)}}


def nnunet(patch: int) -> Ids:
    """Return the network that nnU-Net plans: it halves while at least four voxels are left."""
    stages = stages_for(patch)
    return {
        "network_def": {
            "_target_": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "input_channels": 4,
            "n_stages": stages,
            "features_per_stage": list(FEATURES[:stages]),
            "conv_op": "$torch.nn.Conv3d",
            "kernel_sizes": 3,
            "strides": [1] + [2] * (stages - 1),
            "n_conv_per_stage": 2,
            "num_classes": 3,
            "n_conv_per_stage_decoder": 2,
            "conv_bias": True,
            "norm_op": "$torch.nn.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "$torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
    }


def stages_for(patch: int) -> int:
    """Return the stages that nnU-Net plans: it halves while at least four voxels are left."""
    stages = 1 + next(n for n in itertools.count() if patch >> (n + 1) < 4 or patch % 2 ** (n + 1))
    return min(stages, len(FEATURES))


def overlays(patch: int) -> dict[str, Ids]:
    """Return the networks of the overlays by their class, DynUNet with the stages for the patch."""
    import yaml

    found: dict[str, Ids] = {}
    for file in sorted((installed_bundle() / "configs" / "networks").glob("*.yaml")):
        network = yaml.safe_load(file.read_text())["network_def"]
        if network["_target_"] == "DynUNet":
            for name in ("kernel_size", "strides", "filters"):
                network[name] = network[name][: stages_for(patch)]
            network["upsample_kernel_size"] = network["strides"][1:]
            network["deep_supr_num"] = min(network["deep_supr_num"], stages_for(patch) - 2)
        smallest = {"patch_size": [max(patch, 64)] * 3} if network["_target_"] == "SwinUNETR" else {}
        found[f"{network['_target_']} ({file.name})"] = {"network_def": network, **smallest}
    return found


def segresnet() -> Ids:
    """Return the network of the zoo's bundle."""
    return {
        "network_def": {
            "_target_": "SegResNet",
            "init_filters": 16,
            "in_channels": 4,
            "out_channels": 3,
            "blocks_down": [1, 2, 2, 4],
            "blocks_up": [1, 1, 1],
            "dropout_prob": 0.2,
        }
    }


def contenders(comparison: str, patch: int, batch: int) -> dict[str, Ids]:
    """Return name -> the ids that differ from ``train.yaml``."""
    if comparison == "networks":
        found = {"brats3d, U-Net 16-256": {}, "MONAI zoo, SegResNet": segresnet()}
        if importlib.util.find_spec("dynamic_network_architectures"):
            found["nnU-Net, PlainConvUNet"] = nnunet(patch)
        return found
    if comparison == "overlays":
        return {"UNet (default)": {}, **overlays(patch)}
    if comparison == "speedrun":
        return {"speedrun": SPEEDRUN}
    focal = {"_target_": "monai.losses.DiceFocalLoss", "sigmoid": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    return {
        "default": {},
        "DiceLoss alone (bce_weight 0)": {"bce_weight": 0.0},
        "bce_weight 0.3": {"bce_weight": 0.3},
        "bce_weight 3": {"bce_weight": 3.0},
        "batch Dice": {"loss#batch": True, "batch_size": max(2, batch)},
        **({"batches of two": {"batch_size": 2}} if batch == 1 else {"batches of one": {"batch_size": 1}}),
        "focal loss instead of cross-entropy": {"loss": focal},
        f"patches of {patch * 2 // 3}³": {"patch_size": [patch * 2 // 3] * 3, "window": [patch * 2 // 3] * 3},
        "widths 12-192": unet((12, 24, 48, 96, 192)),
        "widths 24-256": unet((24, 48, 96, 192, 256)),
        "three halvings, 16-128": unet((16, 32, 64, 128)),
        "deep supervision": {"deep_supervision": True},
    }


class DeepSupervision(torch.nn.Module):
    """The U-Net with deep supervision: in training it also computes upsampled logits of lower scales.

    The scales are the outputs of the decoder's upsampling layers, each with its own 1x1x1 convolution (Isensee et al.,
    nnU-Net, Nature Methods 2021, halve their weight from scale to scale and omit the lowest).
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.heads = torch.nn.ModuleList()
        self._seen: list[torch.Tensor] = []
        layer = network.model[1].submodule  # the level below the first skip connection
        while isinstance(layer, torch.nn.Sequential) and len(self.heads) < 2:
            width = layer[2][0].conv.out_channels
            self.heads.append(torch.nn.Conv3d(width, 3, 1))
            layer[2].register_forward_hook(lambda _, __, out: self._seen.append(out))
            layer = layer[1].submodule
        self.lower: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, 3, H, W, D); those of the lower scales are stored in ``lower``."""
        self._seen.clear()
        out = self.network(x)
        if self.training:
            maps = sorted(self._seen, key=lambda each: -each.shape[-1])
            self.lower = [
                torch.nn.functional.interpolate(head(each), size=x.shape[2:], mode="trilinear")
                for head, each in zip(self.heads, maps, strict=True)
            ]
        self._seen.clear()
        return out


class DeepLoss(torch.nn.Module):
    """The weighted mean of a loss over all scales, with weights 1, 1/2, 1/4."""

    def __init__(self, loss: torch.nn.Module, network: DeepSupervision) -> None:
        super().__init__()
        self.loss = loss
        self._network = [network]  # in a list, so that it is not a submodule

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the scalar loss."""
        total, weights = self.loss(logits, target), 1.0
        for scale, lower in enumerate(self._network[0].lower, 1):
            total = total + self.loss(lower.float(), target) / 2**scale
            weights += 1 / 2**scale
        return total / weights


def train(data: Path, ids: Ids, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train once in this process, and return scores and sizes."""
    from ignite.engine import Events

    from brats3d.postprocessing import ApplyRegionRulesd, RegionRules
    from brats3d.training import FollowSchedule, TimedSchedule

    ids = {"patch_size": [options.patch] * 3, "batch_size": options.batch, **ids}
    deep = ids.pop("deep_supervision", False)
    torch.set_num_threads(options.threads)
    config = _train_yaml()
    handlers = [h for h in config["train"]["handlers"] if h["_target_"].endswith("PlaceSampler")]
    device = options.device
    if deep:
        ids |= {
            "deep": {"_target_": "equal_minutes.DeepSupervision", "network": "@network_def"},
            "network": "$@deep.to(device=@device, memory_format=torch.channels_last_3d)",
            "plain_loss": {"_target_": "brats3d.networks.loss.DiceBCELoss"},
            "loss": {"_target_": "equal_minutes.DeepLoss", "loss": "@plain_loss", "network": "@deep"},
        }
    workflow = workflow_of(
        "train",
        dataset_dir=str(data),
        output_dir=str(options.folder / "run"),
        device=f"$torch.device('{device}')",
        epochs=10**6,
        val_interval=10**6,
        full_every=0,
        seed=seed,
        cache=0.3,
        cache_dir=None,
        **{"train#handlers": handlers, "validate#handlers": []},
        **ids,
    )
    workflow.initialize()
    trainer, evaluator = workflow.trainer, workflow.evaluator
    for engine in (trainer, evaluator):
        engine.data_loader.dataset.fill(1)
    parser = workflow.parser
    clock = time.process_time if options.clock == "processor" else time.monotonic
    schedule = TimedSchedule(options.minutes, parser.get_parsed_content("learning_rate"), 0.05, now=clock)
    FollowSchedule(schedule, parser.get_parsed_content("optimizer"), evaluator).attach(trainer)
    losses: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    trainer.run()
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak_kib() / 2**10
    dice = score(evaluator)
    by_network = statistics.mean(dice.values())
    if options.comparison == "speedrun":
        post = parser.get_parsed_content("validate#postprocessing")
        rules = ApplyRegionRulesd("pred", RegionRules(**SPEEDRUN_RULES))
        post.transforms = (*post.transforms, rules)
        dice = score(evaluator)
    if by_windows := options.comparison == "overlays" and seed == 0:
        evaluator.inferer.window = list(ids["patch_size"])
    steps = trainer.state.iteration
    return {
        **({"windows": statistics.mean(score(evaluator).values())} if by_windows else {}),
        "peak_mib": peak,
        "dice": dice,
        "mean": statistics.mean(dice.values()),
        "by_network": by_network,
        "steps": steps,
        "patches": steps * int(ids["batch_size"]),
        "voxels": steps * int(ids["batch_size"]) * ids["patch_size"][0] ** 3,
        "loss": statistics.mean(losses[-50:]),
        "parameters": sum(p.numel() for p in workflow.network_def.parameters()),
    }


def score(evaluator: Any) -> dict[str, float]:
    """Return the mean Dice of each region on the held-out cases."""
    evaluator.run()
    scores = evaluator.state.metric_details["val_mean_dice"]
    return {region: statistics.mean(row.dice for row in scores if row.region == region) for region in REGIONS}


def _train_yaml() -> dict[str, Any]:
    import yaml

    from brats3d.bundle import config_files

    return yaml.safe_load(config_files("train")[0].read_text())


def _network_def() -> Ids:
    return _train_yaml()["network_def"]


def write_cases(folder: Path, options: argparse.Namespace) -> Path:
    """Generate training and held-out phantoms once, with a datalist in which the held-out ones are fold 0."""
    data = folder / f"{options.cases}_{options.size}_{options.setting}_{options.seed}"
    if (data / "datalist.json").is_file():
        return data
    write_phantoms(data, options.cases + HELD_OUT, seed=options.seed, size=options.size, setting=options.setting)
    from brats3d.cases import load_fold

    items = [item for part in ("training", "validation") for item in load_fold(data, part)]
    items.sort(key=lambda item: item["case_id"])
    entries = [
        {
            "image": [str(Path(p).relative_to(data)) for p in item["image"]],
            "label": str(Path(item["label"]).relative_to(data)),
            "fold": int(index < options.cases),
        }
        for index, item in enumerate(items)
    ]
    write_json(data / "datalist.json", {"training": entries})
    return data


def spread(values: list[float]) -> str:
    """Format the mean and, for several values, the range."""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("comparison", choices=["networks", "recipes", "overlays", "speedrun"])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--size", choices=["full", "small"], default="full")
    parser.add_argument("--setting", default="plain")
    parser.add_argument("--seed", type=int, default=4, help="seed of the phantoms")
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", type=int, default=1, help="number of trainings in parallel")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("runs/equal_minutes"))
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    speedrun = options.comparison == "speedrun"
    options.clock = "processor" if options.device == "cpu" and not speedrun else "wall"
    all_ = contenders(options.comparison, options.patch, options.batch)
    if options.train:
        data = write_cases(options.folder, options)
        print(json.dumps(train(data, all_[options.train], options, options.start)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    write_cases(options.folder, options)
    chosen = options.only or list(all_)
    jobs = [(name, seed) for seed in range(options.seeds) for name in chosen]

    def one(job: tuple[str, int]) -> dict[str, Any]:
        name, seed = job
        data = f"{options.cases}_{options.size}_{options.setting}_{options.seed}"
        recipe = repr((all_[name], SPEEDRUN_RULES) if speedrun else all_[name])
        what = f"{options.device}_{options.threads}_{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
        key = f"{data}_{options.patch}_{options.batch}_{options.minutes:g}_{what}_{name}_{seed}"
        kept = options.folder / f"{key.replace('/', '-')}.json"
        if not kept.is_file():
            command = [sys.executable, __file__, *sys.argv[1:], "--train", name, "--start", str(seed)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            result = json.loads(done.stdout.splitlines()[-1])
            write_json(kept, {**result, "with": describe(options.device, options.threads)})
        found = json.loads(kept.read_text())
        if f"({COMMIT})" not in found["with"]:
            others.append(found["with"])
        print(f"{name}, seed {seed}: mean Dice {found['mean']:.3f} after {found['steps']} steps", flush=True)
        return found

    others: list[str] = []
    with ThreadPoolExecutor(options.side) as pool:
        found = dict(zip(jobs, pool.map(one, jobs), strict=True))
    cells: list[list[object]] = []
    for name in chosen:
        runs = [found[name, seed] for seed in range(options.seeds)]
        cells.append(
            [
                name,
                runs[0]["parameters"] / 1e6,
                statistics.mean(each["patches"] for each in runs) / (60 * options.minutes),
                statistics.mean(each["voxels"] for each in runs) / (60 * options.minutes) / 1e6,
                *(spread([each["dice"][region] for each in runs]) for region in REGIONS),
                spread([each["mean"] for each in runs]),
            ]
        )
        if options.comparison == "overlays":
            sizes = [round(statistics.mean(each["steps"] for each in runs)), max(e["peak_mib"] for e in runs) / 2**10]
            cells[-1] += [runs[0]["windows"], *sizes]
        if speedrun:
            cells[-1].append(spread([each["by_network"] for each in runs]))
    header = ["", "parameters, million", "patches/s", "million voxels/s", *REGIONS, "mean Dice"]
    if options.comparison == "overlays":
        header += ["mean Dice, windows", "steps", "peak memory, GiB"]
    if speedrun:
        header.append("without post-processing")
    what = "processor minutes" if options.clock == "processor" else "minutes"
    settings = f"batch size {options.batch}, patches of {options.patch}³"
    if speedrun:
        settings = ", ".join(f"{id_} {value}" for id_, value in SPEEDRUN.items())
    title = (
        f"{options.comparison.capitalize()} at equal minutes: {options.minutes:g} {what} each, {options.device}, "
        f"{options.cases} + {HELD_OUT} {options.size} {options.setting} phantoms of seed {options.seed}, {settings}, "
        f"seeds 0 to {options.seeds - 1}"
    )
    if others:
        title += f"; {len(others)} of {len(jobs)} results are from earlier runs: {'; '.join(sorted(set(others)))}"
    threads = options.threads if options.device == "cpu" else None
    page = "speedrun" if speedrun else "recipes"
    show(page, title, rows(header, cells), options.record, options.device, threads)


if __name__ == "__main__":
    main()
