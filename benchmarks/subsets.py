"""Dice of weights on labelled cases: with all sequences, with mirroring, and for each subset of the sequences.

    python benchmarks/subsets.py [DIR] [--checkpoint FILE] [--flips] [--cases 8 --seed 7] [--subsets all|first|none]

DIR is a folder of labelled BraTS cases, of which the first ``--cases`` are used; without DIR, as many full-size
phantoms are generated. Cases are prepared, segmented and scored as in the validation of ``train.yaml``, at the patch
size of the weights. Each case is read once; an absent sequence is a channel of zeros, as in ``predict``. ``--subsets
first`` compares only T1+T2+FLAIR with all sequences. ``--record`` is for phantoms only.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import rows, show
from monai.bundle import ConfigParser

from brats3d.bundle import config_files, installed_bundle
from brats3d.cases import case_to_item, find_cases, header_problems, with_convention
from brats3d.data import CaseDataset, labels_to_regions, nest_regions, subsets
from brats3d.errors import DataError
from brats3d.evaluation import ScoreRow, group_by_case, score_case, summarise
from brats3d.labels import REGIONS, REGIONS_TO_READ, get_convention
from brats3d.networks import autocast, load_weights, read_checkpoint
from brats3d.phantoms import write_phantoms

FIRST = ("t1", "t2", "flair")
ALL, FLIPPED = "all", "all, flips"


class Pipeline:
    """The validation of ``train.yaml`` with given weights.

    Args:
        checkpoint: the weights; their card has the sequences and the patch size.
        device: device of the network; None uses that of the config.
    """

    def __init__(self, checkpoint: str, device: str | None) -> None:
        card = read_checkpoint(checkpoint)[1]
        self.modalities = tuple(card["modalities"])
        config = ConfigParser()
        config.read_config([str(file) for file in config_files("train")])
        config["modalities"] = list(self.modalities)
        config["patch_size"] = card.get("patch_size", config["patch_size"])
        if device:
            config["device"] = f"$torch.device({device!r})"
        self.device, self.amp = config.get_parsed_content("device"), config.get_parsed_content("amp")
        self.network = config.get_parsed_content("validate#network").eval()
        load_weights(config.get_parsed_content("network_def"), checkpoint, self.modalities)
        self.transform = config.get_parsed_content("validate#preprocessing")
        self.inferer = config.get_parsed_content("validate#inferer")

    @torch.no_grad()
    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits (3, H, W, D) of an image (C, H, W, D)."""

        def window(part: torch.Tensor) -> torch.Tensor:
            with autocast(part.device, self.amp):
                return self.network(part).float()

        return self.inferer(image[None].to(self.device), window)[0]

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Segment an image (C, H, W, D) into regions (3, H, W, D)."""
        return self.logits(image) > 0

    def segment_flipped(self, image: torch.Tensor) -> torch.Tensor:
        """Segment from the mean probability of the image and its seven mirror images."""
        probs = torch.zeros(len(REGIONS), *image.shape[1:], device=self.device)
        for axes in (axes for n in range(4) for axes in itertools.combinations((1, 2, 3), n)):
            probs += self.logits(image.flip(axes)).sigmoid().flip(axes)
        return probs > 4  # of 8


def score(
    pipeline: Pipeline, item: Mapping[str, Any], settings: Mapping[str, Sequence[str]], flips: bool
) -> dict[str, list[ScoreRow]]:
    """Score one case with each setting: name of the setting -> rows.

    Args:
        pipeline: network and transforms.
        item: the datalist item.
        settings: name -> present sequences.
        flips: also score all sequences with mirroring.
    """
    case = CaseDataset([item], pipeline.transform)[0]
    image, spacing_mm = case["image"].as_tensor(), case["image"].pixdim.tolist()
    ref = labels_to_regions(case["label"].as_tensor(), get_convention("brats2020")).to(pipeline.device)
    scores = {}
    for name, present in settings.items():
        kept = torch.tensor([m in present for m in pipeline.modalities])
        pred = nest_regions(pipeline.segment(image * kept[:, None, None, None]))
        scores[name] = score_case(pred, ref, item["case_id"], spacing_mm)
        if name == ALL and flips:
            pred = nest_regions(pipeline.segment_flipped(image))
            scores[FLIPPED] = score_case(pred, ref, item["case_id"], spacing_mm)
    return scores


def subsets_of(modalities: Sequence[str], which: str) -> dict[str, tuple[str, ...]]:
    """Return name -> sequences: all of them, then the requested subsets from large to small."""
    chosen = sorted(subsets(modalities), key=len, reverse=True)
    chosen = [s for s in chosen[1:] if which == "all" or (which == "first" and s == FIRST)]
    return {ALL: tuple(modalities), **{"+".join(s): s for s in chosen}}


def case_table(scores: Mapping[str, Sequence[ScoreRow]], names: Sequence[str]) -> list[str]:
    """One line for each case and the means, for each setting; ``false ET`` is where the reference has none."""
    cells = []
    for name in names:
        for case_id, regions in group_by_case(scores[name]).items():
            cells.append([case_id, name, *_cells(list(regions.values()))])
        cells.append(["**mean**", name, *_cells(scores[name])])
    return rows(["case", "sequences", *_COLUMNS], cells)


def subset_table(scores: Mapping[str, Sequence[ScoreRow]], names: Sequence[str]) -> list[str]:
    """One line for each subset: the means over the cases, and their difference from those of all sequences."""
    summaries = {name: summarise(scores[name]) for name in names}
    cells = [
        [name, *_cells(scores[name])]
        + [f"{summaries[name][region].dice - summaries[ALL][region].dice:+.3f}" for region in REGIONS_TO_READ]
        for name in names
    ]
    return rows(["sequences", *_COLUMNS, *(f"{region} against all" for region in REGIONS_TO_READ)], cells)


_COLUMNS = [*REGIONS_TO_READ, "ET where present", "false ET, ml"]


def _cells(scores: Sequence[ScoreRow]) -> list[str]:
    summary = summarise(scores)
    et = summary["ET"]
    more = (et.dice_present, "{:.3f}"), (et.false_volume_ml, "{:.2f}")
    return [f"{summary[region].dice:.3f}" for region in REGIONS_TO_READ] + [
        "" if value is None else text.format(value) for value, text in more
    ]


def _items(folder: str, modalities: Sequence[str], convention: str | None, cases: int | None) -> list[dict[str, Any]]:
    found, _ = with_convention(find_cases(folder, modalities, require_label=True)[:cases], convention)
    if problems := [problem for case in found for problem in header_problems(case)]:
        raise DataError.of_many(folder, problems)
    return [case_to_item(case) for case in found]


def measure(folder: str, options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """Return titles and tables; print one line for each case."""
    pipeline = Pipeline(options.checkpoint, options.device)
    items = _items(folder, pipeline.modalities, options.label_convention, options.cases)
    settings = subsets_of(pipeline.modalities, options.subsets)
    scores: dict[str, list[ScoreRow]] = {}
    for item in items:
        start = time.perf_counter()
        of_case = score(pipeline, item, settings, options.flips)
        for name, rows_ in of_case.items():
            scores.setdefault(name, []).extend(rows_)
        text = "  ".join(f"{row.region} {row.dice:.3f}" for row in of_case[ALL])
        print(f"{item['case_id']}  {text}  ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    tables = [("Dice, case by case", case_table(scores, [ALL, FLIPPED] if options.flips else [ALL]))]
    if len(settings) > 1:
        tables.append(("Dice of subsets of the sequences", subset_table(scores, list(settings))))
    return tables


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", metavar="DIR")
    parser.add_argument("--checkpoint", default=str(installed_bundle() / "models" / "model.pt"))
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--cases", type=int)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--subsets", choices=["all", "first", "none"], default="all")
    parser.add_argument("--label-convention")
    parser.add_argument("--device")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.record and options.folder:
        parser.error("--record: only tables of phantoms are recorded; omit DIR")
    logging.getLogger("monai").setLevel(logging.ERROR)
    if options.folder:
        tables, what = measure(options.folder, options), Path(options.folder).name
    else:
        with tempfile.TemporaryDirectory() as folder:
            cases = options.cases or 8
            write_phantoms(folder, cases, seed=options.seed)
            tables, what = measure(folder, options), f"{cases} phantoms of seed {options.seed}"
    for title, table in tables:
        show("weights", f"{title}: {what}", table, options.record)


if __name__ == "__main__":
    main()
