"""Our scores agree with the BraTS 2023 challenge's own script.

``brats2023_scores.json`` beside this file holds the scores that https://github.com/rachitsaluja/BraTS-2023-Metrics
computed for the pairs that :func:`make_pair` makes. The script was run outside this repository, on labels of BraTS 2023
(it sets 4, ET in BraTS 2020, to 0), with ``DataFrame.append`` restored, which pandas has removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from brats3d.data.label_transforms import labels_to_regions
from brats3d.evaluation.case_scores import score_case
from brats3d.evaluation.challenge_rules import get_rules
from brats3d.labels import BRATS2020
from brats3d.phantoms.phantom import make_phantom

FILE = Path(__file__).with_name("brats2023_scores.json")
CHALLENGES = {"BraTS-GLI": "brats2023", "BraTS-MEN": "brats2023-men", "BraTS-MET": "brats2023-met"}

Pair = tuple[np.ndarray, np.ndarray]


def shifted(label: np.ndarray, *steps: int) -> np.ndarray:
    return np.roll(label, steps, (0, 1, 2))


def at_border(label: np.ndarray) -> np.ndarray:
    """Shift until it touches the first voxels of every axis."""
    return shifted(label, *(-int(axis.min()) for axis in label.nonzero()))


def cut(label: np.ndarray, width: int) -> np.ndarray:
    """Remove a slab through the middle of the tumour."""
    out, middle = label.copy(), int(label.nonzero()[0].mean())
    out[middle : middle + width] = 0
    return out


def speckled(label: np.ndarray, rng: np.random.Generator, specks: int) -> np.ndarray:
    """Add cubes of 1 to 64 voxels of any label, anywhere."""
    out = label.copy()
    for _ in range(specks):
        x, y, z = (int(rng.integers(n - 4)) for n in label.shape)
        edge = int(rng.integers(1, 5))
        out[x : x + edge, y : y + edge, z : z + edge] = rng.choice([1, 2, 4])
    return out


def one_voxel(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros_like(label)
    out[tuple(int(rng.integers(n)) for n in label.shape)] = rng.choice([1, 2, 4])
    return out


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]] = {
    "moved": lambda a, b, rng: (shifted(a, *rng.integers(-3, 4, 3)), a),
    "another tumour": lambda a, b, rng: (b, a),
    "empty": lambda a, b, rng: (a * 0, a * 0),
    "no enhancement": lambda a, b, rng: (np.where(a == 4, 1, a), a),
    "enhancement alone": lambda a, b, rng: (a * (a == 4), a),
    "missed": lambda a, b, rng: (a * 0, a),
    "spurious": lambda a, b, rng: (a, a * 0),
    "spurious too": lambda a, b, rng: (speckled(a, rng, 4), a),
    "split in prediction": lambda a, b, rng: (cut(a, int(rng.integers(1, 9))), a),
    "split in reference": lambda a, b, rng: (a, cut(a, int(rng.integers(1, 9)))),
    "merged": lambda a, b, rng: (cut(np.maximum(a, a[::-1]), 1), cut(np.maximum(a, a[::-1]), 9)),
    "at the border": lambda a, b, rng: (shifted(at_border(a), 0, 1, 0), at_border(a)),
    "across the border": lambda a, b, rng: (shifted(at_border(a), -3, 0, 2), at_border(a)),
    "one voxel": lambda a, b, rng: (one_voxel(a, rng), one_voxel(a, rng)),
    "one voxel of a tumour": lambda a, b, rng: (one_voxel(a, rng), a),
    "specks": lambda a, b, rng: (speckled(a * 0, rng, 8), speckled(a * 0, rng, 8)),
    "specks about a tumour": lambda a, b, rng: (speckled(a, rng, 8), speckled(a, rng, 8)),
}
SEEDS = (0, 1, 2)


@cache
def tumour(seed: int) -> np.ndarray:
    return make_phantom(seed, "small", setting="plain").label


def make_pair(kind: str, seed: int) -> Pair:
    """Return prediction and reference, uint8 (48, 48, 40) with BraTS 2020's labels."""
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    pred, ref = KINDS[kind](tumour(seed), tumour(seed + 100), rng)
    return np.ascontiguousarray(pred, np.uint8), np.ascontiguousarray(ref, np.uint8)


def test_the_file_has_every_kind_and_seed():
    rows = json.loads(FILE.read_text())
    assert {(row["kind"], row["seed"]) for row in rows} == {(kind, seed) for kind in KINDS for seed in SEEDS}
    assert {row["challenge"] for row in rows} == set(CHALLENGES)
    assert len(rows) >= 30


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_agree_with_the_challenge(kind, challenge):
    expected = [row for row in json.loads(FILE.read_text()) if (row["kind"], row["challenge"]) == (kind, challenge)]
    for row in expected:
        pred, ref = (labels_to_regions(torch.from_numpy(x)[None], BRATS2020) for x in make_pair(kind, row["seed"]))
        for ours in score_case(pred, ref, kind, (1, 1, 1), get_rules(CHALLENGES[challenge])):
            theirs = row["regions"][ours.region]
            assert ours.dice == pytest.approx(theirs["Legacy_Dice"], abs=1e-6)
            assert ours.hd95_mm == pytest.approx(theirs["Legacy_HD95"], abs=1e-4)
            assert ours.lesion_dice == pytest.approx(theirs["LesionWise_Score_Dice"], abs=1e-6)
            assert ours.lesion_hd95_mm == pytest.approx(theirs["LesionWise_Score_HD95"], abs=1e-4)
            assert ours.sensitivity == pytest.approx(theirs["Sensitivity"], abs=1e-6)
            assert ours.specificity == pytest.approx(theirs["Specificity"], abs=1e-6)
            assert ours.ref_volume_ml == pytest.approx(theirs["GT_Complete_Volume"] / 1000)
            counts = (ours.lesions_found, ours.lesions_spurious, ours.lesions_missed)
            assert counts == (theirs["Num_TP"], theirs["Num_FP"], theirs["Num_FN"])
