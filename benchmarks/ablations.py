"""Measure the worth of steps of the generator: train with and without them, and score the weights without real cases.

    python benchmarks/ablations.py DIR [--groups contrast tumours ...] [--forms without with] [--patches 600]
        [--patch_size 128 128 128] [--seed 0] [--checkpoint FILE] [--learning_rate 0.0003] [--device cpu]
        [--cache DIR] [--untrained N] [--list] [--record]

A group is one of GROUPS, or a field in which the settings ``wide`` and ``varied`` differ. All trainings start from the
same weights (the shipped ones by default) and see the same number of patches: one on ``varied``, one on ``wide``, and
for each group one on ``wide`` without it and one on ``varied`` with it, or only one of these (``--forms``). Each has a
folder in DIR with its weights and scores. Run the same command again to resume: what is done is skipped. The scores are
those of ``selection.py``.

With ``--untrained N``, nothing is trained: the weights themselves are scored on N cases of each setting. A group that
costs them nothing has nothing to teach them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from ignite.engine import Events
from machine import rows, show
from selection import CACHE, SETS, Scores, make_case, predictor_of, score_prediction, score_weights, table

from brats3d.bundle import config_files, installed_bundle
from brats3d.evaluation import ScoreRow
from brats3d.phantoms import SETTINGS, Setting

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "contrast": ("random_contrast", "class_spread", "relaxation", "self_texture"),
        "tumours": (
            *("small_core", "satellites", "edema_shift", "thin_rim", "nodule", "uneven_edema", "uneven_uptake"),
            *("swirl", "fingers_mm", "coreless", "core_like", "resected", "contrasts.weak_uptake"),
        ),
        "labels": ("edema_fade", "margin_fade", "least_contrast", "least_uptake"),  # which follow what shows
        "scanner": ("misregistered", "all_thick", "slice_gap_mm", "slice_tilt", "partial"),
        "anatomy": ("rigid_rotation_deg", "bend_mm", "atrophic"),
    }
)
"""Fields of the setting by group. A field that is missing here can be named by itself."""


FORMS: Mapping[str, tuple[str, str]] = MappingProxyType({"without": ("wide", "varied"), "with": ("varied", "wide")})
"""For each form of a group's training, the setting that is changed, and the one whose values it gets."""


def steps_of_wide() -> list[str]:
    """Return the fields in which ``wide`` differs from ``varied``; those of its contrasts as ``contrasts.NAME``."""
    wide, varied = SETTINGS["wide"], SETTINGS["varied"]
    names = [field.name for field in fields(Setting) if field.name != "contrasts"]
    names += [f"contrasts.{field.name}" for field in fields(wide.contrasts)]
    return [name for name in names if _get(wide, name) != _get(varied, name)]


def fields_of(group: str) -> list[str]:
    """Return the fields of a group in which ``wide`` and ``varied`` differ."""
    return [name for name in steps_of_wide() if name in GROUPS.get(group, (group,))]


def exchange(setting: Setting, source: Setting, names: Iterable[str]) -> Setting:
    """Return a setting with the values of another one in some fields."""
    for name in names:
        first, _, inner = name.partition(".")
        value = getattr(source, first)
        if inner:
            value = replace(getattr(setting, first), **{inner: getattr(value, inner)})
        setting = replace(setting, **{first: value})
    return setting


def settings_of(groups: Iterable[str], forms: Iterable[str] = tuple(FORMS)) -> dict[str, Setting]:
    """Return the settings to train on, by name."""
    settings = {"varied": SETTINGS["varied"], "wide": SETTINGS["wide"]}
    for group, form in itertools.product(groups, forms):
        changed, source = FORMS[form]
        settings[f"{changed} {form} {group}"] = exchange(SETTINGS[changed], SETTINGS[source], fields_of(group))
    return settings


def train(folder: Path, setting: Setting, options: argparse.Namespace) -> None:
    """Train in a folder; write ``seconds.json``, and last ``weights.pt``, a plain state dict."""
    from monai.bundle import ConfigWorkflow

    ids: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "checkpoint": str(options.checkpoint),
        "minutes": options.patches,  # the clock below advances by a minute with each patch
        "learning_rate": options.learning_rate,
        "train#dataset#setting": setting,
        "patch_size": options.patch_size,
        "patch_mix": [1, 0, 0],
        "batch_size": 1,
        "val_cases": 1,
        "val_interval": 1_000_000,
        "device": f"$torch.device({options.device!r})",
        "seed": options.seed,
    }
    workflow = ConfigWorkflow(
        config_file=[str(file) for file in config_files("pretrain")],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(installed_bundle()),
        **ids,
    )
    workflow.initialize()
    parsed = workflow.parser.get_parsed_content
    schedule, trainer, stream = parsed("lr_scheduler"), parsed("train#trainer"), parsed("train#dataset")
    schedule.stopwatch.now = lambda: 60 * trainer.state.iteration
    times = [time.perf_counter()]  # start, and end of each step
    trainer.add_event_handler(Events.STARTED, lambda: times.__setitem__(0, time.perf_counter()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: times.append(time.perf_counter()))
    workflow.run()
    content = torch.load(folder / "run" / "checkpoints" / "best.pt", weights_only=True)
    seconds = {"patches": len(times) - 1, "seconds": times[-1] - times[0], "generator": stream.seconds_making}
    (folder / "seconds.json").write_text(json.dumps(seconds))
    torch.save(content, folder / "weights.part")
    (folder / "weights.part").replace(folder / "weights.pt")


def run(name: str, setting: Setting, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, list[ScoreRow]]]:
    """Train and score, except for what the run's folder has already; return times and scores."""
    folder = options.folder / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    timing, scores = folder / "seconds.json", folder / "scores.json"
    if not (folder / "weights.pt").exists():
        train(folder, setting, options)
    content = json.loads(scores.read_text()) if scores.exists() else {}
    if missing := [name for name in options.sets if name not in content]:
        made = score_weights(folder / "weights.pt", missing, options.cache)
        content |= {name: [row.to_json() for row in rows_] for name, rows_ in made.items()}
        scores.write_text(json.dumps(content))
    read = {name: [ScoreRow(**row) for row in content[name]] for name in options.sets}
    return json.loads(timing.read_text()), read


def score_untrained(weights: Path, settings: Mapping[str, Setting], count: int) -> dict[str, Scores]:
    """Score weights on the same cases of each setting; return name -> ``{"cases": rows}``."""
    predict = predictor_of(weights)
    scores: dict[str, Scores] = {}
    for name, setting in settings.items():
        rows_: list[ScoreRow] = []
        for number in range(count):
            case = make_case(setting, number)
            rows_ += score_prediction(predict, case["image"].float(), case["label"], f"{number:02d}")
        scores[name] = {"cases": rows_}
    return scores


def _get(setting: Setting, name: str) -> Any:
    first, _, inner = name.partition(".")
    value = getattr(setting, first)
    return getattr(value, inner) if inner else value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--groups", nargs="*", default=list(GROUPS))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--patches", type=int, default=600)
    parser.add_argument("--patch_size", type=int, nargs=3, default=[128, 128, 128])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=installed_bundle() / "models" / "model.pt")
    parser.add_argument("--learning_rate", type=float, default=0.0003)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", help="of the trainings; scores are computed on the CPU")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS), help="none: train, but do not score")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--untrained", type=int, metavar="N", help="number of cases; train nothing")
    parser.add_argument("--list", action="store_true", help="print the fields of each group and stop")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    groups = {group: fields_of(group) for group in options.groups}
    if empty := [group for group, names in groups.items() if not names]:
        parser.error(
            f"wide and varied do not differ in {', '.join(empty)}; they differ in {', '.join(steps_of_wide())}"
        )
    if options.list:
        alone = [name for name in steps_of_wide() if not any(name in names for names in GROUPS.values())]
        print("\n".join(f"{group}: {', '.join(names)}" for group, names in [*groups.items(), ("no group", alone)]))
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.untrained:
        settings = settings_of(options.groups, ["with"])
        scores = score_untrained(options.checkpoint, settings, options.untrained)
        title = f"{options.checkpoint.name} on {options.untrained} cases of each setting"
        show("weights", title, table(scores), options.record, "cpu")
        return
    scores = {"start": score_weights(options.checkpoint, options.sets, options.cache)}
    cells: list[list[object]] = []
    for name, setting in settings_of(options.groups, options.forms).items():
        times, scores[name] = run(name, setting, options)
        cells.append([name, times["patches"] / times["seconds"], times["seconds"], times["generator"]])
    size = "x".join(map(str, options.patch_size))
    title = f"Ablations, {options.patches} patches of {size}, seed {options.seed}, after {options.checkpoint.name}"
    speed = rows(["training on", "patches/s", "seconds", "of these, in the generator"], cells)
    show("weights", title, [*table(scores), "", *speed], options.record, "cpu")


if __name__ == "__main__":
    main()
